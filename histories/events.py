"""Events and items cleaned: typed columns, rejected rows with their reason, repaired titles."""

from collections import Counter

import polars as pl

from ..errors import DataError
from .parsing import has_offset, to_floats, to_text, to_times
from .reading import ROW
from .rejects import Rejects
from .weather import WEATHER_COLUMNS

_AVAILABLE_FROM = "available_from"
_OPTIONAL_FLOATS = ("utc_offset_minutes", "latitude", "longitude")
_DAY_MINUTES = 24 * 60


def clean_events(
    raw: pl.DataFrame,
    *,
    source: str,
    context_columns: list[str],
    time_format: str | None,
    item_ids: pl.Series | None,
    rejects: Rejects,
    notes: Counter[str],
) -> pl.DataFrame:
    """Typed events, in the order of their file.

    `raw` is as `read_table` gives it, `source` its file name, and `item_ids` are all known items; None where items are
    collected from the events.

    Returns:
        `_row`, `user_id`, `item_id`, `time` (us, UTC), `utc_offset_minutes`, `latitude`, `longitude` (float64, null
        where absent), `event` (text) and `value` (float64) where the file has them, and the context columns, as text
        unless they are numbers or truth values.
    """
    typed = raw.with_columns(
        to_text(raw["user_id"]).alias("_user_id"),
        to_text(raw["item_id"]).alias("_item_id"),
        to_times(raw["time"], time_format).alias("_time"),
        has_offset(raw["time"], time_format).alias("_has_offset"),
        *(_float_or_null(raw, name).alias(f"_{name}") for name in _OPTIONAL_FLOATS),
    )
    copies = pl.struct(pl.col(raw.columns).exclude(ROW)).is_first_distinct().not_()
    kept = rejects.take(typed, copies, source=source, reason="duplicate", detail=_cells("user_id", "item_id", "time"))
    for bad, reason, detail in (
        (pl.col("_user_id").is_null(), "missing user", pl.lit("user_id is empty")),
        (pl.col("_item_id").is_null(), "missing item", pl.lit("item_id is empty")),
        (pl.col("_time").is_null(), "unparsable time", pl.col("time").cast(pl.String)),
    ):
        kept = rejects.take(kept, bad, source=source, reason=reason, detail=detail)
    kept = _reject_bad_numbers(kept, raw.columns, source, rejects)
    if item_ids is not None:
        unknown = ~pl.col("_item_id").is_in(item_ids.implode())
        kept = rejects.take(kept, unknown, source=source, reason="unknown item", detail=pl.col("_item_id"))
    naive = kept.height - int(kept["_has_offset"].sum())
    if naive:
        notes["times without an offset read as UTC"] += naive
    ours = (pl.col(f"_{name}").alias(name) for name in ("user_id", "item_id", "time", *_OPTIONAL_FLOATS))
    outcomes = _outcomes(kept.drop(context_columns), notes)
    return kept.select(ROW, *ours, *outcomes, *(_context(kept, name) for name in context_columns))


def clean_items(
    raw: pl.DataFrame,
    *,
    source: str,
    rejects: Rejects,
    notes: Counter[str] | None = None,
    time_format: str | None = None,
) -> pl.DataFrame:
    """Typed items in the order of their file: `item_id`, further columns as they are, coordinates as float64.

    A row without `item_id` or with one that came before is rejected. Coordinates that are no place become null, and the
    item stays: it can still be recommended. So does one whose `available_from` (the moment from which on the item is
    known; time as in events) cannot be read: it counts as always known, and `notes` counts it.
    """
    kept = raw.with_columns(to_text(raw["item_id"]))
    absent, detail = pl.col("item_id").is_null(), pl.lit("item_id is empty")
    kept = rejects.take(kept, absent, source=source, reason="missing item", detail=detail)
    repeated = ~pl.col("item_id").is_first_distinct()
    kept = rejects.take(kept, repeated, source=source, reason="repeated item", detail=pl.col("item_id"))
    if {"latitude", "longitude"} <= set(kept.columns):
        kept = kept.with_columns(to_floats(kept["latitude"]), to_floats(kept["longitude"]))
        placed = _on_earth(pl.col("latitude"), pl.col("longitude"))
        kept = kept.with_columns(pl.when(placed).then(name).alias(name) for name in ("latitude", "longitude"))
    if _AVAILABLE_FROM in kept.columns:
        since = to_times(kept[_AVAILABLE_FROM], time_format)
        unread = since.null_count() - kept.select(_given(kept, _AVAILABLE_FROM).not_().sum()).item()
        if unread and notes is not None:
            notes["items whose available_from cannot be read, taken as always known"] += unread
        kept = kept.with_columns(since)
    return kept.select("item_id", pl.exclude("item_id", ROW))


def available_at_first_event(items: pl.DataFrame, events: pl.DataFrame, notes: Counter[str]) -> pl.DataFrame:
    """Items whose `available_from` is later than their first event: that event's time counts instead."""
    if _AVAILABLE_FROM not in items.columns:
        return items
    first = events.group_by("item_id").agg(pl.col("time").min().alias("_first"))
    joined = items.join(first, on="item_id", how="left", maintain_order="left")
    too_late = (pl.col("_first") < pl.col(_AVAILABLE_FROM)).fill_null(False)
    if num := joined.select(too_late.sum()).item():
        notes["items with an event before their available_from, which is moved there"] += num
    repaired = pl.when(too_late).then("_first").otherwise(_AVAILABLE_FROM).alias(_AVAILABLE_FROM)
    return joined.with_columns(repaired).drop("_first")


def items_of_events(events: pl.DataFrame) -> pl.DataFrame:
    """Items in order of first appearance, for data without an items table."""
    return events.select(pl.col("item_id").unique(maintain_order=True))


def place_at_items(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Events without coordinates take those of their item; for events that happen where the item is."""
    if not {"latitude", "longitude"} <= set(items.columns):
        return events
    places = items.select("item_id", pl.col("latitude", "longitude").name.prefix("_"))
    joined = events.join(places, on="item_id", how="left", maintain_order="left")
    own = pl.col("latitude").is_not_null()
    filled = (pl.when(own).then(name).otherwise(f"_{name}").alias(name) for name in ("latitude", "longitude"))
    return joined.with_columns(filled).drop("_latitude", "_longitude")


def require_events(events: pl.DataFrame, source: str, rejects: Rejects) -> None:
    """Raise DataError where no event is usable; it names the first rejected row."""
    if events.height:
        return
    found = rejects.table().filter(pl.col("source") == source).head(1)
    first = "".join(f"; row {row}: {reason} ({detail})" for _, row, reason, detail in found.iter_rows())
    raise DataError(f"{source} should hold usable events but each of its rows was rejected{first}; see its columns.")


def _float_or_null(raw: pl.DataFrame, name: str) -> pl.Series:
    if name in raw.columns:
        return to_floats(raw[name])
    return pl.Series(name, [None], dtype=pl.Float64).new_from_index(0, raw.height)


def _cells(*names: str) -> pl.Expr:
    return pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in names], separator=", ")


def _on_earth(latitude: pl.Expr, longitude: pl.Expr) -> pl.Expr:
    return latitude.is_between(-90, 90) & longitude.is_between(-180, 180)


def _reject_bad_numbers(table: pl.DataFrame, columns: list[str], source: str, rejects: Rejects) -> pl.DataFrame:
    """Coordinates and offsets that are given but no place or no offset; an empty pair of coordinates is fine."""
    if {"latitude", "longitude"} <= set(columns):
        given = [_given(table, name) for name in ("latitude", "longitude")]
        bad = pl.any_horizontal(given) & ~_on_earth(pl.col("_latitude"), pl.col("_longitude")).fill_null(False)
        detail = _cells("latitude", "longitude")
        table = rejects.take(table, bad, source=source, reason="coordinates out of range", detail=detail)
    if "utc_offset_minutes" in columns:
        offset = pl.col("_utc_offset_minutes")
        bad = _given(table, "utc_offset_minutes") & ~offset.is_between(-_DAY_MINUTES, _DAY_MINUTES).fill_null(False)
        table = rejects.take(table, bad, source=source, reason="bad UTC offset", detail=pl.col("utc_offset_minutes"))
    return table


def _given(table: pl.DataFrame, name: str) -> pl.Expr:
    if table.schema[name] == pl.String:
        return pl.col(name).str.strip_chars().fill_null("") != ""
    return pl.col(name).cast(pl.Float64).is_not_nan().fill_null(False)  # some writers put NaN for "nothing"


def _outcomes(table: pl.DataFrame, notes: Counter[str]) -> list[pl.Series]:
    """`event` (what happened) and `value` (how much), of which no prompt for that event may speak."""
    found = []
    if "event" in table.columns and not table.schema["event"].is_nested():
        found.append(to_text(table["event"]))
    if "value" in table.columns and not table.schema["value"].is_nested():
        found.append(to_floats(table["value"]))
        if unread := found[-1].null_count() - table.select(_given(table, "value").not_().sum()).item():
            notes["values that are no number, left empty"] += unread
    return found


def _context(table: pl.DataFrame, name: str) -> pl.Series:
    column = table[name]
    if name in WEATHER_COLUMNS and name != "condition":
        return to_floats(column)
    return column if column.dtype.is_numeric() or column.dtype == pl.Boolean else to_text(column)
