"""Routes of recommendations, catalogues, events and health. The service that answers is `app.state.whereupon`."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Annotated, Any

import polars as pl
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from ...catalogue import items_table
from ...recommend.private_store import PrivateStore
from ...recommend.saved_catalogue import SavedCatalogue
from ...recommend.store.event import Label
from ...recommend.versions import CatalogueVersion
from ..settings import ServeSettings
from . import schemas
from .http_errors import ErrorBody, OpenAIErrorRoute, documented, error_response
from .schemas import CatalogueCard, RecommendationRequest, Recommendations
from .service import EDITS, ITEMS, Service

MAX_LISTED = 1000
DEFAULT_EVENTS = 100

_ALIVE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The server answers."},
    503: {"model": ErrorBody, "description": "The model or the catalogue is missing."},
}
_READY = _ALIVE | {503: {"model": ErrorBody, "description": "Send requests elsewhere, or wait."}}
_EDITING: dict[str, Any] = {"responses": documented(403, 404, 413), "tags": ["catalogues"]}

router = APIRouter(route_class=OpenAIErrorRoute)


async def the_service(request: Request) -> Service:
    """Raises HTTPException 503 until it is loaded."""
    service: Service | None = getattr(request.app.state, "whereupon", None)
    if service is None:
        raise HTTPException(503, "The catalogue is still being loaded; ask again in a moment.", {"Retry-After": "5"})
    return service


Loaded = Annotated[Service, Depends(the_service)]


async def of_catalogue(name: Annotated[str, Path(description="Name of the catalogue.")], service: Loaded) -> Service:
    """Raises HTTPException 404 for a catalogue of another name."""
    return service.named(name)


Named = Annotated[Service, Depends(of_catalogue)]


async def the_store(service: Loaded) -> PrivateStore:
    """The store of events."""
    assert service.recommender.store is not None, "a server opens one"
    return PrivateStore(service.recommender.store, service.recommender.privacy)


def until_disconnect(handler: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Give up the work when the client has left. The handler's request is called `raw_request` and has been read."""

    @wraps(handler)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        work = asyncio.create_task(handler(*args, **kwargs))
        gone = asyncio.create_task(_disconnected(kwargs["raw_request"]))
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else Response(status_code=499)  # no client is left to read it
        finally:
            gone.cancel()
            work.cancel()

    return wrapped


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.get("/health", tags=["health"], response_class=Response, responses=_ALIVE)
async def health(service: Loaded) -> Response:
    """200 once model, catalogue and event store are loaded, and while the model lives."""
    if not await service.is_alive():
        raise HTTPException(503, "The model does not answer; start the server again.")
    return Response()


@router.get("/ready", tags=["health"], response_class=Response, responses=_READY)
async def ready(service: Loaded) -> Response:
    """200 while a request would be answered: /health is well, the event store answers, and there is a turn left."""
    await service.check_ready()
    return Response()


@router.post("/v1/recommendations", tags=["recommendations"], responses=documented(404, 413, 429))
@until_disconnect
async def recommend(service: Loaded, body: RecommendationRequest, raw_request: Request) -> Recommendations:
    """The items that a user is most likely to choose next, in the given context, best first."""
    return await service.recommend(body.request(), body.k, body.max_expansions, explain=body.explain)


@router.get("/v1/catalogues", tags=["catalogues"], responses=documented())
async def list_catalogues(service: Loaded) -> schemas.CatalogueList:
    """The catalogues of this server."""
    return schemas.CatalogueList(data=[_card(service, await service.recommender.catalogues.fresh())])


@router.get("/v1/catalogues/{name}", tags=["catalogues"], responses=documented(404))
async def inspect(
    service: Named,
    limit: Annotated[int, Query(ge=0, le=MAX_LISTED, description="Most items to list.")] = 100,
    offset: Annotated[int, Query(ge=0, description="Items to skip.")] = 0,
    query: Annotated[str | None, Query(max_length=200, description="Only items with this text in title or id.")] = None,
    item_id: Annotated[list[str] | None, Query(max_length=MAX_LISTED, description="Only items of these ids.")] = None,
) -> schemas.CatalogueItems:
    """A catalogue and some of its items, in their order."""
    version = await service.recommender.catalogues.fresh()
    found = await asyncio.to_thread(_found, version.items, query, item_id)
    rows = found.slice(offset, limit).to_dicts()
    more = offset + len(rows) < found.height
    card = _card(service, version).model_dump()
    return schemas.CatalogueItems(**card, data=rows, num_found=found.height, has_more=more)


def _found(items: pl.DataFrame, query: str | None, item_ids: list[str] | None) -> pl.DataFrame:
    """The items of some ids, and with a text in title or id, whatever its case."""
    if item_ids is not None:
        items = items.filter(pl.col("item_id").is_in(item_ids))
    if query:
        said = pl.col("title", "item_id").str.to_lowercase().str.contains(query.lower(), literal=True)
        items = items.filter(pl.any_horizontal(said))
    return items


@router.put("/v1/catalogues/{name}", **_EDITING)
async def rebuild(service: Named, body: schemas.Items) -> CatalogueCard:
    """Replace the whole catalogue; requests that run are answered from the one before."""
    return await _edited(service, SavedCatalogue.rebuild, body)


@router.post("/v1/catalogues/{name}/items", **_EDITING)
async def add(service: Named, body: schemas.Items) -> CatalogueCard:
    """Add new items; nothing that is there is renamed."""
    return await _edited(service, SavedCatalogue.add, body)


@router.put("/v1/catalogues/{name}/items", **_EDITING)
async def replace(service: Named, body: schemas.Items) -> CatalogueCard:
    """Give items that are there other attributes or another title."""
    return await _edited(service, SavedCatalogue.replace, body)


@router.delete("/v1/catalogues/{name}/items", **_EDITING)
async def remove(service: Named, body: schemas.ItemIds) -> CatalogueCard:
    """Take items out; histories that hold them are shown as before."""
    return await _edited(service, SavedCatalogue.remove, body)


async def _edited(
    service: Service, change: Callable[..., object], body: schemas.Items | schemas.ItemIds
) -> CatalogueCard:
    def edit(saved: SavedCatalogue) -> None:
        if isinstance(body, schemas.ItemIds):
            change(saved, body.item_ids)
        else:  # a column that no item names is not in the table
            change(saved, items_table([item.model_dump(exclude_unset=True) for item in body.items]))

    version = await service.recommender.catalogues.edited(edit)
    EDITS.inc()
    ITEMS.set(version.items.height)
    return _card(service, version)


def _card(service: Service, version: CatalogueVersion) -> CatalogueCard:
    columns = [column for column in version.items.columns if column not in ("item_id", "title")]
    return CatalogueCard(name=service.name, version=version.name, num_items=version.items.height, columns=columns)


class _Anything(PathConvertor):
    """The rest of a path, line ends included: what no id can be is refused by the route, not unknown to the router."""

    regex = r"(?s:.*)"


register_url_convertor("anything", _Anything())


def event_router(limits: ServeSettings) -> APIRouter:
    """The routes under /v1/events and /v1/users."""
    most = limits.max_events
    router = APIRouter(route_class=OpenAIErrorRoute, tags=["events"])

    @router.post("/v1/events", response_model=schemas.Stored, responses=documented(409, 413))
    async def append_events(body: schemas.NewEvents, store: Annotated[PrivateStore, Depends(the_store)]) -> Any:
        """Add events to their users' histories; they count from the next request on.

        Sending the same events again is safe, so a client that got no answer should.
        """
        if len(body.events) > most:
            message = f"At most {most} events go into one request, not {len(body.events)}; send them in parts."
            return error_response(message, 413, "events")
        return (await asyncio.to_thread(store.append, body.events))._asdict()

    @router.get("/v1/events/{user_id:anything}", responses=documented(403))
    async def events_of_user(
        user_id: Annotated[Label, Path(description="Whose events; an id may hold slashes.")],
        store: Annotated[PrivateStore, Depends(the_store)],
        limit: Annotated[int, Query(ge=1, le=most, description="Most events, the latest ones.")] = min(
            DEFAULT_EVENTS, most
        ),
    ) -> schemas.StoredEvents:
        """A user's latest events, earliest first; none for a user who is not known."""
        events = await asyncio.to_thread(store.of_user, user_id, limit + 1)
        return schemas.StoredEvents(data=events[-limit:], has_more=len(events) > limit)

    @router.delete("/v1/users/{user_id:anything}", responses=documented(403), tags=["users"])
    async def forget(
        user_id: Annotated[Label, Path(description="The user to forget; an id may hold slashes.")], service: Loaded
    ) -> schemas.Forgotten:
        """Forget a person: delete the stored events, and use nothing that was prepared. Sending it again is safe."""
        return await service.forget(user_id)

    return router
