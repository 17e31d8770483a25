"""The raw tables of one data set, under our column names: as recipes give them, or read as the settings describe."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from ..errors import ConfigError, DataError
from .events import clean_items
from .parsing import are_whole
from .reading import Reading, read_table
from .rejects import Notes, Rejects
from .settings import HistoriesSettings, Location, TableSettings
from .weather import SOURCE_FIELDS, WEATHER_COLUMNS

_EVENT_FIELDS = ("user_id", "item_id", "time", "utc_offset_minutes", "time_zone", "latitude", "longitude")
_OUTCOME_FIELDS = ("event", "value")
_PLACE = ("latitude", "longitude")
_QUANTITIES = tuple(name for name in SOURCE_FIELDS if name not in ("time", "local_day", "condition"))
_BROKEN = "broken line"
_RESERVED = {*_EVENT_FIELDS, "hour_known", "user_idx", "item_idx", "local_time", "split"}


@dataclass(frozen=True)
class Source:
    """Raw tables as `read_table` gives them, the names of their files, and what is known about them.

    Attributes:
        items: None where the events alone say which items there are.
        files: every file read, for the manifest.
        settings: the settings with what the recipe filled in.
        title: Jinja template of the recipe's titles over item columns; None takes the column `title`.
        num_left_out: events outside of the requested slice.
        said: for people: how the files were read.
        notes: counts of what was repaired in reading.
    """

    events: pl.DataFrame
    items: pl.DataFrame | None
    weather: pl.DataFrame | None
    events_name: str
    items_name: str
    weather_name: str
    files: list[Path]
    settings: HistoriesSettings
    location: Location
    title: str | None = None
    num_left_out: int = 0
    said: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


def read_items(table: TableSettings) -> tuple[pl.DataFrame, Rejects, bool]:
    """The items of a table alone, as `clean_items` gives them, the rows that were rejected, and whether all is text.

    Raises DataError: a file that is missing or cannot be read, lacks a column, or has no usable row.
    """
    rejects = Rejects()
    reading = read_table(table, what="items", required=("item_id",), numeric=_PLACE)
    rejects.add(reading.broken, source=table.name, reason=_BROKEN)
    items = clean_items(
        reading.table, source=table.name, rejects=rejects, notes=Notes(), time_format=table.time_format,
        coordinates=table.coordinates, whole_ids=are_whole(reading.table["item_id"]),
    )  # fmt: skip
    if not items.height:
        raise DataError(
            f"{table.name} should hold items but each of its {reading.table.height} rows is rejected; correct them."
        )
    return items, rejects, reading.is_text


def read_tables(settings: HistoriesSettings, rejects: Rejects, title: str | None = None) -> Source:
    """The tables that the settings describe; `title` is the recipe's template of titles.

    Lines that cannot be read are added to `rejects`. Raises ConfigError: no table of events, or a context column that
    cannot be one. DataError: a file is missing or lacks a column.
    """
    if settings.events is None:
        raise ConfigError("histories.events should describe the table of events (path, columns); add it.")
    _check_context(settings)
    events = _events(settings, settings.events)
    items = weather = None
    if settings.items is not None:
        items = read_table(settings.items, what="items", required=("item_id",), numeric=_PLACE)
    if settings.weather is not None:
        weather = read_table(settings.weather, what="weather", required=(), known=SOURCE_FIELDS, numeric=_QUANTITIES)
    return _source(settings, rejects, title, events, items, weather)


def _events(settings: HistoriesSettings, table: TableSettings) -> Reading:
    context = settings.context_columns
    reading = read_table(
        table,
        what="events",
        required=("user_id", "item_id", "time", *context),
        known=(*_EVENT_FIELDS, *_OUTCOME_FIELDS, *context),
        numeric=(*_PLACE, "utc_offset_minutes", "value", *context),
    )
    _demand_pair(reading.table, table)
    return reading


def _source(
    settings: HistoriesSettings,
    rejects: Rejects,
    title: str | None,
    events: Reading,
    items: Reading | None,
    weather: Reading | None,
) -> Source:
    tables = ((settings.events, events), (settings.items, items), (settings.weather, weather))
    read = [(table, reading) for table, reading in tables if table is not None and reading is not None]
    for table, reading in read:
        rejects.add(reading.broken, source=table.name, reason=_BROKEN)
    said = [line for _, reading in read for line in reading.said]
    return Source(
        events=events.table,
        items=items.table if items else None,
        weather=weather.table if weather else None,
        events_name=settings.events.name if settings.events else "",
        items_name=settings.items.name if settings.items else "",
        weather_name=settings.weather.name if settings.weather else "",
        files=[file for _, reading in read for file in reading.files],
        settings=settings,
        location=settings.location or "outcome",
        title=title,
        said=said,
        notes=sum((reading.notes for _, reading in read), Counter[str]()),
    )


def _check_context(settings: HistoriesSettings) -> None:
    for name in settings.context_columns:
        if name in _RESERVED or name.startswith("_"):
            raise ConfigError(f"histories.context_columns names {name!r}, which is no further column; take it out.")
        if name in WEATHER_COLUMNS and settings.weather is not None:
            raise ConfigError(f"histories.context_columns names {name!r}, which the weather table gives; drop one.")


def _demand_pair(events: pl.DataFrame, settings: TableSettings) -> None:
    found = {"latitude", "longitude"} & set(events.columns)
    if len(found) == 1:
        raise DataError(
            f"{settings.name} should have latitude and longitude or neither but has only {found.pop()}; "
            "name the other in histories.events.columns."
        )
