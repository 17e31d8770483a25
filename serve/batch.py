"""`whereupon recommend --all-users`: a ranking for every user of the histories, through vLLM without a server.

Answers are written part by part; a run that was killed goes on where it was, as long as nothing that the answers depend
on has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from starlette.exceptions import HTTPException

from ..console import bar, say
from ..decode.identity import model_identity
from ..decode.vllm_engine import together
from ..errors import ConfigError, DataError, PromptError, ServerError
from ..files import atomic_path, read_json, sha256_text, write_json
from ..recommend.context import RequestContext
from ..recommend.recommender import Request, reason_without_name
from ..recommend.selection import RequestFilters
from .app.service import Service
from .launcher.command import Address, cpu_environment, own_cpus, served_dtype, server_command
from .launcher.install import HOW, installed_build
from .launcher.merged import merged_weights

if TYPE_CHECKING:
    from .settings import ServeConfig

PART_USERS = 256
AT_ONCE = 32  # searches; their prompts should fit into the prefix cache together
SCHEMA = {
    "user_id": pl.String, "rank": pl.Int32, "item_id": pl.String, "title": pl.String, "probability": pl.Float64,
    "distance_km": pl.Float64, "exact": pl.Boolean,
}  # fmt: skip


def recommend_all(
    config: ServeConfig, out: Path, *, context: RequestContext, filters: RequestFilters, k: int | None
) -> None:
    """Write the ranked items of all users to `out`, a Parquet file: a row an item, columns as in `SCHEMA`.

    Without a time, each user's time is right after their last event. Users who cannot be answered (no event
    before the request, no place to be near of) are counted, by reason. Raises WhereuponError.
    """
    build = installed_build()
    if build is None:
        raise ServerError(f"Ranking for all users needs vLLM, which is not installed: {HOW}.")
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a Parquet file for the rankings.")
    context.check()  # a mistake in it would be every user's
    if k is not None and not 1 <= k <= config.serve.max_k:
        raise ConfigError(f"-k should be between 1 and serve.max_k ({config.serve.max_k}), not {k}.")
    dtype = served_dtype(config.model, build.device)
    for name, value in cpu_environment(own_cpus()).items():
        os.environ.setdefault(name, value)
    os.environ |= {"VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    with merged_weights(config, dtype) as weights:
        command = server_command(config, weights, dtype, build.device, Address("127.0.0.1", 0))
        asyncio.run(_answer_all(config, command[3:], Request(context=context, filters=filters), k, out))


async def _answer_all(config: ServeConfig, arguments: list[str], request: Request, k: int | None, out: Path) -> None:
    async with _engine(arguments) as client:
        service = await Service.load(config, client)
        with contextlib.closing(service):
            parts = Parts(out, _identity(config, service, request, k))
            counts = await _fill(service, request, k, parts)
    rows = parts.join()
    for reason, count in counts.most_common():
        say(f"not answered: {count:,} users. {reason}")
    print(f"{rows:,} rows in {out}")


async def _fill(service: Service, request: Request, k: int | None, parts: Parts) -> Counter[str]:
    """Answer the users whose part is missing; why some could not be answered."""
    users, version, reasons = service.recommender.user_ids, service.recommender.catalogues.current, Counter[str]()
    chunks = [users[begin : begin + PART_USERS] for begin in range(0, len(users), PART_USERS)]
    missing = [number for number in range(len(chunks)) if not parts.path(number).is_file()]
    if len(missing) < len(chunks):
        say(f"{len(users) - sum(len(chunks[n]) for n in missing):,} of {len(users):,} users were answered before")
    limit = asyncio.Semaphore(min(AT_ONCE, service.limit.searches))
    with bar() as progress:
        task = progress.add_task("users", total=sum(len(chunks[n]) for n in missing))

        async def one(user_id: str) -> list[dict[str, Any]]:
            async with limit:
                try:
                    answer = await service.recommend(replace(request, user_id=user_id), k, version=version)
                except (HTTPException, DataError, PromptError) as error:
                    said = error.detail if isinstance(error, HTTPException) else error
                    reasons[reason_without_name(said, user_id)] += 1
                    return []
                finally:
                    progress.advance(task)
            return [{"user_id": user_id, "exact": answer.exact, **item.model_dump()} for item in answer.data]

        for number in missing:
            answered = await together([one(user_id) for user_id in chunks[number]])
            parts.write(number, [row for rows in answered for row in rows])
    return reasons


class Parts:
    """The pieces of a Parquet file in a folder beside it, with what they were made from."""

    def __init__(self, out: Path, identity: str) -> None:
        self.out, self.folder = out, out.with_name(f"{out.name}.parts")
        known = self.folder / "identity.json"
        if self.folder.is_dir() and (not known.is_file() or read_json(known) != identity):
            shutil.rmtree(self.folder)  # of another model, catalogue, time or filter
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(known, identity)

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"

    def write(self, number: int, rows: Sequence[dict[str, Any]]) -> None:
        with atomic_path(self.path(number)) as path:
            pl.DataFrame(rows, schema=SCHEMA).write_parquet(path)

    def join(self) -> int:
        """Make one file of all parts and remove them; how many rows it has."""
        paths = sorted(self.folder.glob("part-*.parquet"))
        whole = pl.concat([pl.read_parquet(path) for path in paths]) if paths else pl.DataFrame(schema=SCHEMA)
        with atomic_path(self.out) as path:
            whole.write_parquet(path)
        shutil.rmtree(self.folder)
        return whole.height


@contextlib.asynccontextmanager
async def _engine(arguments: list[str]) -> AsyncIterator[Any]:
    """vLLM's engine with the settings of the server."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    client = AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(parsed))
    try:
        yield client
    finally:
        client.shutdown()


def _identity(config: ServeConfig, service: Service, request: Request, k: int | None) -> str:
    """Fingerprint of all that decides the answers; what is stored meanwhile is not waited for."""
    recommender = service.recommender
    version, histories = recommender.catalogues.current, recommender.histories
    catalogue = [version.name, version.items.height, histories.catalogue_hash]
    settings = [model_identity(config.model, recommender.card), config.decode.model_dump(mode="json"), PART_USERS, k]
    blend, users = recommender.catalogues.blend.identity, recommender.user_ids
    parts = [asdict(request), catalogue, settings, histories.data_hash, blend, users]
    return sha256_text(json.dumps(parts, sort_keys=True))
