"""What a template may say of the time just before an event: time, weather in words, further context columns.

Every variable of an event is computed from that event's time and from the user's earlier events, never from the
item that was chosen: the columns of the outcome are not offered to templates at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Bool, Float64, Int64
from ..errors import PromptError
from ..histories.weather import WEATHER_COLUMNS
from .features import FEATURES, Features
from .lookup import words_at

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYPARTS = ("night", "morning", "afternoon", "evening")
SEASONS = ("winter", "spring", "summer", "autumn")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
# Upper bounds in degrees Celsius of the words that a small model knows; above the last one it is hot.
TEMPERATURE_WORDS = ((0.0, "freezing"), (8.0, "cold"), (15.0, "cool"), (21.0, "mild"), (27.0, "warm"))
WINDY_MPS = 8.0
OUTCOME = frozenset({"user_id", "user_idx", "item_id", "item_idx", "title", "split", "event", "value"})
WEATHER = tuple(name for name in WEATHER_COLUMNS if name != "condition")
HOUR_KNOWN = "hour_known"  # a column of events where some are dates without a clock
# Events whose times were exchanged bring these along: computed from exchanged times, days would run backwards.
GIVEN = ("days_since_previous", "new_day")
NO_FEATURES = Features()


def context_frame(
    events: pl.DataFrame, location: str, features: Features = NO_FEATURES, names: Collection[str] | None = None
) -> pl.DataFrame:
    """One row of template variables per event; `events` sorted by user and time, `location` 'context' or 'outcome'.

    Needs the columns `user_idx` and `local_time`; weather columns and others are optional. Coordinates are offered only
    where they are known before the event. Where `hour_known` is false, `hour`, `hour12` and `daypart` are empty. A
    column named like one of GIVEN or of FEATURES with an underscore before it replaces what would be computed.
    `features` are further variables that a template names; `names` are all that it names, the others are left out.
    Raises PromptError for a further column named like a computed variable.
    """
    hidden = set(OUTCOME) | {"time", "local_time", HOUR_KNOWN, *(f"_{name}" for name in (*GIVEN, *FEATURES))}
    if location == "outcome":
        hidden |= {"latitude", "longitude"}
    further = [name for name in events.columns if name not in hidden and name not in (*WEATHER, "condition")]
    if taken := (_TIME.keys() | _WORDS.keys()) & set(further):
        raise PromptError(
            f"The context column '{min(taken)}' is named like a variable that is computed for every event; "
            "give it another name in histories.events.columns and run `whereupon prepare` again."
        )
    wanted = None if names is None else {*names, *features.needs}
    clock, weather = _Clock(events), _Weather(events)
    made = [make(clock).alias(name) for name, make in _TIME.items() if wanted is None or name in wanted]
    made += [make(weather).alias(name) for name, make in _WORDS.items() if wanted is None or name in wanted]
    if "place" not in further:  # as with weather, a template may speak of it where some data have none
        made.append(pl.Series("place", [None], dtype=pl.String).new_from_index(0, events.height))
    made += [events[name] for name in further if wanted is None or name in wanted]
    shown = pl.DataFrame(made, height=events.height)
    return shown.hstack(features.columns(events, location, shown, further)) if features.wanted else shown


def hours_unknown(events: pl.DataFrame) -> bool:
    """Whether any of the events has a day without an hour, so that lines have gaps to be tidied."""
    return HOUR_KNOWN in events.columns and not events[HOUR_KNOWN].fill_null(True).all()


class _Clock:
    """Days, hours and months of the events' local time, as numbers, int64 [N] each."""

    def __init__(self, events: pl.DataFrame) -> None:
        self.events = events

    @cached_property
    def day_N(self) -> Int64:
        """Days since 1970-01-01, a Thursday."""
        return self._in("D")

    @cached_property
    def month_N(self) -> Int64:
        """0 in January."""
        return self._in("M") % 12

    @cached_property
    def hour_N(self) -> Int64:
        return self._in("h") % 24

    @cached_property
    def weekday_N(self) -> Int64:
        """0 on Mondays."""
        return (self.day_N + 3) % 7

    @cached_property
    def first_N(self) -> Bool:
        """Whether the event is its user's first one."""
        user_N = self.events["user_idx"].to_numpy()
        first_N: Bool = np.concatenate([[True], user_N[1:] != user_N[:-1]])[: len(user_N)]
        return first_N

    @cached_property
    def days_since_N(self) -> Int64:
        """Days since the event before, which may be another user's."""
        return np.diff(self.day_N, prepend=self.day_N[:1])

    def hours(self, number_N: Int64) -> pl.Series:
        """Numbers of the hour; null where it is not known."""
        hours = pl.Series(number_N.astype(np.int32))
        return hours.set(~self._known, None) if HOUR_KNOWN in self.events.columns else hours

    def daypart(self) -> pl.Series:
        words = words_at(_DAYPART, self.hour_N // 6)
        return words.set(~self._known, "") if HOUR_KNOWN in self.events.columns else words

    def given(self, name: str, computed: Callable[[], pl.Series]) -> pl.Series:
        return self.events[f"_{name}"] if f"_{name}" in self.events.columns else computed()

    @property
    def _known(self) -> pl.Series:
        return self.events[HOUR_KNOWN].fill_null(True)

    def _in(self, unit: str) -> Int64:
        return self.events["local_time"].to_numpy().astype(f"datetime64[{unit}]").astype(np.int64)


def _days_since(clock: _Clock) -> pl.Series:
    return pl.Series(clock.days_since_N).set(pl.Series(clock.first_N), None)


def _day_of_month(clock: _Clock) -> pl.Series:
    begins_N = clock._in("M").astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return pl.Series((clock.day_N - begins_N + 1).astype(np.int8))


_WEEKDAY, _DAYPART, _SEASON, _MONTH = map(pl.Series, (WEEKDAYS, DAYPARTS, SEASONS, MONTHS))
_TIME: Final[dict[str, Callable[[_Clock], pl.Series]]] = {
    "weekday": lambda clock: words_at(_WEEKDAY, clock.weekday_N),
    "is_weekend": lambda clock: pl.Series(clock.weekday_N >= 5),
    "hour": lambda clock: clock.hours(clock.hour_N),
    "hour12": lambda clock: clock.hours((clock.hour_N - 1) % 12 + 1),
    "daypart": _Clock.daypart,
    "day_of_month": _day_of_month,
    "month": lambda clock: words_at(_MONTH, clock.month_N),
    "season": lambda clock: words_at(_SEASON, (clock.month_N + 1) % 12 // 3),
    "days_since_previous": lambda clock: clock.given("days_since_previous", lambda: _days_since(clock)),
    "new_day": lambda clock: clock.given("new_day", lambda: pl.Series(clock.first_N | (clock.days_since_N != 0))),
}


class _Weather:
    """The words for the weather of the events, null where nothing is known, and its numbers."""

    def __init__(self, events: pl.DataFrame) -> None:
        self.events = events

    def __getitem__(self, name: str) -> pl.Series:
        """A column of the weather, null where the events have none."""
        if name in self.events.columns:
            return self.events[name]
        return pl.Series(name, [None], dtype=pl.Float64).new_from_index(0, self.events.height)

    @cached_property
    def warmth_N(self) -> Int64:
        """The place of each temperature's word in _WARMTH."""
        celsius_N = self._numbers("temperature_c")
        bounds = [bound for bound, _ in TEMPERATURE_WORDS]
        code_N = np.searchsorted(bounds, celsius_N, side="right")
        return np.where(np.isnan(celsius_N), len(_WARMTH) - 1, code_N)

    @cached_property
    def fall_N(self) -> Int64:
        rain_N = self._numbers("precipitation_mm") > 0.2
        snow_N = (self._numbers("snowfall_cm") > 0) | rain_N & (self._numbers("temperature_c") < 0)
        return np.where(snow_N, 0, np.where(rain_N, 1, 2))

    @cached_property
    def wind_N(self) -> Int64:
        return np.where(self._numbers("wind_mps") >= WINDY_MPS, 0, 1)

    def fall(self) -> pl.Series:
        """The words for rain and snow, or what was said instead, null for neither."""
        words, said = _FALL[self.fall_N], self.events["condition"]
        return said.zip_with(said.is_not_null(), words)

    def fall_or_nothing(self) -> pl.Series:
        return (
            self.fall().fill_null("") if "condition" in self.events.columns else words_at(_FALL_OR_NOTHING, self.fall_N)
        )

    def words(self) -> pl.Series:
        """Such as 'cold snow windy'."""
        if "condition" not in self.events.columns:
            return words_at(_ALL_WORDS, (self.warmth_N * len(_FALL) + self.fall_N) * len(_WIND) + self.wind_N)
        three = pl.DataFrame([
            _WARMTH[self.warmth_N].alias("warmth"), self.fall().alias("fall"), _WIND[self.wind_N].alias("wind"),
        ])  # fmt: skip
        words = three.select_seq(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()
        return words.fill_null("")

    def _numbers(self, name: str) -> Float64:
        """A column as float64 [N], NaN where unknown."""
        return self[name].cast(pl.Float64).to_numpy()


def _whole(number: pl.Series) -> pl.Series:
    """Rounded, the half to the even one; in numpy, as polars takes longer for few than all the rest of a prompt."""
    number_N = number.cast(pl.Float64).to_numpy()
    known_N = ~np.isnan(number_N)
    whole = pl.Series(np.rint(np.where(known_N, number_N, 0.0)).astype(np.int32))
    return whole if known_N.all() else whole.set(pl.Series(~known_N), None)


_WARMTH = pl.Series([*(word for _, word in TEMPERATURE_WORDS), "hot", None])
_FALL, _WIND = pl.Series(["snow", "rain", None]), pl.Series(["windy", None])
_WARMTH_OR_NOTHING, _FALL_OR_NOTHING, _WIND_OR_NOTHING = (words.fill_null("") for words in (_WARMTH, _FALL, _WIND))
_ALL_WORDS = pl.Series([
    " ".join(filter(None, three))
    for three in itertools.product(_WARMTH.to_list(), _FALL.to_list(), _WIND.to_list())
])  # fmt: skip
_WORDS: Final[dict[str, Callable[[_Weather], pl.Series]]] = {
    "temperature_c": lambda weather: _whole(weather["temperature_c"]),
    "temperature_f": lambda weather: _whole(weather["temperature_c"] * 9 / 5 + 32),
    "temperature_word": lambda weather: words_at(_WARMTH_OR_NOTHING, weather.warmth_N),
    "precipitation_word": _Weather.fall_or_nothing,
    "wind_word": lambda weather: words_at(_WIND_OR_NOTHING, weather.wind_N),
    "precipitation_mm": lambda weather: weather["precipitation_mm"].round(1),
    "wind_mps": lambda weather: _whole(weather["wind_mps"]),
    "weather": _Weather.words,
}
