"""Which key opens what, on an application without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from whereupon.serve.app.keys import Keys

QUERIES = [
    ("POST", "/v1/recommendations"), ("POST", "/v1/completions"), ("GET", "/v1/catalogues"),
    ("GET", "/v1/catalogues/town"), ("GET", "/v1/adapters"), ("POST", "/v1/events"),
    ("GET", "/v1/models"), ("POST", "/v2/rerank"),
]  # fmt: skip
ADMIN = [
    ("PUT", "/v1/catalogues/town"), ("POST", "/v1/catalogues/town/items"), ("DELETE", "/v1/catalogues/town/items"),
    ("GET", "/v1/events/p00"), ("DELETE", "/v1/users/p00"), ("POST", "/v1/adapters/promote"),
    ("POST", "/v1/adapters/rollback"),
]  # fmt: skip
OPEN = [("GET", "/health"), ("GET", "/metrics"), ("GET", "/docs"), ("OPTIONS", "/v1/recommendations")]
Ask = Callable[[str, str, str | None], Any]


def _client_of(query: str | None, admin: str | None) -> Ask:
    app = FastAPI(docs_url=None)

    @app.api_route("/{path:path}", methods=["GET", "PUT", "POST", "DELETE", "OPTIONS"])
    async def anything(request: Request) -> str:
        return "answered"

    app.add_middleware(Keys, query=query, admin=admin)
    client = TestClient(app)

    def ask(method: str, path: str, key: str | None) -> Any:
        return client.request(method, path, headers={"Authorization": f"Bearer {key}"} if key else {})

    return ask


def _statuses(ask: Ask, requests: list[tuple[str, str]], key: str | None) -> set[int]:
    return {ask(method, path, key).status_code for method, path in requests}


def test_each_key_opens_what_it_is_for() -> None:
    ask = _client_of("a5k", "adm1n")
    assert _statuses(ask, QUERIES, "a5k") == {200}
    assert _statuses(ask, ADMIN, "a5k") == {403}
    assert _statuses(ask, [*QUERIES, *ADMIN], "adm1n") == {200}
    for wrong in (None, "", "a5", "a5kk", "adm1"):
        assert _statuses(ask, [*QUERIES, *ADMIN], wrong) == {401}
        assert _statuses(ask, OPEN, wrong) == {200}


def test_only_key_opens_all() -> None:
    ask = _client_of("a5k", None)
    assert _statuses(ask, [*QUERIES, *ADMIN], "a5k") == {200}
    assert _statuses(ask, [*QUERIES, *ADMIN], None) == {401}


def test_with_an_admin_key_alone_queries_need_no_key() -> None:
    ask = _client_of(None, "adm1n")
    assert _statuses(ask, QUERIES, None) == {200}
    assert _statuses(ask, ADMIN, None) == {401}
    assert _statuses(ask, ADMIN, "adm1n") == {200}


def test_without_keys_everything_is_open() -> None:
    assert _statuses(_client_of(None, ""), [*QUERIES, *ADMIN, *OPEN], None) == {200}


@pytest.mark.parametrize("header", ["Basic a5k", "a5k", "Bearer", "Bearer  a5k", "bearer a5k x"])
def test_header_of_another_form_is_no_key(header: str) -> None:
    app = FastAPI()
    app.add_middleware(Keys, query="a5k", admin=None)
    assert TestClient(app).get("/v1/models", headers={"Authorization": header}).status_code == 401


def test_refusals_are_errors_as_openai_clients_know_them() -> None:
    ask = _client_of("a5k", "adm1n")
    for answer, status in ((ask("GET", "/v1/models", "x"), 401), (ask("GET", "/v1/events/p00", "a5k"), 403)):
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == (status, "invalid_request_error")
        assert error["message"].endswith(".")
        assert "a5k" not in answer.text
        assert "adm1n" not in answer.text
