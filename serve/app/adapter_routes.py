"""Routes of the versions of the adapter: which there are, which is served, another one, and back."""

import asyncio

from fastapi import APIRouter

from . import schemas
from .adapters import card_of
from .http_errors import OpenAIErrorRoute, documented
from .routes import Loaded
from .service import Service

adapter_router = APIRouter(route_class=OpenAIErrorRoute, tags=["adapters"])


@adapter_router.get("/v1/adapters", responses=documented())
async def list_adapters(service: Loaded) -> schemas.AdapterList:
    """The versions of the adapter in the run folder, and which of them this server answers with."""
    return await _listed(service)


@adapter_router.post("/v1/adapters/promote", responses=documented(403, 404, 409))
async def promote(service: Loaded, body: schemas.Promotion) -> schemas.AdapterList:
    """Use another version from now on; all servers of the run folder take it over.

    Requests at work end with the version that they began with, and others wait until the new one is loaded. When this
    answers, the server uses it.
    """
    await service.adapters.promote(body.version)
    return await _listed(service)


@adapter_router.post("/v1/adapters/rollback", responses=documented(403, 404, 409))
async def rollback(service: Loaded) -> schemas.AdapterList:
    """Use the version that was in use before the current one; after that, the same request goes forward again."""
    await service.adapters.rollback()
    return await _listed(service)


async def _listed(service: Service) -> schemas.AdapterList:
    adapters = service.adapters
    versions = await asyncio.to_thread(adapters.versions)
    cards = [schemas.AdapterCard(**card_of(version, adapters.served)) for version in versions]
    return schemas.AdapterList(data=cards, served=adapters.served, previous=adapters.previous)
