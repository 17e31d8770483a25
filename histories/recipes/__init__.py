"""Where the raw tables come from: files that the configuration describes, or a public data set by name."""

import polars as pl

from ...errors import ConfigError, DataError
from ..events import clean_items
from ..reading import read_table
from ..rejects import Rejects
from ..settings import HistoriesSettings, TableSettings, WeatherSettings
from ..source import Source
from ..weather import SOURCE_FIELDS, WEATHER_COLUMNS
from .flights import read_flights
from .movielens import read_movielens

__all__ = ["read_items", "read_source"]

_EVENT_FIELDS = ("user_id", "item_id", "time", "utc_offset_minutes", "latitude", "longitude")
_OUTCOME_FIELDS = ("event", "value")
_RESERVED = {*_EVENT_FIELDS, "user_idx", "item_idx", "local_time", "split"}

_SLICE = {"carriers", "max_users", "from_date", "to_date"}
_TABLES = {"events", "items", "weather", "context_columns"}
_FOREIGN = {
    "tables": _SLICE | {"path"},
    "nyc-checkins": _SLICE | _TABLES,
    "nycflights13": _TABLES | {"path"},
    "movielens-100k": _SLICE | _TABLES,
}

# "Gym / Fitness Center" -> Gym, "Home (private)" -> Home; "Times Sq/Theatre District" -> Times Sq
_NYC_TITLE = (
    "{{ [category.split(' (')[0].split(' / ')[0].strip(), neighbourhood.split('/')[0].strip()] | select | join(', ') }}"
)
_NYC_WEATHER = {
    "local_day": "DATE",
    "wind_mph": "AWND",
    "precipitation_in": "PRCP",
    "snowfall_in": "SNOW",
    "snow_depth_in": "SNWD",
    "temperature_max_f": "TMAX",
    "temperature_min_f": "TMIN",
}
_CENTRAL_PARK = (40.7790, -73.9692)


def read_source(settings: HistoriesSettings, rejects: Rejects) -> Source:
    """Read the raw tables of a recipe.

    Raises:
        ConfigError: a setting that the recipe needs is missing, or one that means nothing to it is given.
        DataError: a file is missing or lacks a column, or the package of the data is not installed.
    """
    _refuse_foreign(settings)
    if settings.recipe == "nycflights13":
        return read_flights(settings, rejects)
    if settings.recipe == "movielens-100k":
        return read_movielens(settings)
    if settings.recipe == "nyc-checkins":
        return _read_tables(_nyc_checkins(settings), title=_NYC_TITLE)
    return _read_tables(settings)


def read_items(table: TableSettings) -> tuple[pl.DataFrame, Rejects]:
    """The items of a table alone, as `clean_items` gives them, and the rows that were rejected.

    Raises:
        DataError: a file that is missing or cannot be read, lacks a column, or has no usable row.
    """
    rejects = Rejects()
    raw = read_table(table, what="items", required=("item_id",))
    items = clean_items(raw, source=table.path.name, rejects=rejects)
    if not items.height:
        raise DataError(f"{table.path} should hold items but each of its {raw.height} rows is rejected; mend them.")
    return items, rejects


def _refuse_foreign(settings: HistoriesSettings) -> None:
    for name in sorted(_FOREIGN[settings.recipe] & settings.model_fields_set):
        if getattr(settings, name) != HistoriesSettings.model_fields[name].get_default(call_default_factory=True):
            raise ConfigError(f"histories.{name} means nothing to the recipe {settings.recipe!r}; take it out.")


def _read_tables(settings: HistoriesSettings, title: str | None = None) -> Source:
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


def _nyc_checkins(settings: HistoriesSettings) -> HistoriesSettings:
    """The three files of the folder, as tables with their columns named."""
    folder = settings.path
    if folder is None:
        raise ConfigError("histories.path should name the folder with checkins.csv, venues.csv and weather; add it.")
    if not folder.is_dir():
        raise DataError(f"{folder} should be the folder of nyc-checkins but does not exist; check histories.path.")
    latitude, longitude = _CENTRAL_PARK
    weather = folder / "weather_central_park_daily.csv"
    events = TableSettings(path=folder / "checkins.csv", columns={"item_id": "venue_id", "time": "utc_time"})
    return settings.model_copy(
        update={
            "events": events,
            "items": TableSettings(path=folder / "venues.csv", columns={"item_id": "venue_id"}),
            "weather": WeatherSettings(path=weather, columns=_NYC_WEATHER, latitude=latitude, longitude=longitude),
        }
    )
