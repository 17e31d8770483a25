"""What else the moment before an event says: how long ago the last one was, sun, season, holiday, change of weather.

Shapes: N = events.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from ..arrays import Float64
from ..errors import PromptError

TIME_VARIABLES: Final = ("since_last", "sun", "season_here", "public_holiday")
WEATHER_VARIABLES: Final = ("weather_change",)
_SEASONS: Final = ("winter", "spring", "summer", "autumn")
_UNIX_DAYS_OF_J2000: Final = 10957.5  # 2000-01-01 12:00 UTC
# The upper edge of the sun touches the horizon, refraction counted; below civil twilight it is dark.
_SUNRISE_DEGREES, _TWILIGHT_DEGREES = -0.833, -6.0
_CHANGE_HOURS: Final = 24.0  # weather of longer ago is another weather and no change
_CHANGE_C: Final = 5.0


def since_last(events: pl.DataFrame) -> pl.Series:
    """The time since the user's event before in words: '20 minutes', '3 hours', '2 days'; "" for a first event.

    Days of the calendar where the hour of either is not known.
    """
    seconds = (pl.col("time") - pl.col("time").shift(1).over("user_idx")).dt.total_seconds()
    day = pl.col("local_time").dt.date()
    days = (day - day.shift(1).over("user_idx")).dt.total_days()
    minutes, hours = seconds / 60, seconds / 3600
    words = (
        pl.when(seconds.is_null()).then(pl.lit(""))
        .when(minutes < 3).then(pl.lit("moments"))
        .when(minutes < 55).then(_plural((minutes / 10).round().clip(1) * 10, "minute"))
        .when(hours < 21.5).then(_plural(hours.round(), "hour"))
        .otherwise(_long(hours / 24))
    )  # fmt: skip
    if "hour_known" in events.columns:
        known = pl.col("hour_known").fill_null(True)
        both = known & known.shift(1).over("user_idx").fill_null(True)
        by_day = pl.when(days == 0).then(pl.lit("same day")).otherwise(_long(days.cast(pl.Float64))).fill_null("")
        words = pl.when(both).then(words).otherwise(by_day)
    return events.select(words.alias("since_last")).to_series()


def _long(days: pl.Expr) -> pl.Expr:
    return (
        pl.when(days < 13.5).then(_plural(days.round().clip(1), "day"))
        .when(days < 60).then(_plural((days / 7).round(), "week"))
        .otherwise(_plural((days / 30.4).round(), "month"))
    )  # fmt: skip


def _plural(number: pl.Expr, unit: str) -> pl.Expr:
    whole = number.cast(pl.Int64)
    return whole.cast(pl.String) + pl.when(whole == 1).then(pl.lit(f" {unit}")).otherwise(pl.lit(f" {unit}s"))


def sun_words(events: pl.DataFrame, latitude_N: Float64, longitude_N: Float64) -> pl.Series:
    """'day', 'dark', or between them 'dawn' and 'dusk', by the sun at a place (degrees); "" where that is unknown.

    "" too where the hour of an event is not known.
    """
    days_N = events["time"].dt.epoch("ms").to_numpy() / 86_400_000 - _UNIX_DAYS_OF_J2000
    elevation_N, hour_angle_N = solar_elevation(days_N, latitude_N, longitude_N)
    twilight_N = np.where(hour_angle_N < 0, 1, 2)
    kind_N = np.where(elevation_N >= _SUNRISE_DEGREES, 0, np.where(elevation_N >= _TWILIGHT_DEGREES, twilight_N, 3))
    unknown_N = ~np.isfinite(elevation_N)
    if "hour_known" in events.columns:
        unknown_N |= ~events["hour_known"].fill_null(True).to_numpy()
    words = pl.Series(["day", "dawn", "dusk", "dark", ""])
    return words.gather(np.where(unknown_N, 4, kind_N)).alias("sun")


def solar_elevation(days_N: Float64, latitude_N: Float64, longitude_N: Float64) -> tuple[Float64, Float64]:
    """The sun's elevation and hour angle (negative before noon) in degrees; `days_N` in days since J2000.0 (UTC).

    The Astronomical Almanac's low-precision formulas, good to 0.01 degrees from 1950 to 2050 (Michalsky, "The
    Astronomical Almanac's algorithm for approximate solar position", Solar Energy 40(3), 1988). Without refraction.
    """
    anomaly_N = np.radians(357.528 + 0.9856003 * days_N)
    ecliptic_N = np.radians(280.460 + 0.9856474 * days_N + 1.915 * np.sin(anomaly_N) + 0.020 * np.sin(2 * anomaly_N))
    obliquity_N = np.radians(23.439 - 4e-7 * days_N)
    ascension_N = np.arctan2(np.cos(obliquity_N) * np.sin(ecliptic_N), np.cos(ecliptic_N))
    declination_N = np.arcsin(np.sin(obliquity_N) * np.sin(ecliptic_N))
    sidereal_N = 15 * (18.697374558 + 24.06570982441908 * days_N) + longitude_N  # IAU 1982 mean sidereal time
    hour_angle_N = (sidereal_N - np.degrees(ascension_N) + 180) % 360 - 180
    around_N, latitude_N = np.radians(hour_angle_N), np.radians(latitude_N)
    height_N = np.sin(latitude_N) * np.sin(declination_N)
    height_N = height_N + np.cos(latitude_N) * np.cos(declination_N) * np.cos(around_N)
    return np.degrees(np.arcsin(np.clip(height_N, -1, 1))), hour_angle_N


def season_here(events: pl.DataFrame, latitude_N: Float64) -> pl.Series:
    """The meteorological season of the hemisphere of a place; the northern one where the place is unknown."""
    quarter_N = events["local_time"].dt.month().to_numpy().astype(np.int64) % 12 // 3
    south_N = np.nan_to_num(latitude_N) < 0
    return pl.Series(_SEASONS).gather((quarter_N + 2 * south_N) % 4).alias("season_here")


def public_holiday(events: pl.DataFrame, country: str) -> pl.Series:
    """The name of the public holiday of each event's local day, in English where there is one; "" on other days.

    `country` is an ISO 3166 code, with a subdivision behind a hyphen if wanted: US, US-NY, DE-BY. Raises PromptError
    where it is none that the package `holidays` knows, or where that is not installed.
    """
    try:
        import holidays
    except ImportError:
        raise PromptError(
            "The template uses public_holiday, which needs the package holidays: pip install 'whereupon[holidays]'."
        ) from None
    if not country:
        raise PromptError("The template uses public_holiday; set prompts.holiday_country to a country such as US.")
    years = events["local_time"].dt.year().unique().drop_nulls().to_list()
    code, _, part = country.partition("-")
    try:
        found = holidays.country_holidays(code, subdiv=part or None, years=years)
    except NotImplementedError:
        raise PromptError(
            f"prompts.holiday_country is {country!r}; expected a country that the package holidays knows, "
            "such as US or DE-BY."
        ) from None
    names = dict(found.items())
    day = pl.col("local_time").dt.date()
    word = day.replace_strict(list(names), list(names.values()), default="", return_dtype=pl.String)
    return events.select(
        (word if names else pl.lit("").repeat_by(pl.len()).explode()).alias("public_holiday")
    ).to_series()


def weather_change(events: pl.DataFrame, told: pl.DataFrame) -> pl.Series:
    """What is new since the user's event before, of at most a day ago: 'rain began', 'snow ended', 'warmer', 'colder'.

    `told` are the words of `context_frame` for the same events. "" where nothing is new or either weather is unknown.
    """
    # A forecast says so behind its word, which is no change of the weather.
    told = told.with_columns(pl.col("precipitation_word").str.strip_suffix("forecast").str.strip_chars_end())
    measured = [name for name in ("precipitation_mm", "snowfall_cm", "condition") if name in events.columns]
    user, hours = events["user_idx"], (events["time"].diff().dt.total_seconds() / 3600).alias("hours")
    known = pl.any_horizontal(pl.col(measured).is_not_null()) if measured else pl.col("time").is_null()
    frame = told.select("precipitation_word", "temperature_c").with_columns(
        same=user == user.shift(1), hours=hours, known=pl.lit(events.select(known).to_series())
    )
    fall, celsius = pl.col("precipitation_word"), pl.col("temperature_c")
    before, near = fall.shift(1), pl.col("same") & (pl.col("hours") <= _CHANGE_HOURS)
    falls = (
        pl.when(fall == before).then(pl.lit(""))
        .when(fall != "").then(fall + " began")
        .otherwise(before + " ended")
    )  # fmt: skip
    rise = celsius.cast(pl.Float64) - celsius.shift(1).cast(pl.Float64)
    warmth = pl.when(rise >= _CHANGE_C).then(pl.lit("warmer")).when(rise <= -_CHANGE_C).then(pl.lit("colder"))
    falls = pl.when(pl.col("known") & pl.col("known").shift(1)).then(falls).otherwise(pl.lit(""))
    words = pl.when(falls != "").then(falls).otherwise(warmth)
    return frame.select(pl.when(near).then(words).fill_null("").alias("weather_change")).to_series()
