"""whereupon's routes inside vLLM's server: an entry point of `vllm.endpoint_plugins`.

`whereupon serve` starts vLLM with VLLM_PLUGINS=whereupon and, in WHEREUPON_SERVE, the path of a JSON file with the
configuration. All else of vLLM's server stays as it is, but that /v1/completions answers requests which name a
catalogue, and that /health waits for the catalogue.
"""

from __future__ import annotations

import asyncio
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import polars as pl
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from vllm.entrypoints.openai.completion.api_router import create_completion
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.utils.api_utils import validate_json_request

from ...errors import ConfigError, PromptError, WhereuponError
from ...files import read_json
from ...prompts import encode_text
from ...recommend.store import EventStore
from ...recommend.versions import CatalogueVersion
from ..settings import ServeConfig
from .body_limit import BodyLimit
from .closing import closing_router
from .completions import Completion, complete
from .event_routes import event_router
from .http_errors import OpenAIErrorRoute, documented, error_response, refusal
from .loading import load_service
from .routes import service_router, until_disconnect
from .service import Service

VARIABLE = "WHEREUPON_SERVE"


class Endpoints:
    """See `vllm.plugins.endpoint_plugins.interface.EndpointPlugin`."""

    name = "whereupon"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        if not os.environ.get(VARIABLE):
            raise ConfigError(f"{VARIABLE} should name the configuration; start the server by `whereupon serve`.")
        self.config = ServeConfig.model_validate(read_json(Path(os.environ[VARIABLE])))
        self._service: Service | None = None
        self._client: Any = None

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes, and the limit on bodies."""
        app.include_router(service_router(self.service, self._is_alive))
        app.include_router(event_router(self._store, self.config.serve))
        app.include_router(self._completions())
        app.include_router(closing_router(self._close))
        app.add_middleware(BodyLimit, max_bytes=self.config.serve.max_body_kib * 1024)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Load histories, catalogue and event store, and warm the model up."""
        self._client = engine_client
        self._service = await load_service(self.config, engine_client)

    def service(self) -> Service:
        """What answers. Raises HTTPException 503 until it is loaded."""
        if self._service is None:
            raise HTTPException(
                503, "The catalogue is still being loaded; ask again in a moment.", {"Retry-After": "5"}
            )
        return self._service

    def _store(self) -> EventStore:
        store = self.service().recommender.store
        assert store is not None, "a server opens one"
        return store

    def _close(self) -> None:
        if self._service is not None:
            self._service.recommender.close()

    async def _is_alive(self) -> bool:
        try:
            await self._client.check_health()
        except Exception:  # whatever it is that ails the engine, it does not answer
            return False
        return True

    def _completions(self) -> APIRouter:
        router = APIRouter(route_class=OpenAIErrorRoute)

        @router.post(
            "/v1/completions", dependencies=[Depends(validate_json_request)], responses=documented(404, 413, 429)
        )
        async def completions(body: CompletionRequest, raw_request: Request) -> Any:
            """OpenAI's completions; with `vllm_xargs: {"catalogue": NAME}` the n best titles of that catalogue."""
            if "catalogue" not in (body.vllm_xargs or {}):
                return await create_completion(body, raw_request)
            return await self._complete(body=body, raw_request=raw_request)

        return router

    @property
    def _complete(self) -> Any:
        return until_disconnect(self._answer)

    async def _answer(self, body: CompletionRequest, raw_request: Request) -> Any:
        try:
            service = self.service()
            if body.model not in (None, service.name):
                return error_response(
                    f"There is no model {body.model[:100]!r} here; known is {service.name!r}.", 404, "model"
                )
            async with service.limit.request():
                version = await service.recommender.catalogues.fresh()
                return await complete(service, version, await asyncio.to_thread(_read, service, version, body))
        except (WhereuponError, HTTPException) as error:
            return refusal(error)


def _read(service: Service, version: CatalogueVersion, body: CompletionRequest) -> Completion:
    """What we go by; without a temperature of its own, a request wants the exact ranking."""
    said = body.model_fields_set
    return Completion(
        prompts=_token_ids(service, version, body), n=body.n, seed=body.seed, use_beam_search=body.use_beam_search,
        temperature=(body.temperature or 0.0) if "temperature" in said else 0.0,
        top_p=1.0 if body.top_p is None else body.top_p,
        logprobs=body.logprobs, stream=bool(body.stream), xargs=dict(body.vllm_xargs or {}),
    )  # fmt: skip


def _token_ids(service: Service, version: CatalogueVersion, body: CompletionRequest) -> list[list[int]]:
    """Token ids of the prompts. Text is tokenised as prompts of histories are, behind the BOS token if there is one."""
    prompt: Any = body.prompt
    if not prompt:
        raise PromptError("Expected a prompt, as text or token ids, but found none; give one.")
    prompts = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
    encoder = version.encoder
    titles = pl.concat([encoder.catalogue.titles, version.items["title"]])
    bos = service.recommender.tokenizer.decode(encoder.prefix)

    def read(text: str) -> list[int]:
        prefix = encoder.prefix if body.add_special_tokens or text.startswith(bos) else ()
        return [*prefix, *encode_text(encoder, text.removeprefix(bos), titles)]

    return [read(one) if isinstance(one, str) else one for one in prompts]
