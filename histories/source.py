"""The raw tables of one data set, under our column names: as recipes give them, or read as the settings describe."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..errors import ConfigError, DataError
from .events import clean_items
from .parsing import are_whole
from .reading import read_table
from .rejects import Notes, Rejects
from .settings import HistoriesSettings, Location, TableSettings
from .weather import SOURCE_FIELDS, WEATHER_COLUMNS

_EVENT_FIELDS = ("user_id", "item_id", "time", "utc_offset_minutes", "time_zone", "latitude", "longitude")
_OUTCOME_FIELDS = ("event", "value")
_RESERVED = {*_EVENT_FIELDS, "hour_known", "user_idx", "item_idx", "local_time", "split"}


@dataclass(frozen=True)
class Source:
    """Raw tables as `read_table` gives them, the names of their files, and what is known about them.

    Attributes:
        items: None where the events alone say which items there are.
        files: every file read, for the manifest.
        settings: the settings with what the recipe filled in.
        title: Jinja template of the recipe's titles over item columns; None takes the column `title`.
        num_left_out: events outside of the asked slice.
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


def read_items(table: TableSettings) -> tuple[pl.DataFrame, Rejects]:
    """The items of a table alone, as `clean_items` gives them, and the rows that were rejected.

    Raises DataError: a file that is missing or cannot be read, lacks a column, or has no usable row.
    """
    rejects = Rejects()
    raw = read_table(table, what="items", required=("item_id",))
    items = clean_items(
        raw, source=table.path.name, rejects=rejects, notes=Notes(), time_format=table.time_format,
        coordinates=table.coordinates, whole_ids=are_whole(raw["item_id"]),
    )  # fmt: skip
    if not items.height:
        raise DataError(f"{table.path} should hold items but each of its {raw.height} rows is rejected; mend them.")
    return items, rejects


def read_tables(settings: HistoriesSettings, title: str | None = None) -> Source:
    """The tables that the settings describe; `title` is the recipe's template of titles.

    Raises ConfigError: no table of events, or a context column that cannot be one. DataError: a file is missing or
    lacks a column.
    """
    if settings.events is None:
        raise ConfigError("histories.events should describe the table of events (path, columns); add it.")
    _check_context(settings)
    context = settings.context_columns
    known = (*_EVENT_FIELDS, *_OUTCOME_FIELDS, *context)
    events = read_table(settings.events, what="events", required=("user_id", "item_id", "time", *context), known=known)
    _demand_pair(events, settings.events)
    items = weather = None
    if settings.items is not None:
        items = read_table(settings.items, what="items", required=("item_id",))
    if settings.weather is not None:
        weather = read_table(settings.weather, what="weather", required=(), known=SOURCE_FIELDS)
    return Source(
        events=events,
        items=items,
        weather=weather,
        events_name=settings.events.path.name,
        items_name=settings.items.path.name if settings.items else "",
        weather_name=settings.weather.path.name if settings.weather else "",
        files=[table.path for table in (settings.events, settings.items, settings.weather) if table is not None],
        settings=settings,
        location=settings.location or "outcome",
        title=title,
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
            f"{settings.path} should have latitude and longitude or neither but has only {found.pop()}; "
            "name the other in histories.events.columns."
        )
