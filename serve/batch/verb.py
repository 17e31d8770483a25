"""From the options of `whereupon recommend --all-users` to its file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ...console import bar, say
from ...errors import ConfigError, DataError
from ...recommend.context import RequestContext
from ...recommend.recommender import Recommender, Request
from ...recommend.selection import RequestFilters
from .answering import Engine, answering, answers_of, vllm_engine
from .on_ray import answer_on_ray
from .parts import Parts, Query

if TYPE_CHECKING:
    from ..settings import ServeConfig


def recommend_all(
    config: ServeConfig, out: Path, *, context: RequestContext, filters: RequestFilters, k: int | None,
    ray: str | None = None, engine: Engine = vllm_engine,
) -> None:  # fmt: skip
    """Write the ranked items of all users to `out`, a Parquet file: a row an item, columns as in `parts.SCHEMA`.

    Without a time, each user's time is right after their last event. Users who cannot be answered (no event
    before the request, no place to be near of) are counted, by reason. `ray`: the address of a Ray cluster whose
    machines answer, see `on_ray`; by default this machine does. Raises WhereuponError.
    """
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a Parquet file for the rankings.")
    context.check()  # a mistake in it would be every user's
    if k is not None and not 1 <= k <= config.serve.max_k:
        raise ConfigError(f"-k should be between 1 and serve.max_k ({config.serve.max_k}), not {k}.")
    query = Query(Request(context=context, filters=filters), k)
    if ray is None:
        parts = asyncio.run(_answer_here(config, query, out, engine))
    else:
        parts = _answer_there(config, query, out, ray, engine)
    rows, reasons = parts.join()
    for reason, count in reasons.most_common():
        say(f"not answered: {count:,} users. {reason}")
    print(f"{rows:,} rows in {out}")


async def _answer_here(config: ServeConfig, query: Query, out: Path, engine: Engine) -> Parts:
    async with answering(config, engine) as service:
        parts, began = _parts(query, out, service.recommender), time.perf_counter()
        missing = parts.missing()
        with bar() as progress:
            task = progress.add_task("users", total=parts.num_users(missing))
            for number in missing:
                found = await answers_of(service, query, parts.users[number], lambda: progress.advance(task))
                parts.write(number, found.as_parquet())
        _say_rate(parts.num_users(missing), time.perf_counter() - began)
    return parts


def _answer_there(config: ServeConfig, query: Query, out: Path, address: str, engine: Engine) -> Parts:
    with Recommender.load(config, keeps_events=True) as recommender:  # no model is loaded here
        parts, identity = _parts(query, out, recommender), query.identity(recommender)
    if missing := parts.missing():
        began = time.perf_counter()
        with bar() as progress:
            task = progress.add_task("users", total=parts.num_users(missing))
            for number in answer_on_ray(config, query, identity, parts, address, engine):
                progress.advance(task, len(parts.users[number]))
        _say_rate(parts.num_users(missing), time.perf_counter() - began)
    return parts


def _parts(query: Query, out: Path, recommender: Recommender) -> Parts:
    users = recommender.user_ids
    parts = Parts(out, users, query.identity(recommender))
    if before := len(users) - parts.num_users(parts.missing()):
        say(f"{before:,} of {len(users):,} users were answered before")
    return parts


def _say_rate(num_users: int, seconds: float) -> None:
    if num_users:
        say(f"{num_users:,} users in {seconds:.1f} s, {num_users / seconds:.1f} a second")
