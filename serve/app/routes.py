"""Routes of recommendations, catalogues and health; those of events stand in `event_routes`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from ...catalogue import items_table
from ...recommend.saved_catalogue import SavedCatalogue
from ...recommend.versions import CatalogueVersion
from . import metrics
from .http_errors import ErrorBody, OpenAIErrorRoute, documented
from .schemas import (
    CatalogueCard,
    CatalogueItems,
    CatalogueList,
    ItemIds,
    Items,
    RecommendationRequest,
    Recommendations,
)
from .service import Service

MAX_LISTED = 1000
Handler = Callable[..., Coroutine[Any, Any, Any]]

_ALIVE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The server answers."},
    503: {"model": ErrorBody, "description": "The model or the catalogue is missing."},
}
Name = Annotated[str, Path(description="Name of the catalogue.")]


def until_disconnect(handler: Handler) -> Handler:
    """Give up the work when the client has left. The handler's request is called `raw_request` and has been read."""

    @wraps(handler)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        work = asyncio.create_task(handler(*args, **kwargs))
        gone = asyncio.create_task(_disconnected(kwargs["raw_request"]))
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else Response(status_code=499)  # nobody is there to read it
        finally:
            gone.cancel()
            work.cancel()

    return wrapped


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def service_router(get_service: Callable[[], Service], is_alive: Callable[[], Awaitable[bool]]) -> APIRouter:
    """All routes that a service answers; `get_service` is called at each request and raises HTTPException 503 before
    it is loaded."""
    router = APIRouter(route_class=OpenAIErrorRoute)

    @router.get("/health", tags=["health"], response_class=Response, responses=_ALIVE)
    async def health() -> Response:
        """200 once model, catalogue and event store are loaded, and while the model lives."""
        get_service()
        if not await is_alive():
            raise HTTPException(503, "The model does not answer; start the server again.")
        return Response()

    @router.post(
        "/v1/recommendations", response_model=Recommendations, tags=["recommendations"],
        responses=documented(404, 413, 429),
    )  # fmt: skip
    @until_disconnect
    async def recommend(body: RecommendationRequest, raw_request: Request) -> Recommendations:
        """The items that a user is most likely to choose next, given the moment, best first."""
        return await get_service().recommend(body)

    _add_catalogue_routes(router, get_service)
    return router


def _add_catalogue_routes(router: APIRouter, get_service: Callable[[], Service]) -> None:
    about: dict[str, Any] = {"responses": documented(404), "tags": ["catalogues"]}
    editing: dict[str, Any] = {
        "responses": documented(404, 413),
        "tags": ["catalogues"],
        "response_model": CatalogueCard,
    }

    def named(name: str) -> Service:
        service = get_service()
        if name != service.name:
            raise HTTPException(404, f"There is no catalogue {name[:100]!r} here; known is {service.name!r}.")
        return service

    async def edited(name: str, change: Callable[[SavedCatalogue], object]) -> CatalogueCard:
        version = await named(name).recommender.catalogues.edited(change)
        metrics.EDITS.inc()
        metrics.ITEMS.set(version.items.height)
        return _card(name, version)

    @router.get("/v1/catalogues", response_model=CatalogueList, tags=["catalogues"], responses=documented())
    async def list_catalogues() -> CatalogueList:
        """The catalogues of this server."""
        service = get_service()
        return CatalogueList(data=[_card(service.name, await service.recommender.catalogues.fresh())])

    @router.get("/v1/catalogues/{name}", response_model=CatalogueItems, **about)
    async def inspect(
        name: Name,
        limit: Annotated[int, Query(ge=0, le=MAX_LISTED, description="Most items to list.")] = 100,
        offset: Annotated[int, Query(ge=0, description="Items to skip.")] = 0,
    ) -> CatalogueItems:
        """A catalogue and some of its items, in their order."""
        version = await named(name).recommender.catalogues.fresh()
        rows = version.items.slice(offset, limit).to_dicts()
        more = offset + len(rows) < version.items.height
        return CatalogueItems(**_card(name, version).model_dump(), data=rows, has_more=more)

    @router.put("/v1/catalogues/{name}", **editing)
    async def rebuild(name: Name, body: Items) -> CatalogueCard:
        """Replace the whole catalogue; requests that run are answered from the one before."""
        items = await asyncio.to_thread(_table, body)
        return await edited(name, lambda saved: saved.rebuild(items))

    @router.post("/v1/catalogues/{name}/items", **editing)
    async def add(name: Name, body: Items) -> CatalogueCard:
        """Add new items; nothing that is there is renamed."""
        items = await asyncio.to_thread(_table, body)
        return await edited(name, lambda saved: saved.add(items))

    @router.put("/v1/catalogues/{name}/items", **editing)
    async def replace(name: Name, body: Items) -> CatalogueCard:
        """Give items that are there other attributes or another title."""
        items = await asyncio.to_thread(_table, body)
        return await edited(name, lambda saved: saved.replace(items))

    @router.delete("/v1/catalogues/{name}/items", **editing)
    async def remove(name: Name, body: ItemIds) -> CatalogueCard:
        """Take items out; histories that hold them are told as before."""
        return await edited(name, lambda saved: saved.remove(body.item_ids))


def _card(name: str, version: CatalogueVersion) -> CatalogueCard:
    columns = [column for column in version.items.columns if column not in ("item_id", "title")]
    return CatalogueCard(name=name, version=version.name, num_items=version.items.height, columns=columns)


def _table(body: Items) -> pl.DataFrame:
    """Items as a table; a column that no item names is not in it."""
    return items_table([item.model_dump(exclude_unset=True) for item in body.items])
