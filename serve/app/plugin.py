"""whereupon's routes inside vLLM's server: an entry point of `vllm.endpoint_plugins`.

`whereupon serve` names, in WHEREUPON_SERVE, a JSON file with the configuration. /v1/completions answers requests that
name a catalogue, and /health waits for the catalogue. The other routes of vLLM's server are closed by default
(`plain`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import ValidatorFunctionWrapHandler, WrapValidator
from vllm.entrypoints.openai.completion.api_router import create_completion
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.utils.api_utils import validate_json_request
from vllm.exceptions import VLLMClientError

from ...errors import ConfigError, PromptError
from ...files import read_json
from ...prompts import encode_text
from ...recommend.versions import CatalogueVersion
from ..launcher.command import ADMIN_KEY, QUERY_KEY
from ..settings import ServeConfig
from .adapter_routes import adapter_router
from .clients import Clients
from .completions import MAX_PROMPTS, complete
from .http_errors import BodyLimit, OpenAIErrorRoute, documented, error_response
from .keys import Keys
from .page_files import page_router
from .plain import SAID, OwnRoutes
from .questions import question_router
from .routes import event_router, router, the_service, until_disconnect
from .service import Service
from .traces import Traced

VARIABLE = "WHEREUPON_SERVE"


class Endpoints:
    """See `vllm.plugins.endpoint_plugins.interface.EndpointPlugin`."""

    name = "whereupon"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        if not os.environ.get(VARIABLE):
            raise ConfigError(f"{VARIABLE} should name the configuration; start the server by `whereupon serve`.")
        self.config = ServeConfig.model_validate(read_json(Path(os.environ[VARIABLE])))

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes, the limit on bodies, the keys, and how the server ends."""
        settings = self.config.serve
        asking = completions_router(settings.plain_routes)
        own = [router, adapter_router, event_router(settings), question_router, asking]
        own += [APIRouter(lifespan=_lifespan), *([page_router] if settings.page else [])]
        for added in own:
            app.include_router(added)
        if not settings.plain_routes:
            app.add_middleware(OwnRoutes, own=[route for added in own for route in added.routes])
        app.add_middleware(BodyLimit, max_bytes=settings.max_body_kib * 1024)
        app.add_middleware(Clients, header=settings.client_header)
        app.add_middleware(Keys, query=os.environ.get(QUERY_KEY), admin=os.environ.get(ADMIN_KEY))
        if settings.traces:
            app.add_middleware(Traced)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Load histories, catalogue and event store, and warm the model up."""
        state.whereupon = await Service.load(self.config, engine_client)
        state.whereupon_following = asyncio.create_task(state.whereupon.adapters.follow())


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Let a signal end the HTTP server, which waits for its requests, and only then the engine and the event store.

    vLLM does it the other way round, and even with a time to wait, the engine takes no new requests from then on:
    a search that has sent its first nodes would fail at the next ones.
    """
    if server := getattr(app.state, "server", None):  # none in an app that somebody else serves
        # vLLM has set its own handlers by now: it makes the task that runs this, sets them, and lets the task begin.
        for one in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(one, setattr, server, "should_exit", True)
    yield
    if service := getattr(app.state, "whereupon", None):
        app.state.whereupon_following.cancel()
        service.close()


def _validated(data: Any, validate: ValidatorFunctionWrapHandler) -> CompletionRequest:
    """A completion request. Raises ValueError, which pydantic reports, for what vLLM's own checks refuse."""
    try:
        request: CompletionRequest = validate(data)
    except VLLMClientError as error:
        raise ValueError(str(error)) from error
    except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError("A field of the body has a value of another kind than OpenAI's completions know") from error
    return request


_Completion = Annotated[CompletionRequest, WrapValidator(_validated)]


def completions_router(plain: bool) -> APIRouter:
    """OpenAI's completions; `plain`: whether vLLM answers the requests that name no catalogue."""
    router = APIRouter(route_class=OpenAIErrorRoute)

    @router.post("/v1/completions", dependencies=[Depends(validate_json_request)], responses=documented(404, 413, 429))
    async def completions(body: _Completion, raw_request: Request) -> Any:
        """OpenAI's completions; with `vllm_xargs: {"catalogue": NAME}` the n best titles of that catalogue."""
        if "catalogue" in (body.vllm_xargs or {}):
            return await _complete(body, raw_request=raw_request)
        if not plain:
            return error_response(SAID, 404, "vllm_xargs")
        return await create_completion(body, raw_request=raw_request)

    return router


@until_disconnect
async def _complete(body: CompletionRequest, raw_request: Request) -> Any:
    service = await the_service(raw_request)
    if body.model not in (None, service.name):
        return error_response(f"There is no model {body.model[:100]!r} here; known is {service.name!r}.", 404, "model")
    async with service.request():
        version = await service.recommender.catalogues.fresh()
        return await complete(service, version, body, await asyncio.to_thread(_token_ids, service, version, body))


def _token_ids(service: Service, version: CatalogueVersion, body: CompletionRequest) -> list[list[int]]:
    """Token ids of the prompts. Text is tokenised as prompts of histories are, behind the BOS token if there is one."""
    prompt: Any = body.prompt
    if not prompt:
        raise PromptError("Expected a prompt, as text or token ids, but found none; give one.")
    prompts = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
    if len(prompts) > MAX_PROMPTS:  # before any of them is tokenised
        raise PromptError(f"At most {MAX_PROMPTS} prompts go into one request, not {len(prompts)}; send them in parts.")
    encoder = version.encoder
    titles = pl.concat([encoder.catalogue.titles, version.items["title"]])
    bos = service.recommender.tokenizer.decode(encoder.prefix)

    def read(text: str) -> list[int]:
        prefix = encoder.prefix if body.add_special_tokens or text.startswith(bos) else ()
        return [*prefix, *encode_text(encoder, text.removeprefix(bos), titles)]

    return [read(one) if isinstance(one, str) else one for one in prompts]
