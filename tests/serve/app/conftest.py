"""The routes as vLLM mounts them, over a client that computes what vLLM would; only the server around is missing."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from whereupon.config import Config
from whereupon.tests.serve.local_client import LocalClient


@pytest.fixture
def start(town_copy: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Any]:
    """Start the routes for a configuration with some settings: gives a test client, with `engine` and `config`."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    clients: list[Any] = []

    def start(*overrides: str, config: Config | None = None) -> Any:
        from vllm.entrypoints.serve.exception_handling.register import init_exception_handler

        from whereupon.serve.app.plugin import VARIABLE, Endpoints

        config = config or town_copy(*overrides)
        (tmp_path / "serve.json").write_text(config.model_dump_json(), encoding="utf-8")
        monkeypatch.setenv(VARIABLE, str(tmp_path / "serve.json"))
        app, engine, plugin = FastAPI(), LocalClient(config), Endpoints()
        init_exception_handler(app)
        plugin.attach_router(app)
        client = TestClient(app, raise_server_exceptions=False).__enter__()
        clients.append(client)
        assert client.get("/health").status_code == 503
        client.portal.call(plugin.init_state, engine, app.state, Namespace())
        client.engine, client.config = engine, config
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)
        assert client.app.state.whereupon_following.cancelled(), "the server looks no more at its run folder"
    assert not list(tmp_path.rglob("*.sqlite-wal")), "the event store is closed with the server"


@pytest.fixture
def server(start: Any) -> Any:
    return start()
