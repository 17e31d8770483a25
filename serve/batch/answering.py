"""The answers of one part of a batch, by an engine of this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...decode.vllm_engine import together
from ...errors import DataError, PromptError, ServerError
from ...recommend.recommender import reason_without_name
from ..launcher.command import Address, cpu_environment, own_cpus, served_dtype, server_command
from ..launcher.install import HOW, installed_build
from ..launcher.merged import merged_weights
from .parts import Answers, Query

if TYPE_CHECKING:
    from ..app.service import Service
    from ..settings import ServeConfig

AT_ONCE = 32  # searches; their prompts should fit into the prefix cache together

# Of a configuration: around all questions, a client as vLLM's `EngineClient` is.
Engine = Callable[["ServeConfig"], contextlib.AbstractAsyncContextManager[Any]]


@contextlib.asynccontextmanager
async def vllm_engine(config: ServeConfig) -> AsyncIterator[Any]:
    """vLLM's engine with the settings of the server. Raises WhereuponError for what is missing."""
    build = installed_build()
    if build is None:
        raise ServerError(f"Ranking for all users needs vLLM, which is not installed: {HOW}.")
    dtype = served_dtype(config.model, build.device)
    for name, value in cpu_environment(own_cpus()).items():
        os.environ.setdefault(name, value)
    os.environ |= {"VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    with merged_weights(config, dtype) as weights:
        command = server_command(config, weights, dtype, build.device, Address("127.0.0.1", 0))
        parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(command[3:])
        client = AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(parsed))
        try:
            yield client
        finally:
            client.shutdown()


@contextlib.asynccontextmanager
async def answering(config: ServeConfig, engine: Engine) -> AsyncIterator[Service]:
    """All that answers need, loaded once. Raises WhereuponError for what is missing or does not belong together."""
    async with engine(config) as client:
        from ..app.service import Service  # here, as without vLLM what it imports is missing too

        service = await Service.load(config, client)
        with contextlib.closing(service):
            yield service


async def answers_of(
    service: Service, query: Query, user_ids: Sequence[str], answered: Callable[[], None] = lambda: None
) -> Answers:
    """The answers of some users, in their order; `answered` is called after each user."""
    from starlette.exceptions import HTTPException

    version, reasons = service.recommender.catalogues.current, Counter[str]()
    limit = asyncio.Semaphore(min(AT_ONCE, service.limit.searches))

    async def one(user_id: str) -> list[dict[str, Any]]:
        async with limit:
            try:
                answer = await service.recommend(replace(query.request, user_id=user_id), query.k, version=version)
            except (HTTPException, DataError, PromptError) as error:
                said = error.detail if isinstance(error, HTTPException) else error
                reasons[reason_without_name(said, user_id)] += 1
                return []
            finally:
                answered()
        return [{"user_id": user_id, "exact": answer.exact, **item.model_dump()} for item in answer.data]

    each = await together([one(user_id) for user_id in user_ids])
    return Answers([row for rows in each for row in rows], reasons)
