"""POST and GET /v1/events: what happened, from now on part of the user's history."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, FailFast, Field
from starlette.convertors import Convertor, register_url_convertor

from ...recommend.store import EventStore
from ...recommend.store.event import Event, Label
from ..settings import ServeSettings
from .http_errors import OpenAIErrorRoute, documented, error_response

DEFAULT_LIMIT = 100


class _Anything(Convertor[str]):
    """The rest of a path, line ends included: what no id can be is refused by the route, not unknown to the router."""

    regex = r"(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _Anything())


class NewEvents(BaseModel):
    """What happened, in any order."""

    model_config = ConfigDict(extra="forbid")

    # FailFast: the answer names the first fault, and a body full of faults would take memory for each.
    events: Annotated[list[Event], FailFast()] = Field(description="Stored all or none.")


class Stored(BaseModel):
    """Answered once all events are on disk."""

    accepted: int = Field(description="Events that were new.")
    duplicates: int = Field(description="Events that had been stored before, with the same content.")


class StoredEvents(BaseModel):
    """Events of one user, earliest first."""

    object: Literal["list"] = "list"
    data: list[Event]
    has_more: bool = Field(description="Whether the user has earlier events beyond the limit.")


def event_router(get_store: Callable[[], EventStore], limits: ServeSettings) -> APIRouter:
    """The routes under /v1/events; `get_store` is called at each request, as the store opens after the routes exist."""
    router = APIRouter(route_class=OpenAIErrorRoute, tags=["events"])

    @router.post("/v1/events", response_model=Stored, responses=documented(409, 413))
    async def append_events(body: NewEvents) -> Stored | JSONResponse:
        """Add events to their users' histories; they count from the next request on.

        Sending the same events again is safe, so a client that got no answer should.
        """
        if len(body.events) > limits.max_events:
            found = f"not {len(body.events)}; send them in parts."
            return error_response(f"At most {limits.max_events} events go into one request, {found}", 413, "events")
        appended = await asyncio.to_thread(get_store().append, body.events)
        return Stored(accepted=appended.accepted, duplicates=appended.duplicates)

    @router.get("/v1/events/{user_id:anything}", response_model=StoredEvents, responses=documented())
    async def events_of_user(
        user_id: Annotated[Label, Path(description="Whose events; an id may hold slashes.")],
        limit: Annotated[int, Query(ge=1, le=limits.max_events, description="Most events, the latest ones.")] = min(
            DEFAULT_LIMIT, limits.max_events
        ),
    ) -> StoredEvents:
        """A user's latest events, earliest first; none for a user who is not known."""
        events = await asyncio.to_thread(get_store().of_user, user_id, limit + 1)
        return StoredEvents(data=events[-limit:], has_more=len(events) > limit)

    return router
