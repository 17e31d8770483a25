"""Known just before an event: how long ago the last one was, sun, season, holiday, change of weather.

Shapes: N = events.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from ..arrays import Bool, Float64, Int64
from ..errors import PromptError
from .lookup import words_at

TIME_VARIABLES: Final = ("since_last", "sun", "season_here", "public_holiday")
WEATHER_VARIABLES: Final = ("weather_change",)
_SEASONS: Final = pl.Series(["winter", "spring", "summer", "autumn"])
_SUN: Final = pl.Series(["day", "dawn", "dusk", "dark", ""])
_UNIX_DAYS_OF_J2000: Final = 10957.5  # 2000-01-01 12:00 UTC
# The upper edge of the sun touches the horizon, refraction counted; below civil twilight it is dark.
_SUNRISE_DEGREES, _TWILIGHT_DEGREES = -0.833, -6.0
_CHANGE_HOURS: Final = 24.0  # weather of longer ago is another weather and no change
_CHANGE_C: Final = 5.0


def since_last(events: pl.DataFrame) -> pl.Series:
    """The time since the user's event before in words: '20 minutes', '3 hours', '2 days'; "" for a first event.

    Days of the calendar where the hour of either is not known.
    """
    before_N = _earlier(events)
    seconds_N = np.diff(events["time"].to_numpy().astype("datetime64[us]").astype(np.int64), prepend=0) // 1_000_000
    day_N = events["local_time"].to_numpy().astype("datetime64[D]").astype(np.int64)
    code_N, number_N = _of_seconds(seconds_N)
    if "hour_known" in events.columns:
        known_N = events["hour_known"].fill_null(True).to_numpy()
        both_N = known_N & np.concatenate([[False], known_N[:-1]])[: len(known_N)]
        days_N = np.diff(day_N, prepend=0)
        far_N, far_number_N = _of_days(days_N.astype(np.float64))
        code_N = np.where(both_N, code_N, np.where(days_N == 0, _SAME_DAY, far_N))
        number_N = np.where(both_N, number_N, np.where(days_N == 0, 0, far_number_N))
    word_N = np.where(before_N, _BEGIN[code_N] + number_N, _BEGIN[_NOTHING])
    return words_at(_SINCE, word_N).alias("since_last")


# The words for a time: of each unit, its numbers up to the last one that occurs.
_UNITS: Final = (("minute", 60), ("hour", 24), ("day", 14), ("week", 10), ("month", 12_000))
_SAME_DAY, _MOMENTS, _NOTHING = len(_UNITS), len(_UNITS) + 1, len(_UNITS) + 2
_SINCE: Final = pl.Series([
    *(f"{n} {unit}{'' if n == 1 else 's'}" for unit, most in _UNITS for n in range(most + 1)),
    "same day", "moments", "",
])  # fmt: skip
_BEGIN: Final = np.cumsum([0, *(most + 1 for _, most in _UNITS), 1, 1])


def _earlier(events: pl.DataFrame) -> Bool:
    """Whether the row before an event is its user's: bool [N]."""
    user_N = events["user_idx"].to_numpy()
    earlier_N: Bool = np.concatenate([[False], user_N[1:] == user_N[:-1]])[: len(user_N)]
    return earlier_N


def _of_seconds(seconds_N: Int64) -> tuple[Int64, Int64]:
    """Which unit of _UNITS, or _MOMENTS, and how many."""
    minutes_N, hours_N = seconds_N / 60, seconds_N / 3600
    far_N, far_number_N = _of_days(hours_N / 24)
    just_N, minutes_ago_N, today_N = minutes_N < 3, minutes_N < 55, hours_N < 21.5
    tens_N = np.maximum(np.rint(minutes_N / 10), 1) * 10
    number_N = np.where(minutes_ago_N, np.where(just_N, 0, tens_N), np.where(today_N, np.rint(hours_N), far_number_N))
    code_N = np.where(minutes_ago_N, np.where(just_N, _MOMENTS, 0), np.where(today_N, 1, far_N))
    return code_N, number_N.astype(np.int64)


def _of_days(days_N: Float64) -> tuple[Int64, Int64]:
    near_N, weeks_N = days_N < 13.5, days_N < 60
    later_N = np.rint(np.where(weeks_N, days_N / 7, days_N / 30.4))
    number_N = np.where(near_N, np.maximum(np.rint(days_N), 1), later_N)
    code_N = np.where(near_N, 2, np.where(weeks_N, 3, 4))
    return code_N, np.minimum(number_N, _UNITS[-1][1]).astype(np.int64)


def sun_words(events: pl.DataFrame, latitude_N: Float64, longitude_N: Float64) -> pl.Series:
    """'day', 'dark', or between them 'dawn' and 'dusk', by the sun at a place (degrees); "" where that is unknown.

    "" too where the hour of an event is not known.
    """
    time_ms_N = events["time"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    days_N = time_ms_N / 86_400_000 - _UNIX_DAYS_OF_J2000
    elevation_N, hour_angle_N = solar_elevation(days_N, latitude_N, longitude_N)
    twilight_N = np.where(hour_angle_N < 0, 1, 2)
    kind_N = np.where(elevation_N >= _SUNRISE_DEGREES, 0, np.where(elevation_N >= _TWILIGHT_DEGREES, twilight_N, 3))
    unknown_N = ~np.isfinite(elevation_N)
    if "hour_known" in events.columns:
        unknown_N |= ~events["hour_known"].fill_null(True).to_numpy()
    return words_at(_SUN, np.where(unknown_N, 4, kind_N)).alias("sun")


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
    month_N = events["local_time"].to_numpy().astype("datetime64[M]").astype(np.int64) % 12
    quarter_N = (month_N + 1) % 12 // 3
    south_N = np.nan_to_num(latitude_N) < 0
    return words_at(_SEASONS, (quarter_N + 2 * south_N) % 4).alias("season_here")


def public_holiday(events: pl.DataFrame, country: str) -> pl.Series:
    """The name of the public holiday of each event's local day, in English where there is one; "" on other days.

    `country` is an ISO 3166 code, with a subdivision behind a hyphen if needed: US, US-NY, DE-BY. Raises PromptError
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


def weather_change(events: pl.DataFrame, shown: pl.DataFrame) -> pl.Series:
    """What is new since the user's event before, of at most a day ago: 'rain began', 'snow ended', 'warmer', 'colder'.

    `shown` are the words of `context_frame` for the same events. "" where nothing is new or either weather is unknown.
    """
    fall = shown["precipitation_word"]
    if "condition" in events.columns:  # a forecast says so behind its word, which is no change of the weather
        fall = fall.str.strip_suffix("forecast").str.strip_chars_end()
    measured = [name for name in ("precipitation_mm", "snowfall_cm", "condition") if name in events.columns]
    known_N = np.zeros(events.height, bool)
    for name in measured:
        known_N |= events[name].is_not_null().to_numpy() if events[name].null_count() else True
    seconds_N = np.diff(events["time"].to_numpy().astype("datetime64[us]").astype(np.int64), prepend=0) // 1_000_000
    near_N = _earlier(events) & (seconds_N / 3600 <= _CHANGE_HOURS)
    celsius_N = shown["temperature_c"].cast(pl.Float64).to_numpy()  # NaN where null
    rise_N = np.diff(celsius_N, prepend=np.nan)
    warmth_N = np.where(~near_N, 2, np.where(rise_N >= _CHANGE_C, 0, np.where(rise_N <= -_CHANGE_C, 1, 2)))
    words = words_at(_WARMER, warmth_N)
    falls_N = near_N & known_N & np.concatenate([[False], known_N[:-1]])[: len(known_N)]
    fall_N = np.array(fall.to_list(), object)
    changed_X = np.flatnonzero(falls_N & (fall_N != np.concatenate([[""], fall_N[:-1]])[: len(fall_N)]))
    if len(changed_X):
        pairs = zip(fall_N[changed_X], fall_N[changed_X - 1], strict=True)
        new = [f"{now} began" if now else f"{before} ended" for now, before in pairs]
        words = words.scatter(changed_X, pl.Series(new))
    return words.alias("weather_change")


_WARMER: Final = pl.Series(["warmer", "colder", ""])
