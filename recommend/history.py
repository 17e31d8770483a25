"""What a user did: prepared, stored and given events as one history, in the columns of the histories' events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl

from ..errors import UnknownUserError
from ..histories import Histories
from ..histories.local_time import local_times
from .context import OWN_COLUMNS
from .store.event import PastEvent
from .versions import CatalogueVersion

SAME_EVENT = timedelta(seconds=1)  # exported logs often keep whole seconds


def user_history(
    histories: Histories, version: CatalogueVersion, user_id: str | None, stored: Sequence[PastEvent],
    given: Sequence[PastEvent], time_zone: str | None,
) -> pl.DataFrame:  # fmt: skip
    """A user's prepared, stored and given events in the order of their times, each event once.

    Events of two sources are one if they are of the same item and at most a second apart: what was stored and is
    prepared again from an exported log, or is stored and sent along, counts once. `user_id` None is an unknown user:
    only `given` is known. Events of items that neither the histories nor the catalogue have cannot be shown and are
    left out. Raises UnknownUserError for a user without any event.
    """
    known = histories.events[:0]
    try:
        if user_id is not None:
            user = histories.user(user_id)
            known = histories.events[histories.offset_U1[user] : histories.offset_U1[user + 1]]
    except UnknownUserError:
        if not stored and not given:
            raise
    columns = known.columns
    for later in (stored, given):
        if later:
            added = _frame(histories, version, known, user_id or "", later, time_zone).select(columns)
            known = pl.concat([known, _without(added, known)]).sort("time", maintain_order=True)
    return known


def _without(added: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The events of `added` that are not among `known`; each known event is matched once, the nearest in time first."""
    sides = [frame.select("item_idx", "time").with_row_index(name) for frame, name in ((added, "new"), (known, "old"))]
    pairs = sides[0].join(sides[1], on="item_idx", suffix="_old")
    pairs = pairs.with_columns(apart=(pl.col("time") - pl.col("time_old")).abs()).filter(pl.col("apart") <= SAME_EVENT)
    matched: dict[int, int] = {}  # of known events; there are as many pairs as events that were kept twice
    for new, old in pairs.sort("apart", "new", "old").select("new", "old").iter_rows():
        if old not in matched and new not in matched.values():
            matched[old] = new
    return added.filter(~pl.int_range(pl.len()).is_in(list(matched.values())))


def _frame(
    histories: Histories,
    version: CatalogueVersion,
    known: pl.DataFrame,
    user_id: str,
    later: Sequence[PastEvent],
    time_zone: str | None,
) -> pl.DataFrame:
    schema = histories.events.schema
    rows = [{"user_id": user_id, **_row(event, schema)} for event in later]
    frame = pl.DataFrame(rows, schema={**schema, "utc_offset_minutes": pl.Float64}, strict=False)
    frame = frame.with_columns(item_idx=pl.Series(version.prompt_items(frame["item_id"].to_list()), dtype=pl.Int32))
    frame = _with_places(histories, version, frame)
    if known.height and time_zone is None:  # the clock that the user's events had so far
        last = known[-1]
        offset = last["local_time"][0] - last["time"].dt.replace_time_zone(None)[0]
        frame = frame.with_columns(pl.col("utc_offset_minutes").fill_null(offset.total_seconds() / 60))
    local = local_times(frame, time_zone=time_zone, notes=Counter())
    return frame.with_columns(local_time=local).filter(pl.col("item_idx") >= 0)


def _row(event: PastEvent, schema: pl.Schema) -> dict[str, Any]:
    context = {name: value for name, value in event.context.items() if name in schema and name not in OWN_COLUMNS}
    row = {
        **context, "item_id": event.item_id, "user_idx": 0, "time": event.time, "split": "test",
        "latitude": event.latitude, "longitude": event.longitude,
        "utc_offset_minutes": None if event.utc_offset_minutes is None else float(event.utc_offset_minutes),
    }  # fmt: skip
    for name in ("event", "value"):
        if name in schema:
            row[name] = getattr(event, name)
    return row


def _with_places(histories: Histories, version: CatalogueVersion, frame: pl.DataFrame) -> pl.DataFrame:
    """Where the coordinates of an event are those of its item, they are known without being said."""
    if histories.location != "outcome" or not {"latitude", "longitude"} <= set(histories.items.columns):
        return frame
    columns, tables = ["item_id", "latitude", "longitude"], (version.items, histories.items)  # the latter: taken out
    listed = pl.col("item_id").is_in(frame["item_id"].implode())
    places = pl.concat([table.select(columns).filter(listed) for table in tables if set(columns) <= set(table.columns)])
    places = places.unique("item_id", keep="first")
    joined = frame.join(places, on="item_id", how="left", maintain_order="left", suffix="_of_item")
    filled = [pl.coalesce(name, f"{name}_of_item").alias(name) for name in ("latitude", "longitude")]
    return joined.with_columns(filled).drop("latitude_of_item", "longitude_of_item")
