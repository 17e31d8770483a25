"""Weather at later times: temperature and probability of precipitation, forecast from earlier measurements.

The data are the weather columns of the events, of all users, within 100 km or so of the requested place (of all
events, where none has coordinates): the means of each hour, with straight lines between hours without an event. The
models are those of demand, see `arima`: an hour of the day that is smoothed, and an ARMA process. Of precipitation it
is the share of hours with some; a forecast of it is a probability, cut off at 0 and 1. Models are fitted on what was
before the day of the forecast.

Shapes: N = events, T = hours, S = 2 series: temperature in degrees Celsius, and whether it rained or snowed (0 to 1).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
import polars as pl

from ..arrays import Bool, Float64, Int64
from ..errors import DataError
from ..histories import Histories
from ..histories.distance import distance_km, has_coordinates, points, points_of
from .arima import ArimaModels, fit_arima, require_statsforecast
from .series import STEP_S

WET_MM: Final = 0.2  # what prompts call rain
MOST_HOURS: Final = 14 * 24  # ahead; later weather stays unknown
_LEAST_HOURS: Final = 7 * 24  # measured before the first forecast
_REACH_KM: Final = 100.0
_LIKELY: Final = 0.5
_MOST_KEPT: Final = 64  # places, and places and days, of which more is not kept in memory
K = TypeVar("K")
V = TypeVar("V")
_Cell = tuple[int, int] | None  # whole degrees of latitude and longitude; None: all places
NEEDED: Final = ("temperature_c", "precipitation_mm")


@dataclass(frozen=True)
class Measured:
    """Hours in which something was measured: `hour_T` int64 since 1970 in UTC, ascending, and `value_ST` float64."""

    hour_T: Int64
    value_ST: Float64

    @classmethod
    def of(cls, histories: Histories, near_N: Bool) -> Measured:
        """Means of the hours of some events."""
        events = histories.events.filter(pl.Series(near_N)).select(
            (pl.col("time").dt.epoch("s") // STEP_S["hour"]).alias("hour"),
            pl.col("temperature_c").cast(pl.Float64),
            (pl.col("precipitation_mm") > WET_MM).cast(pl.Float64).alias("wet"),
        )  # fmt: skip
        hours = events.drop_nulls().group_by("hour").mean().sort("hour")
        values = np.stack([hours["temperature_c"].to_numpy(), hours["wet"].to_numpy()])
        return cls(hours["hour"].cast(pl.Int64).to_numpy(), values)

    def before(self, hour: int) -> Float64:
        """All hours from the first one to that before `hour` or the last measured one: float64 [S, T]."""
        end = int(np.searchsorted(self.hour_T, hour))
        if not end:
            return np.zeros((2, 0))
        every_T = np.arange(self.hour_T[0], self.hour_T[end - 1] + 1)
        return np.stack([np.interp(every_T, self.hour_T[:end], value_T[:end]) for value_T in self.value_ST])


@dataclass
class WeatherForecasts:
    """Forecasts for the places and times of one data set; models are kept, one for each of the last places and days.

    Raises DataError where `statsforecast` is missing, or the events have no weather.
    """

    histories: Histories
    _measured: OrderedDict[_Cell, Measured] = field(default_factory=OrderedDict)
    _models: OrderedDict[tuple[_Cell, int], ArimaModels | None] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        require_statsforecast()
        events = self.histories.events
        if missing := [name for name in NEEDED if name not in events.columns]:
            raise DataError(f"Forecasts of the weather need events with {missing[0]}, but these have no such column.")

    def at(self, time_s: int, place: tuple[float, float] | None) -> tuple[float, float] | None:
        """Temperature in degrees Celsius and probability of precipitation at a time, unix seconds, and a place,
        latitude and longitude.

        None where the place is unknown, too little was measured near it, or nothing in the two weeks before.
        """
        if not has_coordinates(self.histories.events):
            cell = None
        elif place is None:
            return None
        else:
            cell = round(place[0]), round(place[1])
        hour = time_s // STEP_S["hour"]
        measured = self._of_cell(cell)
        value_ST = measured.before(hour)
        num = value_ST.shape[1]
        if num < _LEAST_HOURS or not 0 <= (ahead := hour - int(measured.hour_T[0]) - num) < MOST_HOURS:
            return None
        models = self._fitted(cell, measured, hour // 24 * 24)
        if models is None:
            return None
        celsius, wet = models.forecast(value_ST, np.array([num]), ahead + 1)[:, 0, -1].tolist()
        return celsius, min(max(wet, 0.0), 1.0)

    def columns(self, time_s: int, place: tuple[float, float] | None) -> dict[str, float | str]:
        """The same in the columns of events; `condition` says that it is a forecast. Empty where there is none.

        If precipitation is more likely than not, its amount is twice the least that prompts call rain or snow.
        """
        found = self.at(time_s, place)
        if found is None:
            return {}
        celsius, wet = found
        fall = "" if wet < _LIKELY else "snow " if celsius < 0 else "rain "
        amount = 2 * WET_MM if fall else 0.0
        return {"temperature_c": celsius, "precipitation_mm": amount, "condition": f"{fall}forecast"}

    def _of_cell(self, cell: _Cell) -> Measured:
        return _kept(self._measured, cell, lambda: self._measure(cell))

    def _measure(self, cell: _Cell) -> Measured:
        near_N = np.ones(self.histories.events.height, bool)
        if cell is not None:
            centre_3 = points(latitude=float(cell[0]), longitude=float(cell[1]))
            near_N = distance_km(points_of(self.histories.events), centre_3) <= _REACH_KM  # False where unknown
        return Measured.of(self.histories, near_N)

    def _fitted(self, cell: _Cell, measured: Measured, midnight: int) -> ArimaModels | None:
        """Models of what was measured before a midnight (UTC); None where that was too little."""

        def fit() -> ArimaModels | None:
            value_ST = measured.before(midnight)
            return fit_arima(value_ST, STEP_S["hour"]) if value_ST.shape[1] >= _LEAST_HOURS else None

        return _kept(self._models, (cell, midnight), fit)


def _kept(kept: OrderedDict[K, V], key: K, make: Callable[[], V]) -> V:
    """What is kept under a key, or made now; what was used longest ago is forgotten."""
    if key not in kept:
        kept[key] = make()
        if len(kept) > _MOST_KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
