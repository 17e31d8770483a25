"""A batch on the machines of a Ray cluster: `Dataset.map_batches` over actors, each of which holds an engine.

A search asks the model again and again, so it is no simple map from a prompt to a text. An actor answers whole parts.
It returns a part's file, which this machine writes. If an actor's process or machine is lost, Ray starts the actor
again and repeats the part that it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConflictError, ServerError, WhereuponError, first_line
from .answering import Engine, answering, answers_of
from .parts import Parts, Query

if TYPE_CHECKING:
    from ..app.service import Service
    from ..settings import ServeConfig

HOW = "run `pip install 'whereupon[ray]'`, on each machine of the cluster"
_RESTARTS = 10  # of an actor: a part that ends its engine every time must not be tried for ever
_REACH_S = 5.0
_OBJECT_STORE_BYTES = 256 * 2**20  # of a cluster of this machine alone; a part's answers take some 100 kB


def answer_on_ray(
    config: ServeConfig, query: Query, identity: str, parts: Parts, address: str, engine: Engine
) -> Iterator[int]:
    """Write the parts that are missing, and yield their numbers as they come, in any order.

    Args:
        identity: of the query here; an actor that finds another one refuses to answer.
        address: "local" for a cluster of this machine alone, "auto" for the one that it belongs to, or HOST:PORT of
            that one's head.

    Raises:
        ServerError: Ray is missing, the cluster cannot be reached or has no free engine, or an actor cannot answer.
    """
    with _cluster(address) as ray:
        num_engines, needs = _engines(ray, config)
        rows = [{"number": number, "user_ids": list(parts.users[number])} for number in parts.missing()]
        size = min(num_engines, len(rows))
        found = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Answering, fn_constructor_kwargs={"config": config, "query": query, "identity": identity, "engine": engine},
            batch_size=1, batch_format="pyarrow", **needs, ray_remote_args_fn=_few_restarts,
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
        )  # fmt: skip
        try:
            # Without prefetching: else a part that is finished would be kept only when the next one is.
            for table in found.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
                (row,) = table.to_pylist()
                if row["error"]:
                    raise ServerError(f"A machine of Ray's cluster cannot answer: {row['error']}")
                parts.write(row["number"], row["answers"])
                yield row["number"]
        except ray.exceptions.RayError as error:
            raise ServerError(
                f"Ray gave the batch up ({first_line(error)}). Finished parts are kept: run the same command again."
            ) from error


class Answering:
    """An actor of the cluster. What it needs is loaded with its first part, so that an error can be returned."""

    def __init__(self, config: ServeConfig, query: Query, identity: str, engine: Engine) -> None:
        self.config, self.query, self.identity, self.engine = config, query, identity, engine
        self._runner, self._loaded = asyncio.Runner(), contextlib.AsyncExitStack()
        self._service: Service | None = None

    def __call__(self, table: Any) -> Any:
        """One part: from a pyarrow table of `number` and `user_ids` to one of `number`, `answers` and `error`."""
        import pyarrow as pa

        (row,), answers, said = table.to_pylist(), b"", ""
        try:
            answers = self._runner.run(self._answers(row["user_ids"]))
        except WhereuponError as error:
            said = str(error)
        columns = [pa.array([row["number"]]), pa.array([answers], pa.binary()), pa.array([said])]
        return pa.table(columns, names=["number", "answers", "error"])

    def __del__(self) -> None:
        """End the engine: Ray deletes an actor's object before the process ends."""
        self._runner.run(self._loaded.aclose())
        self._runner.close()

    async def _answers(self, user_ids: list[str]) -> bytes:
        if self._service is None:
            self._service = await self._load()
        return (await answers_of(self._service, self.query, user_ids)).as_parquet()

    async def _load(self) -> Service:
        service = await self._loaded.enter_async_context(answering(self.config, self.engine))
        if self.query.identity(service.recommender) != self.identity:
            raise ConflictError(
                f"{self.config.run} on {socket.gethostname()} is not what it is where the batch was started: let all "
                "machines see one run folder, and change nothing in it while the batch runs."
            )
        return service


def _few_restarts() -> dict[str, int]:
    return {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS}


def _engines(ray: Any, config: ServeConfig) -> tuple[int, dict[str, int]]:
    """How many engines fit into the cluster, and what each needs: one for each GPU, or else one for each machine."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus and config.model.device != "cpu":
        return gpus, {"num_gpus": 1}
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    workers = [number for number in cpus if number]
    if not workers:
        raise ServerError("Ray's cluster has neither a GPU nor a CPU for an engine: add a machine by `ray start`.")
    return len(workers), {"num_cpus": min(workers)}  # as many as the smallest has: Ray puts one on each machine


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The module `ray`, connected. Raises ServerError."""
    if address.startswith("ray://"):  # over which Ray's data sets cannot stream; its makers do not mean to change that
        raise ServerError(
            f"A batch cannot run through the client server at {address}: run the command on a machine of the cluster "
            "and say --ray auto, or HOST:PORT of its head."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ServerError(f"--ray needs Ray, which is not installed: {HOW}.") from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        _reach(_known_address() if address == "auto" else address)
        ray.init(address=address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ServerError(
            f"Ray's cluster at {address!r} cannot be reached ({first_line(error)}): start one by `ray start --head` "
            "and name its HOST:PORT, or say --ray local for this machine alone."
        ) from None
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield ray
    finally:
        ray.shutdown()


def _known_address() -> str:
    """What "auto" stands for: RAY_ADDRESS, or the file in which `ray start` writes its address."""
    written = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    return os.environ.get("RAY_ADDRESS") or (written.read_text().strip() if written.is_file() else "")


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would wait for minutes and then end the process."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
