"""A batch on a Ray cluster of two machines, both of which are this one, and what is said where there is none."""

import contextlib
import functools
import importlib
import os
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.errors import ServerError
from whereupon.recommend import Recommender
from whereupon.recommend.context import RequestContext
from whereupon.recommend.recommender import Request
from whereupon.recommend.selection import RequestFilters
from whereupon.serve.batch import parts
from whereupon.serve.batch.answering import Engine, vllm_engine
from whereupon.serve.batch.on_ray import Answering
from whereupon.serve.batch.parts import Query
from whereupon.serve.batch.verb import recommend_all
from whereupon.tests.serve.light_engine import light_engine, values_alone
from whereupon.tests.serve.local_client import LocalClient

RAIN = RequestContext(weather="rain, 18 C")
STORE_BYTES = 80 * 2**20
# Ray gives up what does not answer within half a minute or so; a machine that does many things needs longer.
PATIENT_S = 900
PATIENCE = {
    "RAY_agent_register_timeout_ms": str(1000 * PATIENT_S),
    "RAY_worker_register_timeout_seconds": str(PATIENT_S),
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_health_check_failure_threshold": "100",
    "RAY_memory_monitor_refresh_ms": "0",  # what else a machine does is no reason to end workers
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """The address of a cluster of two machines with a CPU each."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # what Ray and its parts warn of each other is theirs to fix
        for name, value in PATIENCE.items():
            patch.setenv(name, value)
        cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
        services = importlib.import_module("ray._private.services")
        patch.setattr(services, "get_node", _patient(services.get_node))
        # Not below pytest's folders: the name of a socket has 107 characters at most.
        with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as scratch:
            patch.setenv("RAY_TMPDIR", scratch)  # in whose folder "ray" a node also writes its cluster's address
            head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
            cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
            try:
                cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
                cluster.wait_for_nodes()
                yield cluster.address
            finally:
                cluster.shutdown()


def _patient(asked: Callable[..., Any]) -> Callable[..., Any]:
    """A look-up that waits for what is not there yet: half a minute is built into Ray for the start of a node."""

    def patient(*given: Any) -> Any:
        deadline = time.monotonic() + PATIENT_S
        while True:
            try:
                return asked(*given)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    return patient


@pytest.fixture
def config(town_copy: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Config:
    """A run whose batches have parts of a single user."""
    monkeypatch.setattr(parts, "PART_USERS", 1)
    if "vllm" not in sys.modules:
        monkeypatch.setitem(sys.modules, "vllm", values_alone())
    return town_copy()


class Killed(LocalClient):
    """A client whose process is killed in the middle of its first part; `mark` is a file that is made then, once."""

    def __init__(self, config: Config, mark: Path) -> None:
        super().__init__(config)
        self.mark = mark

    async def generate(self, prompt: Any, sampling_params: Any, request_id: str) -> AsyncGenerator[Any, None]:
        if request_id == "whereupon-1-1":  # the search before it warms the engine up
            with contextlib.suppress(FileExistsError), self.mark.open("x"):
                os.kill(os.getpid(), signal.SIGKILL)
        async for output in super().generate(prompt, sampling_params, request_id):
            yield output


@contextlib.asynccontextmanager
async def killed_once(config: Config, mark: Path) -> AsyncIterator[LocalClient]:
    async with light_engine(config):
        yield Killed(config, mark)


@contextlib.asynccontextmanager
async def no_engine(config: Config) -> AsyncIterator[LocalClient]:
    raise ServerError("this machine has no engine")
    yield


def _answered(config: Config, out: Path, address: str | None, engine: Engine = light_engine) -> pl.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recommend_all(config, out, context=RAIN, filters=RequestFilters(), k=3, ray=address, engine=engine)
    return pl.read_parquet(out)


@pytest.mark.slow
def test_cluster_answers_row_by_row_what_one_machine_answers_although_a_worker_is_killed(
    ray_cluster: str, config: Config, tmp_path: Path
) -> None:
    here, mark = _answered(config, tmp_path / "here.parquet", None), tmp_path / "killed"
    there = _answered(config, tmp_path / "there.parquet", ray_cluster, functools.partial(killed_once, mark=mark))
    assert mark.exists()
    assert there.equals(here)
    assert not (tmp_path / "there.parquet.parts").exists()


@pytest.mark.slow
def test_batch_that_was_begun_here_goes_on_in_the_cluster(
    ray_cluster: str, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, written = _answered(config, tmp_path / "here.parquet", None), []
    with pytest.MonkeyPatch.context() as patch:
        write = parts.Parts.write

        def until_the_third(self: parts.Parts, number: int, parquet: bytes) -> None:
            if len(written) == 2:
                raise KeyboardInterrupt
            written.append(number)
            write(self, number, parquet)

        patch.setattr(parts.Parts, "write", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            _answered(config, tmp_path / "there.parquet", None)
    capsys.readouterr()
    assert _answered(config, tmp_path / "there.parquet", ray_cluster).equals(here)
    said = capsys.readouterr().err
    assert "2 of 4 users were answered before" in said
    assert "2 users in" in said


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.usefixtures("config")
def test_cluster_answers_by_vllm_what_transformers_answer_here(
    ray_cluster: str, town_copy: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_USERS", 4)  # one part for one actor, as starting vLLM takes long
    with_little_memory = town_copy("serve.kv_cache_gib=0.125")
    here = _answered(with_little_memory, tmp_path / "here.parquet", None)
    there = _answered(with_little_memory, tmp_path / "there.parquet", ray_cluster, vllm_engine)
    assert there.drop("probability").equals(here.drop("probability"))
    assert there["probability"].to_list() == pytest.approx(here["probability"].to_list(), abs=1e-4)
    assert there["user_id"].n_unique() == 4


@pytest.mark.slow
def test_machine_that_cannot_answer_says_why(ray_cluster: str, config: Config, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="A machine of Ray's cluster cannot answer: this machine has no engine"):
        _answered(config, tmp_path / "all.parquet", ray_cluster, no_engine)


def test_machine_that_finds_another_run_refuses_to_answer(config: Config) -> None:
    import pyarrow as pa

    query, part = Query(Request(context=RAIN), 3), pa.table({"number": [7], "user_ids": [["p01"]]})
    with Recommender.load(config, keeps_events=True) as recommender:
        identity = query.identity(recommender)
    (answered,) = Answering(config, query, identity, light_engine)(part).to_pylist()
    assert (answered["number"], answered["error"]) == (7, "")
    assert pl.read_parquet(answered["answers"])["user_id"].to_list() == ["p01"] * 3
    (refused,) = Answering(config, query, "another", light_engine)(part).to_pylist()
    assert "let all machines see one run folder" in refused["error"]
    assert refused["answers"] == b""


def test_address_where_nothing_listens_is_refused_at_once(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.socket() as taken:  # bound, but nothing listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServerError, match=f"Ray's cluster at '{address}' cannot be reached .*ray start --head"):
            _answered(config, tmp_path / "all.parquet", address)


def test_client_server_is_refused_since_data_sets_cannot_stream_through_it(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="run the command on a machine of the cluster and say --ray auto"):
        _answered(config, tmp_path / "all.parquet", "ray://127.0.0.1:10001")


def test_batch_without_ray_says_how_to_install_it(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ServerError, match=r"--ray needs Ray, which is not installed: run `pip install 'whereupon\[ray"):
        _answered(config, tmp_path / "all.parquet", "local")
