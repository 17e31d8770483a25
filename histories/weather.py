"""Weather of each event: nearest station, then the latest row that was known by then."""

from collections import Counter

import polars as pl

from ..arrays import Float64, Int64
from ..errors import DataError
from .distance import nearest, points
from .local_time import known_zones, utc_of_wall, zones_at
from .parsing import counted_degrees
from .reading import ROW
from .rejects import Notes, Rejects
from .settings import TimesMeaning, WeatherJoinSettings, WeatherSettings, times_of
from .times import Times, read_times, to_days
from .weather_cells import QUANTITY_FIELDS, quantities

WEATHER_COLUMNS = ("temperature_c", "precipitation_mm", "snowfall_cm", "snow_depth_cm", "wind_mps", "condition")

_PLACE_AND_TIME = ("latitude", "longitude", "time", "local_day")
SOURCE_FIELDS = (*_PLACE_AND_TIME, *QUANTITY_FIELDS)


def clean_weather(
    raw: pl.DataFrame, settings: WeatherSettings, *, source: str, rejects: Rejects, notes: Notes
) -> pl.DataFrame:  # fmt: skip
    """Typed weather rows: `latitude`, `longitude`, `time` (UTC) or `local_day`, and those of WEATHER_COLUMNS it has.

    Days in the column `time` are local days: what is known of a whole day is not known when it begins.

    Raises DataError: neither time nor day, no place, no weather in the table, or times or values that cannot be
    understood without a setting.
    """
    when = next((name for name in ("time", "local_day") if name in raw.columns), None)
    if when is None:
        raise DataError(
            f"{settings.path} should have a column for time or local_day but has only {_names(raw)}; "
            "name it in histories.weather.columns."
        )
    found = quantities(raw, settings, source, notes)
    typed = raw.with_columns(*_places(raw, settings, source, notes), *found.columns)
    cell = pl.col(when).cast(pl.String)
    if when == "time":
        times = read_times(raw["time"], settings.time_format)
        if times.problem:
            raise DataError(f"{source} should have times, but {times.problem}.")
        notes.remarks += [f"{source}: {remark}" for remark in times.remarks]
        if times.time.count() and not times.hour_known.filter(times.time.is_not_null()).any():
            when = "local_day"
            notes.remarks.append(f"{source}: its times are days, read as local_day")
            typed = typed.with_columns(times.time.dt.date().alias("_local_day"))
        else:
            meaning = times_of(settings) or ("utc" if found.coded else None)  # ISD is in UTC throughout
            typed = typed.with_columns(_moments(typed, times, meaning, source, notes))
    else:
        typed = typed.with_columns(to_days(raw[when], settings.time_format).alias(f"_{when}"))
    typed = rejects.take(typed, pl.col(f"_{when}").is_null(), source=source, reason=f"unparsable {when}", detail=cell)
    on_earth = pl.col("_latitude").is_between(-90, 90) & pl.col("_longitude").is_between(-180, 180)
    place = pl.concat_str([pl.col(f"_{x}").cast(pl.String).fill_null("?") for x in _PLACE_AND_TIME[:2]], separator=", ")
    off_earth, reason = ~on_earth.fill_null(False), "coordinates out of range"
    typed = rejects.take(typed, off_earth, source=source, reason=reason, detail=place)
    if typed.height == 0:
        raise DataError(f"{settings.path} should hold usable weather but each row was rejected; see its columns.")
    ours = [f"_{name}" for name in ("latitude", "longitude", when, *WEATHER_COLUMNS) if f"_{name}" in typed.columns]
    return typed.select(pl.col(name).alias(name[1:]) for name in ours)


def _moments(
    typed: pl.DataFrame, times: Times, meaning: TimesMeaning | None, source: str, notes: Notes
) -> pl.Series:  # fmt: skip
    """`_time`: in UTC; a time without an offset is by the clock at its station, unless it is UTC."""
    if times.has_offset.all() or meaning == "utc":
        return times.time.alias("_time")
    zone = known_zones(times.zone)
    zone = zone.zip_with(zone.is_not_null(), zones_at(typed["_latitude"], typed["_longitude"]))
    frame = pl.DataFrame({"time": times.time, "zone": zone}).with_row_index("_at")
    parts = [frame.select("_at", "time").filter(times.has_offset | zone.is_null())]
    for (name,), group in frame.filter(~times.has_offset & zone.is_not_null()).group_by("zone", maintain_order=True):
        moments = utc_of_wall(group["time"], str(name), notes)
        parts.append(group.select("_at", group["time"] if moments is None else moments.alias("time")))
    read = pl.concat(parts).sort("_at")["time"]
    first = (~times.has_offset & times.time.is_not_null()).arg_max() or 0
    if not times.has_offset[first] and zone[first] is not None and read[first] is not None:
        local, utc = times.time[first], read[first]
        notes.remarks.append(
            f"{source}: times without an offset are local: {local:%Y-%m-%d %H:%M} in {zone[first]} is {utc:%H:%M} UTC "
            "(histories.weather.times: utc reads them otherwise)"
        )
    return read.alias("_time")


def join_weather(
    events: pl.DataFrame, weather: pl.DataFrame, settings: WeatherJoinSettings, notes: Counter[str]
) -> pl.DataFrame:
    """Add the weather columns to `events`, null where nothing fits; order and rows stay.

    `events` have `time` (UTC), `local_time`, and the place to look at as `_latitude`, `_longitude` (nullable); `notes`
    counts those without a station, and those whose station has no row at that time.
    """
    stations = weather.select("latitude", "longitude").unique(maintain_order=True).with_row_index("_station")
    # The columns that the join needs: it copies and sorts what it is given, which all columns have no memory for.
    placed = events.select("time", "local_time", _station_of(events, stations, settings.max_distance_km))
    placed = placed.with_row_index("_at")
    rows = weather.join(stations, on=["latitude", "longitude"]).drop("latitude", "longitude")
    rows = rows.with_columns(pl.lit(True).alias("_hit"))
    join = _join_daily if "local_day" in rows.columns else _join_timed
    names = [name for name in WEATHER_COLUMNS if name in weather.columns]
    joined = join(placed, rows, settings).select("_at", "_hit", *names).sort("_at")
    far = int(placed["_station"].is_null().sum())
    misses = joined.height - int(joined["_hit"].fill_null(False).sum()) - far
    for reason, count in (("events without a weather station in reach", far), ("events without a weather row", misses)):
        if count:
            notes[reason] += count
    return events.hstack(joined.select(names))


def _station_of(events: pl.DataFrame, stations: pl.DataFrame, max_distance_km: float) -> pl.Series:
    """`_station` of each event, null where none is in reach."""
    if stations.height == 1 and events["_latitude"].null_count() == events.height:
        return pl.Series("_station", [0], dtype=pl.UInt32).new_from_index(0, events.height)
    # Many events share a place: measure each distinct one once.
    places = events.select("_latitude", "_longitude").unique()
    nearest_P, distance_P = nearest_stations(places.to_numpy(), stations.select("latitude", "longitude").to_numpy())
    found = places.with_columns(pl.Series("_station", nearest_P, pl.UInt32), pl.Series("_km", distance_P))
    found = found.select(
        "_latitude", "_longitude", pl.when(pl.col("_km") <= max_distance_km).then("_station").alias("_station")
    )
    on = ["_latitude", "_longitude"]
    return events.select(on).join(found, on=on, how="left", nulls_equal=True, maintain_order="left")["_station"]


def nearest_stations(places_P2: Float64, stations_S2: Float64) -> tuple[Int64, Float64]:
    """Nearest station of each place by great-circle distance, see `distance.nearest`.

    Both are float64 degrees, latitude and longitude, NaN for an unknown place; at least one station.
    """
    place_P3, station_S3 = (
        points(latitude=one_X2[:, 0], longitude=one_X2[:, 1]) for one_X2 in (places_P2, stations_S2)
    )
    return nearest(place_P3, station_S3)


def _join_timed(events: pl.DataFrame, rows: pl.DataFrame, settings: WeatherJoinSettings) -> pl.DataFrame:
    delay = pl.duration(microseconds=round(settings.delay_minutes * 60e6))
    tolerance = pl.duration(microseconds=round(settings.tolerance_hours * 3600e6))
    # The last of several rows of one time counts, as a correction would be appended.
    known = rows.with_columns((pl.col("time") + delay).alias("_known")).drop("time").sort("_known", maintain_order=True)
    joined = (
        events.drop("local_time")
        .sort("time")
        .join_asof(
            known,
            left_on="time",
            right_on="_known",
            by="_station",
            strategy="backward",
            coalesce=False,
            check_sortedness=False,  # polars cannot check it within groups; both sides are sorted above
        )
    )
    fresh = pl.col("time") - pl.col("_known") <= tolerance
    found = (pl.when(fresh).then(pl.col(name)).alias(name) for name in rows.columns if name not in ("time", "_station"))
    return joined.select("_at", *found)


def _join_daily(events: pl.DataFrame, rows: pl.DataFrame, settings: WeatherJoinSettings) -> pl.DataFrame:
    days_back = 1 if settings.daily == "previous_day" else 0
    day = pl.col("local_time").dt.date().dt.offset_by(f"-{days_back}d")
    unique = rows.unique(["_station", "local_day"], keep="last", maintain_order=True)
    return events.with_columns(day.alias("local_day")).join(unique, on=["_station", "local_day"], how="left")


def _places(raw: pl.DataFrame, settings: WeatherSettings, source: str, notes: Notes) -> list[pl.Series]:
    places = []
    for name, constant in (("latitude", settings.latitude), ("longitude", settings.longitude)):
        if constant is not None:
            places.append(pl.Series(f"_{name}", [constant], dtype=pl.Float64).new_from_index(0, raw.height))
        elif name in raw.columns:
            places.append(counted_degrees(raw[name], notes, f"{source}, {name}").alias(f"_{name}"))
        else:
            raise DataError(
                f"{settings.path} should say where its station stands but has no column for {name}; "
                f"name it in histories.weather.columns or set histories.weather.{name}."
            )
    return places


def _names(raw: pl.DataFrame) -> str:
    return ", ".join(name for name in raw.columns if name != ROW)
