"""Which items may answer a user at a moment: what was asked for on the command line, as filters over the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ..catalogue import Filters, ItemFacts, Selection, select_items
from ..errors import DataError
from .catalogue import Served
from .moment import Moment, parse_place


@dataclass(frozen=True)
class Wishes:
    """What the answer should be: within `near_km` of the user, of one of the `categories`, new to them, open then."""

    near_km: float | None = None
    categories: Sequence[str] = ()
    unseen: bool = False
    open_now: bool = False


def candidates(served: Served, facts: ItemFacts, wishes: Wishes, asked: pl.DataFrame, moment: Moment) -> Selection:
    """The items that fit the wishes at a moment.

    Near is near the place of the moment, else where the user was last known to be; open is open at the local time of
    asking. `asked` is the open question as `question` gives it.

    Raises:
        CatalogueError: see `select_items`.
        DataError: nearness is asked for, but neither the moment nor an event before it has a place.
    """
    values: dict[str, object] = {"unseen": wishes.unseen}
    if wishes.near_km is not None:
        latitude, longitude = parse_place(moment.place) if moment.place else _last_place(asked)
        values |= {"near_km": wishes.near_km, "near_latitude": latitude, "near_longitude": longitude}
    if wishes.categories:
        values["category"] = list(wishes.categories)
    if wishes.open_now:
        values["open_at"] = asked["local_time"][-1]
    seen = served.indices(asked["item_idx"][:-1].unique().to_numpy())
    return select_items(facts, Filters.read(values), seen)


def _last_place(asked: pl.DataFrame) -> tuple[float, float]:
    placed = asked.select("latitude", "longitude").drop_nulls()
    if not placed.height:
        raise DataError(
            f"--near needs a place, but none of the {asked.height - 1} events that user {asked['user_id'][0]} has by "
            "then has coordinates: say --place LAT,LON, or leave --near out."
        )
    latitude, longitude = placed.row(-1)
    return latitude, longitude
