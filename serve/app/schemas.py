"""The models of requests and answers of the routes, which also make the OpenAPI schema."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, FailFast, Field, StringConstraints

from ...recommend.context import RequestContext
from ...recommend.explanation import Explanation
from ...recommend.recommender import Request
from ...recommend.selection import RequestFilters
from ...recommend.store.event import ContextValue, Event, Label, Number, PastEvent, Placed

ItemId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Context(_Request, Placed):
    """Time, place and weather of the request."""

    at: str | None = Field(
        None, max_length=40, description="ISO 8601; without an offset in the user's local time. By default now."
    )
    weather: str | None = Field(
        None, min_length=1, max_length=100, description="In words: 'snow, -3 C', 'clear 54 F windy'."
    )
    columns: dict[Label, ContextValue] = Field(
        default_factory=dict, max_length=32, description="Further context columns, by the names of the training data."
    )


class Filters(_Request):
    """Which items may answer; all conditions hold."""

    near_km: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="Within so many kilometres of the place of the context, else of the user's last known place."
    )
    category: list[Label] | None = Field(None, min_length=1, max_length=100, description="Of one of these categories.")
    unseen: bool = Field(False, description="New to this user.")
    open_now: bool = Field(False, description="Open at the local time of the request.")
    only: list[ItemId] | None = Field(None, description="One of these item ids.")
    exclude: list[ItemId] = Field(default_factory=list, description="None of these item ids.")


class QuestionRequest(_Request):
    """Which user's next item, when and where."""

    user_id: Label | None = Field(None, description="A user of the histories or of stored events.")
    events: list[PastEvent] | None = Field(
        None, description="What the person did, instead of a user id or after what is known of the user; not stored."
    )
    context: Context = Field(default_factory=Context, description="Time, place and weather of the request.")
    filters: Filters = Field(default_factory=Filters, description="Which items may answer.")

    def request(self) -> Request:
        """The request to a `Recommender`; without a time, the time is now."""
        context, wanted = self.context, self.filters
        at = context.at or datetime.now(UTC).isoformat(timespec="seconds")
        place = None if context.latitude is None else f"{context.latitude:f},{context.longitude:f}"
        filters = RequestFilters(
            wanted.near_km, wanted.category or (), wanted.unseen, wanted.open_now, wanted.only, wanted.exclude
        )
        return Request(self.user_id, self.events, RequestContext(at, context.weather, place, context.columns), filters)


class RecommendationRequest(QuestionRequest):
    """Which user's next item, when and where, and how many."""

    k: int | None = Field(None, ge=1, description="How many items; by default decode.k.")
    max_expansions: int | None = Field(None, ge=1, description="Stop after so many expanded nodes of the trie.")
    explain: bool = Field(False, description="Explain the rank of each item; takes a few times as long.")


class Recommendation(BaseModel):
    """One item of the ranking."""

    rank: int
    item_id: str
    title: str
    probability: float = Field(description="In the distribution over the whole catalogue.")
    distance_km: float | None = Field(None, description="From the user's place, where both places are known.")


class Recommendations(BaseModel):
    """The ranking, best first."""

    catalogue: str
    version: str = Field(description="The one version of the catalogue that all of the answer is from.")
    adapter: str = Field(description="The one version of the adapter that all of the answer is from.")
    exact: bool = Field(description="Whether these are provably the most probable items.")
    missing_probability: float = Field(description="The most that an item could have that is missing wrongly.")
    num_candidates: int = Field(description="Items that the filters left.")
    reason: str = Field(description="What the filters left, and why there are fewer items than requested.")
    object: Literal["list"] = "list"
    data: list[Recommendation]
    num_events: int = Field(description="Number of earlier events that the prompt uses.")
    prompt_tokens: int
    explanation: Explanation | None = Field(None, description="Why, item by item, if that was requested.")


class ItemRow(BaseModel):
    """An item: its id, its title (or the columns that make one), and any attributes.

    Each attribute is of one kind in the whole catalogue: text, numbers, or true and false.
    """

    model_config = ConfigDict(extra="allow")

    item_id: ItemId
    title: str | None = Field(None, max_length=1000, description="By default made as those of the histories were.")
    latitude: Annotated[Number, Field(ge=-90, le=90)] | None = Field(None, description="Degrees, WGS 84.")
    longitude: Annotated[Number, Field(ge=-180, le=180)] | None = Field(None, description="Degrees, WGS 84.")
    available_from: AwareDatetime | None = Field(None, description="Time from which on the item may be recommended.")

    __pydantic_extra__: dict[str, str | Number | bool | None] = Field(init=False)


class Items(_Request):
    """Items to be put into the catalogue."""

    items: list[ItemRow] = Field(min_length=1)


class ItemIds(_Request):
    """Items to be taken out."""

    item_ids: list[ItemId] = Field(min_length=1)


class CatalogueCard(BaseModel):
    """What there is to know of a catalogue."""

    object: Literal["catalogue"] = "catalogue"
    name: str
    version: str
    num_items: int
    columns: list[str] = Field(description="Attributes of the items.")


class CatalogueList(BaseModel):
    """All catalogues of this server."""

    object: Literal["list"] = "list"
    data: list[CatalogueCard]


class CatalogueItems(CatalogueCard):
    """Some of a catalogue's items."""

    data: list[dict[str, Any]]
    num_found: int = Field(description="Items that fit the query, on this and other pages.")
    has_more: bool


class Promotion(_Request):
    """Which adapter is to be used."""

    version: str = Field(min_length=1, max_length=40, description="A version of the run folder, such as 0002.")


class AdapterCard(BaseModel):
    """One version of the adapter."""

    version: str
    served: bool = Field(description="Whether this server answers with it.")
    current: bool = Field(description="Whether it is the one in use in the run folder.")
    complete: bool = Field(description="Whether its training has ended.")
    step: int | None = Field(description="Training step of its weights.")
    validation: dict[str, float] = Field(description="Figures of its validation.")


class AdapterList(BaseModel):
    """The versions of the run folder, oldest first."""

    object: Literal["list"] = "list"
    data: list[AdapterCard]
    served: str = Field(description="The version that this server answers with.")
    previous: str | None = Field(description="The version that was in use before; rollback goes back to it.")


class NewEvents(_Request):
    """What happened, in any order."""

    # FailFast: the answer names the first fault, and a body full of faults would take memory for each.
    events: Annotated[list[Event], FailFast()] = Field(description="Stored all or none.")


class Stored(BaseModel):
    """Answered once all events are on disk."""

    accepted: int = Field(description="Events that were new.")
    duplicates: int = Field(description="Events that had been stored before, with the same content.")


class Forgotten(BaseModel):
    """What was deleted, and what may still be known."""

    events: int = Field(description="Stored events that were deleted.")
    prepared_events: int = Field(
        description="Events in the prepared data. No answer shows or uses them any more; they leave the disk when "
        "their source is cleaned and `whereupon prepare` runs again."
    )
    adapter_may_know: bool = Field(
        description="Whether adapter and rankers were fitted to events of this person. They forget by a new training."
    )


class StoredEvents(BaseModel):
    """Events of one user, earliest first."""

    object: Literal["list"] = "list"
    data: list[Event]
    has_more: bool = Field(description="Whether the user has earlier events beyond the limit.")


class UserList(BaseModel):
    """Some users, in the order of their ids."""

    object: Literal["list"] = "list"
    data: list[str]
    has_more: bool


class ContextCard(BaseModel):
    """What a request may say of its context."""

    weather: bool = Field(description="Whether prompts speak of the weather.")
    place: bool = Field(
        description="Whether prompts speak of the user's place; distances and filters may use it anyway."
    )
    columns: list[str] = Field(description="Further context columns.")
    latest: AwareDatetime = Field(description="Time of the latest prepared event, of any user.")
    default_k: int = Field(description="How many items an answer has by default.")


class FieldText(BaseModel):
    """Words of a prompt that belong together."""

    field: Literal["time", "place", "weather", "title", "text"]
    text: str


class PromptPiece(BaseModel):
    """A piece of a prompt."""

    kind: Literal["preamble", "others", "profile", "event", "question"]
    fields: list[FieldText] = Field(description="Its text in order.")
    num_tokens: int


class KnownEvent(BaseModel):
    """A past event that a question depends on: prepared, stored or sent along."""

    item_id: str
    title: str
    time: str = Field(description="Local time, ISO 8601.")
    utc_offset_minutes: int
    latitude: float | None
    longitude: float | None
    has_line: bool = Field(description="Whether the prompt has a line of it; older ones are in the profile, if at all.")


class QuestionShown(BaseModel):
    """What the model reads of a question, and what it rests on."""

    version: str = Field(description="The version of the catalogue.")
    at: str = Field(description="The local time of the request, ISO 8601.")
    latitude: float | None = Field(description="Where the person is, or was last.")
    longitude: float | None
    num_candidates: int = Field(description="Items that the filters left.")
    num_events: int = Field(description="Events before the request.")
    events: list[KnownEvent] = Field(description="The latest of them, earliest first.")
    prompt: list[PromptPiece]
    prompt_tokens: int
    budget_tokens: int = Field(description="The most that a prompt may have: prompts.budget_tokens.")
