"""`whereupon weather`: hourly observations of the stations near a run's events, as a table that `prepare` joins.

The service is Meteostat (https://dev.meteostat.net), by its Python package. FILE.source.json beside the table names the
source, the licences of its providers and the time of the request; `prepare` copies it into the manifest.
"""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import polars as pl

from ..console import say, tracked
from ..errors import ConfigError, DataError, first_line
from ..files import atomic_path, write_json
from .distance import has_coordinates
from .settings import WeatherSettings
from .store import Histories

if TYPE_CHECKING:
    import pandas as pd

CELL_DEGREES: Final = 0.5  # events are grouped by cells of this size; about 55 km from south to north
MOST_CELLS: Final = 50
STATIONS_PER_CELL: Final = 2
RADIUS_M: Final = 50_000
_COLUMNS: Final = {"temp": "temperature_c", "prcp": "precipitation_mm", "wspd": "wind_kmh"}
SOURCE_SUFFIX: Final = ".source.json"


def fetch_weather(histories: Histories, out: Path, station: WeatherSettings | None = None) -> int:
    """Write the hourly weather of all stations near the events, from a day before the first event to the last.

    How many rows were written: station_id, latitude, longitude, time (UTC), temperature_c, precipitation_mm, wind_kmh.
    The coordinates of `station` are used where neither events nor items have any. The busiest `MOST_CELLS` cells are
    requested; events in others are counted. Raises ConfigError: meteostat is missing, or no place is known. DataError:
    the service did not answer, or knows no station.
    """
    if importlib.util.find_spec("meteostat") is None:
        raise ConfigError("`whereupon weather` needs the package meteostat: pip install 'whereupon[weather]'.")
    cells = busiest_cells(histories, station)
    times = histories.events["time"]
    first, last = cast(datetime, times.min()), cast(datetime, times.max())
    start = (first - timedelta(days=1)).replace(tzinfo=None)
    frame, attribution, licences = _observations(cells, start, last.replace(tzinfo=None))
    with atomic_path(out) as path:
        frame.write_csv(path)
    write_json(out.with_name(out.name + SOURCE_SUFFIX), {
        "source": "Meteostat, hourly observations", "attribution": attribution, "licences": licences,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
    })  # fmt: skip
    stations = frame["station_id"].n_unique()
    say(f"{frame.height:,} hours of {stations} stations are in {out}; set histories.weather.path to it")
    return frame.height


def busiest_cells(histories: Histories, station: WeatherSettings | None) -> pl.DataFrame:
    """Mean places of the cells with most events: latitude and longitude in degrees, and `events`; most first."""
    if has_coordinates(histories.events):
        points = histories.events.select("latitude", "longitude")
    elif has_coordinates(histories.items):
        places = histories.items.select("latitude", "longitude")
        points = places[histories.events["item_idx"].to_numpy()]
    elif station is not None and station.latitude is not None and station.longitude is not None:
        place = {"latitude": [station.latitude], "longitude": [station.longitude]}
        return pl.DataFrame({**place, "events": [histories.events.height]})
    else:
        raise ConfigError(
            "Neither events nor items have coordinates: set histories.weather.latitude and histories.weather.longitude."
        )
    cell = [(pl.col(name) / CELL_DEGREES).floor().alias(f"{name}_cell") for name in ("latitude", "longitude")]
    cells = (
        points.drop_nulls().with_columns(cell).group_by("latitude_cell", "longitude_cell")
        .agg(pl.col("latitude").mean(), pl.col("longitude").mean(), pl.len().alias("events"))
        .sort("events", "latitude_cell", "longitude_cell", descending=[True, False, False])
    )  # fmt: skip
    if left := int(cells["events"][MOST_CELLS:].sum()):
        say(f"{left:,} events lie in {cells.height - MOST_CELLS:,} cells that are not requested: "
            f"the {MOST_CELLS} busiest are")  # fmt: skip
    return cells.head(MOST_CELLS).select("latitude", "longitude", "events")


def _observations(
    cells: pl.DataFrame, start: datetime, end: datetime
) -> tuple[pl.DataFrame, str, list[dict[str, Any]]]:
    """The table, the attribution that the service requires, and the licences of its providers."""
    import meteostat

    frames: dict[str, pl.DataFrame] = {}
    attributions: set[str] = set()
    licences: dict[str, dict[str, Any]] = {}
    for latitude, longitude, _ in tracked(list(cells.iter_rows()), "downloading weather"):
        try:
            near = meteostat.stations.nearby(meteostat.Point(latitude, longitude), RADIUS_M, STATIONS_PER_CELL)
            for station, row in near.iterrows():
                if str(station) not in frames:
                    series = meteostat.hourly(str(station), start, end)
                    frames[str(station)] = _as_table(str(station), row, series.fetch())
                    attributions.add(str(series.attribution))
                    licences |= {str(one.name or one.url): vars(one) for one in series.licenses}
        except Exception as error:  # its HTTP and database errors are of many kinds
            raise DataError(f"Meteostat did not answer ({first_line(error)}); try again later.") from error
    found = [frame for frame in frames.values() if frame.height]
    if not found:
        raise DataError(
            f"Meteostat has no hourly weather within {RADIUS_M // 1000} km of the events from {start:%Y-%m-%d} to "
            f"{end:%Y-%m-%d}; use a weather table of your own."
        )
    return pl.concat(found), "; ".join(sorted(attributions)), list(licences.values())


def _as_table(station: str, row: pd.Series[Any], found: pd.DataFrame | None) -> pl.DataFrame:
    """One station's hours under our names; no row where there is none."""
    names = ["station_id", "latitude", "longitude", "time", *_COLUMNS.values()]
    if found is None or found.empty:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    table = pl.from_pandas(found.reset_index()).rename(_COLUMNS, strict=False)
    absent = [pl.lit(None, pl.Float64).alias(name) for name in _COLUMNS.values() if name not in table.columns]
    return table.with_columns(
        *absent,
        pl.lit(station).alias("station_id"),
        pl.lit(float(row["latitude"])).alias("latitude"),
        pl.lit(float(row["longitude"])).alias("longitude"),
        pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%SZ"),
    ).select(names)
