"""What a template may say of the moment before an event: time, weather in words, further context columns.

Every variable of an event is computed from that event's moment and from the user's earlier events, never from the
item that was chosen: the columns of the outcome are not offered to templates at all.
"""

from __future__ import annotations

import polars as pl

from ..errors import PromptError
from ..histories.weather import WEATHER_COLUMNS
from .features import FEATURES, Features

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYPARTS = ("night", "morning", "afternoon", "evening")
SEASONS = ("winter", "spring", "summer", "autumn")
# Upper bounds in degrees Celsius of the words that a small model knows; above the last one it is hot.
TEMPERATURE_WORDS = ((0.0, "freezing"), (8.0, "cold"), (15.0, "cool"), (21.0, "mild"), (27.0, "warm"))
WINDY_MPS = 8.0
OUTCOME = frozenset({"user_id", "user_idx", "item_id", "item_idx", "title", "split", "event", "value"})
WEATHER = tuple(name for name in WEATHER_COLUMNS if name != "condition")
HOUR_KNOWN = "hour_known"  # a column of events where some are dates without a clock
# Events whose times were exchanged bring these along: computed from exchanged times, days would run backwards.
GIVEN = ("days_since_previous", "new_day")
NO_FEATURES = Features()


def context_frame(events: pl.DataFrame, location: str, features: Features = NO_FEATURES) -> pl.DataFrame:
    """One row of template variables per event; `events` sorted by user and time, `location` 'context' or 'outcome'.

    Needs the columns `user_idx` and `local_time`; weather columns and others are optional. Coordinates are offered only
    where they are known before the event. Where `hour_known` is false, `hour`, `hour12` and `daypart` are empty. A
    column named like one of GIVEN or of FEATURES with an underscore before it replaces what would be computed.
    `features` are further variables that a template names. Raises PromptError for a further column named like a
    computed variable.
    """
    hidden = set(OUTCOME) | {"time", "local_time", HOUR_KNOWN, *(f"_{name}" for name in (*GIVEN, *FEATURES))}
    if location == "outcome":
        hidden |= {"latitude", "longitude"}
    further = [name for name in events.columns if name not in hidden and name not in (*WEATHER, "condition")]
    day = pl.col("local_time").dt.date()
    previous_day = day.shift(1).over("user_idx")
    days = {
        "days_since_previous": (day - previous_day).dt.total_days(),
        "new_day": (day != previous_day).fill_null(True),
    }
    days |= {name: pl.col(f"_{name}") for name in GIVEN if f"_{name}" in events.columns}
    computed = [
        *_time(HOUR_KNOWN in events.columns),
        *_weather(set(events.columns)),
        *(days[name].alias(name) for name in GIVEN),
    ]
    if "place" not in further:  # as with weather, a template may speak of it where some data have none
        computed.append(pl.lit(None, pl.String).alias("place"))
    taken = {expression.meta.output_name() for expression in computed} & set(further)
    if taken:
        raise PromptError(
            f"The context column '{min(taken)}' is named like a variable that is computed for every event; "
            "give it another name in histories.events.columns and run `whereupon prepare` again."
        )
    told = events.select(*computed, *further)
    return told.with_columns(features.columns(events, location, told, further)) if features.wanted else told


def hours_unknown(events: pl.DataFrame) -> bool:
    """Whether any of the events has a day without an hour, so that lines have gaps to be tidied."""
    return HOUR_KNOWN in events.columns and not events[HOUR_KNOWN].fill_null(True).all()


def _time(has_unknown: bool) -> list[pl.Expr]:
    local = pl.col("local_time")
    hour: pl.Expr = local.dt.hour().cast(pl.Int32)
    if has_unknown:
        hour = pl.when(pl.col(HOUR_KNOWN).fill_null(True)).then(hour)
    hour12 = pl.when(hour % 12 == 0).then(12).otherwise(hour % 12)
    return [
        _name(local.dt.weekday().cast(pl.Int32) - 1, WEEKDAYS).alias("weekday"),
        (local.dt.weekday() >= 6).alias("is_weekend"),
        hour.alias("hour"),
        hour12.alias("hour12"),
        _name(hour // 6, DAYPARTS).fill_null("").alias("daypart"),
        local.dt.day().alias("day_of_month"),
        local.dt.strftime("%B").alias("month"),
        _name(local.dt.month().cast(pl.Int32) % 12 // 3, SEASONS).alias("season"),
    ]


def _name(index: pl.Expr, names: tuple[str, ...]) -> pl.Expr:
    return index.replace_strict(dict(enumerate(names)), return_dtype=pl.String)


def _weather(columns: set[str]) -> list[pl.Expr]:
    """Rounded numbers, and `weather`: words such as 'cold snow windy', empty where nothing is known."""
    known = {name: pl.col(name) if name in columns else pl.lit(None, pl.Float64) for name in WEATHER}
    celsius = known["temperature_c"]
    word: pl.Expr = pl.lit("hot")
    for bound, name in reversed(TEMPERATURE_WORDS):
        word = pl.when(celsius < bound).then(pl.lit(name)).otherwise(word)
    word = pl.when(celsius.is_not_null()).then(word)
    snow = (known["snowfall_cm"] > 0).fill_null(False)
    rain = (known["precipitation_mm"] > 0.2).fill_null(False)
    frozen = rain & (celsius < 0).fill_null(False)
    fall: pl.Expr = pl.when(snow | frozen).then(pl.lit("snow")).when(rain).then(pl.lit("rain"))
    if "condition" in columns:
        fall = pl.coalesce(pl.col("condition"), fall)
    wind = pl.when((known["wind_mps"] >= WINDY_MPS).fill_null(False)).then(pl.lit("windy"))
    return [
        celsius.round().cast(pl.Int32).alias("temperature_c"),
        (celsius * 9 / 5 + 32).round().cast(pl.Int32).alias("temperature_f"),
        word.fill_null("").alias("temperature_word"),
        fall.fill_null("").alias("precipitation_word"),
        wind.fill_null("").alias("wind_word"),
        known["precipitation_mm"].round(1).alias("precipitation_mm"),
        known["wind_mps"].round().cast(pl.Int32).alias("wind_mps"),
        pl.concat_str([word, fall, wind], separator=" ", ignore_nulls=True).fill_null("").alias("weather"),
    ]
