"""Travellers between two airports, and a server for the town."""

import importlib
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from whereupon.config import Config, load_config
from whereupon.serve.launcher.merged import merged_weights
from whereupon.tests.serve.collector import Collector, collecting_by_grpc
from whereupon.tests.serve.processes import Server, serving


@pytest.fixture(scope="session")
def vllm_imported() -> None:
    """vLLM, imported quietly: it and what it imports warn of each other's deprecations, which is theirs to fix."""
    # torch imports setuptools, which insists on a distutils of its own where another test has imported Python's.
    os.environ.setdefault("SETUPTOOLS_USE_DISTUTILS", "stdlib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("vllm.entrypoints.openai.completion.api_router")


@pytest.fixture(scope="session")
def merged_run(barely_trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the tiny town with merged weights, which are found again in any copy of it. Never changed."""
    run = tmp_path_factory.mktemp("merged") / "town"
    shutil.copytree(barely_trained.parent / "run", run)
    with merged_weights(load_config(barely_trained, [f"run={run}"]), "float32"):
        return run


@pytest.fixture
def town_config(barely_trained: Path, merged_run: Path, tmp_path: Path) -> Callable[..., Config]:
    """The tiny town with merged weights, in a run folder of its own."""

    def town_config(*overrides: str) -> Config:
        run = tmp_path / "town"
        if not run.exists():
            shutil.copytree(merged_run, run)
        return load_config(barely_trained, [f"run={run}", "serve.port=0", *overrides])

    return town_config


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """What the server sends its traces to, over gRPC as vLLM does by itself."""
    with collecting_by_grpc() as found:
        yield found


@pytest.fixture(scope="session")
def served_town(
    barely_trained: Path, merged_run: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The one real server of most tests, called `town`: vLLM takes half a minute to start, or more."""
    run = tmp_path_factory.mktemp("served") / "town"
    shutil.copytree(merged_run, run)
    settings = ["serve.plain_routes=true", f"serve.traces={collector.url}"]
    with serving(barely_trained, run, settings, {"OTEL_BSP_SCHEDULE_DELAY": "200"}) as served:
        yield served
        assert served.stop(signal.SIGTERM) == 0
        assert served.left_after(10) == []


@pytest.fixture(scope="session")
def server(served_town: Server) -> str:
    """The URL of a real `whereupon serve` for the tiny town."""
    return served_town.url
