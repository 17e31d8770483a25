"""Known files of weather as they are downloaded: recognised by their columns, and how their settings read.

The units are those that the publishers document. Where one name stands for several units (GHCN-Daily in tenths,
metric or US units; OpenWeather in Kelvin or Celsius), the numbers decide, and a comment says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from .settings import TimesMeaning
from .weather_cells import QUANTITY_FIELDS

OPEN_METEO_HEAD: Final = "latitude,longitude,elevation,utc_offset_seconds,timezone"
OPEN_METEO_SKIPS: Final = 3  # two lines on the place, and an empty one
_WARMEST_C: Final = 60.0
_WARMEST_F: Final = 135.0
_KELVIN: Final = 180.0
_UNIT: Final = re.compile(r"^(.*?) \((.*)\)$")
# Open-Meteo's variable and unit -> our field and the factor of its numbers; the likeliest variable first.
_OPEN_METEO: Final = {
    ("temperature_2m", "°C"): ("temperature_c", 1.0), ("temperature_2m", "°F"): ("temperature_f", 1.0),
    ("temperature_2m_mean", "°C"): ("temperature_c", 1.0), ("temperature_2m_mean", "°F"): ("temperature_f", 1.0),
    ("temperature_2m_max", "°C"): ("temperature_max_c", 1.0), ("temperature_2m_max", "°F"): ("temperature_max_f", 1.0),
    ("temperature_2m_min", "°C"): ("temperature_min_c", 1.0), ("temperature_2m_min", "°F"): ("temperature_min_f", 1.0),
    ("precipitation", "mm"): ("precipitation_mm", 1.0), ("precipitation", "inch"): ("precipitation_in", 1.0),
    ("precipitation_sum", "mm"): ("precipitation_mm", 1.0), ("precipitation_sum", "inch"): ("precipitation_in", 1.0),
    ("snowfall", "cm"): ("snowfall_cm", 1.0), ("snowfall", "inch"): ("snowfall_in", 1.0),
    ("snowfall_sum", "cm"): ("snowfall_cm", 1.0), ("snowfall_sum", "inch"): ("snowfall_in", 1.0),
    ("snow_depth", "m"): ("snow_depth_cm", 100.0),
    **{(wind, unit): (f"wind_{ours}", 1.0)
       for wind in ("wind_speed_10m", "windspeed_10m", "wind_speed_10m_mean")
       for unit, ours in (("km/h", "kmh"), ("m/s", "mps"), ("mph", "mph"), ("mp/h", "mph"), ("kn", "kn"))},
}  # fmt: skip


@dataclass(frozen=True)
class WeatherForm:
    """How the settings of one kind of file read: `columns` and `scale` by our names, and lines of comment.

    `place`: latitude and longitude in degrees where the file says them outside its table; None: see its columns.
    """

    name: str
    columns: dict[str, str]
    scale: dict[str, float] = field(default_factory=dict)
    times: TimesMeaning | None = None
    place: tuple[float, float] | None = None
    skip_rows: int = 0
    remarks: tuple[str, ...] = ()


def weather_form(table: pl.DataFrame) -> WeatherForm | None:
    """What kind of weather file a table is from; None where it is of none that is known."""
    return next((form for look in _LOOKS if (form := look(table)) is not None), None)


def open_meteo_form(names: list[str], place: tuple[float, float], utc_offset_s: float) -> WeatherForm:
    """That of a CSV of Open-Meteo, whose first lines say the place, by the names of its columns."""
    found: dict[str, str] = {}
    scale: dict[str, float] = {}
    by_key = {tuple(match.groups()): name for name in names if (match := _UNIT.match(name))}
    for key, (ours, factor) in _OPEN_METEO.items():
        if key in by_key and ours not in found:
            found[ours] = by_key[key]
            if factor != 1:
                scale[ours] = factor
    times: TimesMeaning = "local" if utc_offset_s else "utc"
    return WeatherForm("Open-Meteo", {"time": "time", **found}, scale, times, place, OPEN_METEO_SKIPS)


def _ghcn(table: pl.DataFrame) -> WeatherForm | None:
    if not {"STATION", "DATE"} <= set(table.columns) or not {"TMAX", "TMIN", "PRCP", "TAVG"} & set(table.columns):
        return None
    high = _largest(table, "TMAX", "TAVG", "TMIN")
    fractions = any(_has_fractions(table, name) for name in ("TMAX", "TMIN", "TAVG"))
    us = not fractions and high <= _WARMEST_F and _has_fractions(table, "PRCP")
    metric = fractions and not us
    units = ("f", "in", "mph") if us else ("c", "mm", "mps")
    snow = ("snowfall_in", "snow_depth_in") if us else ("snowfall_cm", "snow_depth_cm")
    columns = _present(table, {
        f"temperature_{units[0]}": "TAVG", f"temperature_max_{units[0]}": "TMAX", f"temperature_min_{units[0]}": "TMIN",
        f"precipitation_{units[1]}": "PRCP", snow[0]: "SNOW", snow[1]: "SNWD", f"wind_{units[2]}": "AWND",
    })  # fmt: skip
    if {f"temperature_max_{units[0]}", f"temperature_min_{units[0]}"} <= columns.keys():
        columns.pop(f"temperature_{units[0]}", None)  # stations with extremes have few means
    scale = {} if us else dict.fromkeys((name for name in columns if name.startswith("snow")), 0.1)
    if not us and not metric:
        scale |= {name: 0.1 for name in columns if not name.startswith("snow")}
    said = "US units" if us else "degrees Celsius and mm" if metric else "tenths of degrees and of mm"
    remark = f"its numbers look like {said}, and snow like {'inches' if us else 'mm'}: compare a few with what you know"
    return WeatherForm("GHCN-Daily (NOAA)", {"local_day": "DATE", **_place(table), **columns}, scale, remarks=(remark,))


def _gsod(table: pl.DataFrame) -> WeatherForm | None:
    if not {"STATION", "DATE", "TEMP", "WDSP", "PRCP"} <= set(table.columns):
        return None
    columns = {"temperature_f": "TEMP", "precipitation_in": "PRCP", "snow_depth_in": "SNDP", "wind_kn": "WDSP"}
    remark = "days are those of UTC, not of the local calendar"
    days = {"local_day": "DATE", **_place(table), **_present(table, columns)}
    return WeatherForm("Global Summary of the Day (NOAA)", days, remarks=(remark,))


def _isd(table: pl.DataFrame) -> WeatherForm | None:
    if not {"STATION", "DATE", "TMP", "WND"} <= set(table.columns):
        return None
    columns = _present(table, {"temperature_c": "TMP", "precipitation_mm": "AA1", "wind_mps": "WND"})
    return WeatherForm(
        "Integrated Surface Data (NOAA), coded fields in tenths",
        {"time": "DATE", **_place(table), **columns}, times="utc",
    )  # fmt: skip


def _lcd(table: pl.DataFrame) -> WeatherForm | None:
    if not {"STATION", "DATE", "HourlyDryBulbTemperature"} <= set(table.columns):
        return None
    metric = _has_fractions(table, "HourlyDryBulbTemperature")  # version 2; version 1 has whole degrees Fahrenheit
    temperature, fall, wind = ("c", "mm", "mps") if metric else ("f", "in", "mph")
    columns = _present(table, {
        f"temperature_{temperature}": "HourlyDryBulbTemperature", f"precipitation_{fall}": "HourlyPrecipitation",
        f"wind_{wind}": "HourlyWindSpeed",
    })  # fmt: skip
    units = "Celsius, mm and m/s, as in version 2" if metric else "Fahrenheit, inches and mph, as in version 1"
    remarks = (f"its numbers look like {units}", "its clock has no summer time: in summer it is an hour behind")
    return WeatherForm(
        "Local Climatological Data (NOAA)", {"time": "DATE", **_place(table), **columns}, times="local",
        remarks=remarks,
    )  # fmt: skip


def _era5(table: pl.DataFrame) -> WeatherForm | None:
    time = next((name for name in ("valid_time", "time") if name in table.columns), None)
    if time is None or "t2m" not in table.columns:
        return None
    unit = "k" if _largest(table, "t2m") > _KELVIN else "c"
    columns = _present(table, {f"temperature_{unit}": "t2m", "precipitation_m": "tp"})
    remarks = (
        "u10 and v10 are the parts of the wind to the east and to the north: add a column of its speed to use it",
    )
    place = _place(table)
    return WeatherForm("ERA5 (Copernicus)", {"time": time, **place, **columns}, times="utc", remarks=remarks)


def _openweather(table: pl.DataFrame) -> WeatherForm | None:
    if not {"dt", "temp", "weather_main"} <= set(table.columns):
        return None
    unit = "k" if _largest(table, "temp") > _KELVIN else "f" if _largest(table, "temp") > _WARMEST_C else "c"
    wind = "mph" if unit == "f" else "mps"
    columns = _present(
        table, {f"temperature_{unit}": "temp", "precipitation_mm": "rain_1h", f"wind_{wind}": "wind_speed"}
    )
    words = {"k": "Kelvin", "c": "degrees Celsius", "f": "degrees Fahrenheit"}
    remarks = (f"its temperatures look like {words[unit]}", "snow_1h is in mm of water and is left out")
    return WeatherForm(
        "OpenWeather", {"time": "dt", **_place(table), **columns}, times="utc", remarks=remarks,
    )  # fmt: skip


def _meteostat(table: pl.DataFrame) -> WeatherForm | None:
    names = set(table.columns)
    time = next((name for name in ("time", "date") if name in names), None)
    if time is None or not {"prcp", "wspd", "pres"} <= names or not {"temp", "tavg"} & names:
        return None
    if "hour" in names:  # the day and the hour in two columns, as in the bulk files
        return None
    columns = _present(table, {
        "temperature_c": "temp" if "temp" in names else "tavg", "precipitation_mm": "prcp", "snow_depth_cm": "snow",
        "wind_kmh": "wspd",
    })  # fmt: skip
    scale = {"snow_depth_cm": 0.1} if "snow_depth_cm" in columns else {}
    hourly = "temp" in names
    when = {"time": time} if hourly else {"local_day": time}
    return WeatherForm("Meteostat", {**when, **_place(table), **columns}, scale, "utc" if hourly else None)


def _ours(table: pl.DataFrame) -> WeatherForm | None:
    """A table in our own names, such as `whereupon weather` writes."""
    quantities = [name for name in QUANTITY_FIELDS if name in table.columns and name != "condition"]
    when = next((name for name in ("time", "local_day") if name in table.columns), None)
    if when is None or not quantities or {"user_id", "item_id"} & set(table.columns):
        return None
    kept = [name for name in (*quantities, "condition") if name in table.columns]
    return WeatherForm("a weather table in our names", {when: when, **_place(table), **{name: name for name in kept}})


_LOOKS: Final[tuple[Callable[[pl.DataFrame], WeatherForm | None], ...]] = (
    _isd, _lcd, _gsod, _ghcn, _era5, _openweather, _meteostat, _ours,
)  # fmt: skip


def _present(table: pl.DataFrame, columns: Mapping[str, str]) -> dict[str, str]:
    return {ours: theirs for ours, theirs in columns.items() if theirs in table.columns}


def _place(table: pl.DataFrame) -> dict[str, str]:
    by_key = {name.lower(): name for name in table.columns}
    for latitude, longitude in (("latitude", "longitude"), ("lat", "lon")):
        if latitude in by_key and longitude in by_key:
            return {"latitude": by_key[latitude], "longitude": by_key[longitude]}
    return {}


def _largest(table: pl.DataFrame, *names: str) -> float:
    """The 99th percentile of the first of the columns that has numbers, so that no mark for a missing one counts."""
    for name in (name for name in names if name in table.columns):
        numbers = _numbers(table, name)
        if numbers.count():
            return float(numbers.quantile(0.99) or 0.0)
    return 0.0


def _numbers(table: pl.DataFrame, name: str) -> pl.Series:
    numbers = table[name].cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    return numbers.filter(numbers.abs() < 900)  # beyond are marks such as 999.9 and 9999


def _has_fractions(table: pl.DataFrame, name: str) -> bool:
    if name not in table.columns:
        return False
    numbers = _numbers(table, name)
    return bool((numbers % 1 != 0).any())
