"""Which items may answer a request: the filters of a request, as filters over the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ..arrays import Int64
from ..catalogue import Filters, ItemFacts, Selection, select_items
from ..errors import DataError
from .context import RequestContext, parse_place


@dataclass(frozen=True)
class RequestFilters:
    """What the answer should be: within `near_km` of the user, of one of the `categories`, new to them, open then, one
    of the item ids `only`, none of `exclude`."""

    near_km: float | None = None
    categories: Sequence[str] = ()
    unseen: bool = False
    open_now: bool = False
    only: Sequence[str] | None = None
    exclude: Sequence[str] = ()


def candidates(
    facts: ItemFacts, filters: RequestFilters, query: pl.DataFrame, context: RequestContext, seen_idx: Int64
) -> Selection:
    """The items that fit the filters of a request.

    Near is near the place of the request, else where the user was last known to be; open is open at the local time of
    asking. `query` is what `open_question` gives, `seen_idx` int64 the items of the events before it.
    Raises CatalogueError: see `select_items`. DataError: nearness is requested, but neither the request nor an event
    before it has a place.
    """
    values: dict[str, object] = {"unseen": filters.unseen, "only": filters.only, "exclude": filters.exclude}
    if filters.near_km is not None:
        place = place_of(query, context)
        if place is None:
            raise DataError(
                f"The filter near_km needs a place, but none of the {query.height - 1} earlier events of user "
                f"{query['user_id'][0]} has coordinates: give a place, or remove the filter."
            )
        values |= {"near_km": filters.near_km, "near_latitude": place[0], "near_longitude": place[1]}
    if filters.categories:
        values["category"] = list(filters.categories)
    if filters.open_now:
        values["open_at"] = query["local_time"][-1]
    return select_items(facts, Filters.read(values), seen_idx)


def place_of(query: pl.DataFrame, context: RequestContext) -> tuple[float, float] | None:
    """Latitude and longitude of the request, else of the last event before it that has a place."""
    if context.place is not None:
        return parse_place(context.place)
    placed = query.select("latitude", "longitude").drop_nulls()
    if not placed.height:
        return None
    latitude, longitude = placed.row(-1)
    return latitude, longitude
