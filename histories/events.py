"""Events and items cleaned: typed columns, rejected rows with their reason, repaired titles."""

from collections import Counter

import polars as pl

from ..errors import DataError
from .coordinates import clean_places
from .local_time import known_zones
from .parsing import (
    are_whole,
    counted_degrees,
    counted_floats,
    given_cells,
    note_ids,
    to_degrees,
    to_floats,
    to_ids,
    to_text,
)
from .reading import ROW
from .rejects import Notes, Rejects
from .settings import Coordinates
from .time_texts import offset_minutes
from .times import read_times, suspicious, to_times
from .weather import WEATHER_COLUMNS

_AVAILABLE_FROM = "available_from"
_DAY_MINUTES = 24 * 60
# The largest size of the usual offsets, and what they are then counted in, in minutes.
_OFFSET_UNITS = ((14, "hours", 60.0), (_DAY_MINUTES, "minutes", 1.0), (_DAY_MINUTES * 60, "seconds", 1 / 60))


def clean_events(
    raw: pl.DataFrame,
    *,
    source: str,
    context_columns: list[str],
    time_format: str | None,
    item_ids: pl.Series | None,
    rejects: Rejects,
    notes: Notes,
    coordinates: Coordinates = "as_given",
    whole_item_ids: bool = False,
) -> pl.DataFrame:
    """Typed events, in the order of their file.

    `raw` is as `read_table` gives it, `source` its file name, and `item_ids` are all known items; None where items are
    collected from the events. `whole_item_ids`: see `are_whole`.

    Returns:
        `_row`, `user_id`, `item_id`, `time` (us, UTC; as if UTC where `_has_offset` is false), `_has_offset`,
        `_cell_offset` (minutes), `_zone`, `hour_known`, `utc_offset_minutes`, `latitude`, `longitude` (float64, null
        where absent), `event` (text) and `value` (float64) where the file has them, and the context columns, as text
        unless they are numbers or truth values.

    Raises DataError: times or coordinates that cannot be understood without a setting.
    """
    typed = raw.with_columns(
        *_ids(raw, source, whole_item_ids, notes),
        *_times(raw["time"], time_format, source, notes),
        *_places(raw, source, coordinates, notes),
        _offsets(raw, notes).alias("_utc_offset_minutes"),
        _zones(raw, source, notes).alias("_zone"),
    )
    typed = typed.with_columns(pl.coalesce("_zone", "_time_zone"))
    typed = _reject_incomplete(typed, time_format, source, rejects)
    kept = _reject_bad_numbers(typed, raw.columns, source, rejects)
    if item_ids is not None:
        unknown = ~pl.col("_item_id").is_in(item_ids.implode())
        kept = rejects.take(kept, unknown, source=source, reason="unknown item", detail=pl.col("_item_id"))
    names = ("user_id", "item_id", "time", "utc_offset_minutes", "latitude", "longitude", "hour_known")
    ours = (pl.col(f"_{name}").alias(name) for name in names)
    outcomes = _outcomes(kept.drop(context_columns), source, notes)
    context = [_context(kept, name, source, notes) for name in context_columns]
    events = kept.select(ROW, *ours, "_has_offset", "_cell_offset", "_zone", *outcomes, *context)
    again = copies(events)
    if again.any():
        found = kept.filter(again).select(ROW, _cells("user_id", "item_id", "time").alias("detail"))
        rejects.add(found, source=source, reason="duplicate")
        events = events.filter(~again)
    _note_times(events, notes)
    return events


def _reject_incomplete(typed: pl.DataFrame, time_format: str | None, source: str, rejects: Rejects) -> pl.DataFrame:
    """Those with a user, an item and a time."""
    by = f" (time_format is {time_format!r})" if time_format else ""
    for bad, reason, detail in (
        (pl.col("_user_id").is_null(), "missing user", _absent("user_id")),
        (pl.col("_item_id").is_null(), "missing item", _absent("item_id")),
        (pl.col("_time").is_null(), "unparsable time", pl.col("time").cast(pl.String) + pl.lit(by)),
    ):
        typed = rejects.take(typed, bad, source=source, reason=reason, detail=detail)
    return typed


def copies(events: pl.DataFrame) -> pl.Series:
    """Which events (bool) are equal to an earlier one in all but their row."""
    values = events.drop(ROW)
    # By hashes first: to compare all rows would take more memory than anything else here.
    repeated = values.hash_rows().is_duplicated()
    if not repeated.any():
        return repeated
    first = values.filter(repeated).select(pl.struct(pl.all()).is_first_distinct()).to_series()
    return repeated.scatter(repeated.arg_true().filter(first), False)


def _note_times(events: pl.DataFrame, notes: Notes) -> None:
    if odd := events.select(suspicious(pl.col("time")).sum()).item():
        notes["events at dates that programs write for none, such as 1970-01-01 or 9999-12-31"] += odd
    if unknown_hours := int((~events["hour_known"]).sum()):
        notes["events whose hour is not known: prompts show none, and rankers go by the day"] += unknown_hours


def clean_items(
    raw: pl.DataFrame,
    *,
    source: str,
    rejects: Rejects,
    notes: Notes,
    time_format: str | None = None,
    coordinates: Coordinates = "as_given",
    whole_ids: bool = False,
) -> pl.DataFrame:
    """Typed items in the order of their file: `item_id`, further columns as they are, coordinates as float64.

    A row without `item_id` or with one that came before is rejected. Coordinates that are no place become null, and the
    item stays: it can still be recommended. So does one whose `available_from` (the time from which on the item is
    known; time as in events) cannot be read: it counts as always known, and `notes` counts it. Text that is a usual
    mark for a missing value is null. `whole_ids`: see `are_whole`.
    """
    note_ids(raw["item_id"], notes, f"{source}, item_id", whole=whole_ids)
    kept = raw.with_columns(to_ids(raw["item_id"], whole=whole_ids).alias("_item_id"))
    absent = pl.col("_item_id").is_null()
    kept = rejects.take(kept, absent, source=source, reason="missing item", detail=_absent("item_id"))
    kept = kept.with_columns(pl.col("_item_id").alias("item_id")).drop("_item_id")
    repeated = ~pl.col("item_id").is_first_distinct()
    kept = rejects.take(kept, repeated, source=source, reason="repeated item", detail=pl.col("item_id"))
    if {"latitude", "longitude"} <= set(kept.columns):
        degrees = [counted_degrees(kept[x], notes, f"{source}, {x}") for x in ("latitude", "longitude")]
        setting = "histories.items.coordinates"
        kept = kept.with_columns(
            *clean_places(degrees[0], degrees[1], coordinates, what=source, setting=setting, notes=notes)
        )
        placed = _on_earth(pl.col("latitude"), pl.col("longitude"))
        kept = kept.with_columns(pl.when(placed).then(name).alias(name) for name in ("latitude", "longitude"))
    if _AVAILABLE_FROM in kept.columns:
        since, given = to_times(kept[_AVAILABLE_FROM], time_format), given_cells(kept[_AVAILABLE_FROM])
        if unread := int((given & since.is_null()).sum()):
            notes["items whose available_from cannot be read, taken as always known"] += unread
        kept = kept.with_columns(since)
        if odd := kept.select(suspicious(pl.col(_AVAILABLE_FROM)).sum()).item():
            notes["items available from dates that programs write for none, such as 0001-01-01 or 9999-12-31"] += odd
    return _without_marks(kept, source, notes).select("item_id", pl.exclude("item_id", ROW))


def _without_marks(items: pl.DataFrame, source: str, notes: Notes) -> pl.DataFrame:
    """Text columns of items in which marks for a missing value are null, counted by column; other text is as it was."""
    cleaned = []
    for name in items.columns:
        if items.schema[name] != pl.String or name == "item_id":
            continue
        column = pl.select(pl.when(pl.lit(to_text(items[name])).is_not_null()).then(pl.lit(items[name]))).to_series()
        marks = int((items[name].str.strip_chars() != "").sum()) - column.count()
        if marks:
            notes[f"{source}, {name}: marks such as NA, taken as missing"] += marks
            cleaned.append(column.alias(name))
    return items.with_columns(cleaned)


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
    names = ("latitude", "longitude")
    places = items.select("item_id", *names)
    of_item = events.select("item_id").join(places, on="item_id", how="left", maintain_order="left")
    own = events["latitude"].is_not_null()
    return events.with_columns(events[name].zip_with(own, of_item[name]) for name in names)


def require_events(events: pl.DataFrame, source: str, rejects: Rejects) -> None:
    """Raise DataError where no event is usable; it names the first rejected row."""
    if events.height:
        return
    found = rejects.table().filter(pl.col("source") == source).head(1)
    first = "".join(f"; row {row}: {reason} ({detail})" for _, row, reason, detail in found.iter_rows())
    raise DataError(f"{source} should hold usable events but each of its rows was rejected{first}; see its columns.")


def _ids(raw: pl.DataFrame, source: str, whole_item_ids: bool, notes: Notes) -> list[pl.Series]:
    found = []
    for name, whole in (("user_id", are_whole(raw["user_id"])), ("item_id", whole_item_ids)):
        note_ids(raw[name], notes, f"{source}, {name}", whole=whole)
        found.append(to_ids(raw[name], whole=whole).alias(f"_{name}"))
    return found


def _times(cells: pl.Series, time_format: str | None, source: str, notes: Notes) -> list[pl.Series]:
    """`_time` and what its cells say of offset, zone and hour. Raises DataError: they cannot be understood."""
    times = read_times(cells, time_format)
    if times.problem:
        raise DataError(f"{source} should have times, but {times.problem}.")
    notes.remarks += [f"{source}: {remark}" for remark in times.remarks]
    return [
        times.time.alias("_time"), times.has_offset.alias("_has_offset"), times.offset_minutes.alias("_cell_offset"),
        known_zones(times.zone).alias("_time_zone"), times.hour_known.alias("_hour_known"),
    ]  # fmt: skip


def _places(raw: pl.DataFrame, source: str, how: Coordinates, notes: Notes) -> list[pl.Series]:
    names = ("latitude", "longitude")
    if not set(names) <= set(raw.columns):
        return [pl.Series(f"_{x}", [None], dtype=pl.Float64).new_from_index(0, raw.height) for x in names]
    degrees = [to_degrees(raw[x]).alias(f"_{x}") for x in names]
    setting = "histories.events.coordinates"
    return list(clean_places(degrees[0], degrees[1], how, what=source, setting=setting, notes=notes))


def _offsets(raw: pl.DataFrame, notes: Notes) -> pl.Series:
    """Minutes from UTC: float64, null where not given or unread. Size distinguishes hours, minutes and seconds."""
    if "utc_offset_minutes" not in raw.columns:
        return pl.Series([None], dtype=pl.Float64).new_from_index(0, raw.height)
    cells = raw["utc_offset_minutes"]
    numbers, spelt = to_floats(cells), None
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        spelt = text.set(
            ~text.str.contains(r"^([+-]\d{1,2}:\d{2}|[+-]0\d{3}|[+-]1[0-4][03]0|[Zz])$").fill_null(False), None
        )
        numbers = numbers.set(spelt.is_not_null(), None)
    usual = numbers.filter((numbers != 0).fill_null(False)).abs().median()
    for largest, unit, minutes in _OFFSET_UNITS:
        if isinstance(usual, float) and usual <= largest:
            if unit != "minutes":
                notes.remarks.append(f"offsets from UTC such as {numbers.drop_nulls()[0]:g} are read as {unit}")
            numbers = numbers * minutes
            break
    if spelt is None:
        return numbers
    return numbers.zip_with(numbers.is_not_null(), pl.select(offset_minutes(pl.lit(spelt))).to_series())


def _zones(raw: pl.DataFrame, source: str, notes: Notes) -> pl.Series:
    """Names of time zones of a column `time_zone`, null where there is none that is known."""
    if "time_zone" not in raw.columns:
        return pl.Series([None], dtype=pl.String).new_from_index(0, raw.height)
    names = to_text(raw["time_zone"])
    zones = known_zones(names)
    if num := zones.null_count() - names.null_count():
        notes[f"{source}, time_zone: no IANA names such as Europe/Berlin, left out"] += num
    return zones


def _absent(name: str) -> pl.Expr:
    """What stands where an id should: nothing, or a mark for nothing."""
    cell = pl.col(name).cast(pl.String)
    return (
        pl.when(cell.str.strip_chars() != "").then(pl.lit(f"{name} is ") + cell).otherwise(pl.lit(f"{name} is empty"))
    )


def _cells(*names: str) -> pl.Expr:
    return pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in names], separator=", ")


def _on_earth(latitude: pl.Expr, longitude: pl.Expr) -> pl.Expr:
    return latitude.is_between(-90, 90) & longitude.is_between(-180, 180)


def _reject_bad_numbers(table: pl.DataFrame, columns: list[str], source: str, rejects: Rejects) -> pl.DataFrame:
    """Coordinates and offsets that are given but no place or no offset; an empty pair of coordinates is fine."""
    if {"latitude", "longitude"} <= set(columns):
        # Cells cleaned of 0, 0 are fine: what is bad is given, and neither both read nor both cleared.
        given = table.select("latitude", "longitude")
        is_given = given_cells(given["latitude"]) | given_cells(given["longitude"])
        zero = (to_degrees(given["latitude"]) == 0) & (to_degrees(given["longitude"]) == 0)
        bad = pl.lit(is_given & ~zero.fill_null(False)) & ~_on_earth(
            pl.col("_latitude"), pl.col("_longitude")
        ).fill_null(False)
        detail = _cells("latitude", "longitude")
        table = rejects.take(table, bad, source=source, reason="coordinates out of range", detail=detail)
    if "utc_offset_minutes" in columns:
        offset = pl.col("_utc_offset_minutes")
        bad = pl.lit(given_cells(table["utc_offset_minutes"])) & ~offset.is_between(
            -_DAY_MINUTES, _DAY_MINUTES
        ).fill_null(False)
        table = rejects.take(table, bad, source=source, reason="bad UTC offset", detail=pl.col("utc_offset_minutes"))
    return table


def _outcomes(table: pl.DataFrame, source: str, notes: Notes) -> list[pl.Series]:
    """`event` (what happened) and `value` (how much), of which no prompt for that event may speak."""
    found = []
    if "event" in table.columns and not table.schema["event"].is_nested():
        found.append(to_text(table["event"]))
    if "value" in table.columns and not table.schema["value"].is_nested():
        found.append(counted_floats(table["value"], notes, f"{source}, value"))
    return found


def _context(table: pl.DataFrame, name: str, source: str, notes: Notes) -> pl.Series:
    column = table[name]
    if name in WEATHER_COLUMNS and name != "condition":
        return counted_floats(column, notes, f"{source}, {name}")
    return column if column.dtype.is_numeric() or column.dtype == pl.Boolean else to_text(column)
