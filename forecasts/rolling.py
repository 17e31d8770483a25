"""Forecasts from rolling origins, intervals from the errors of earlier origins, and how good both are.

Intervals are split conformal ones (Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005): the
forecast plus and minus a quantile of the absolute errors that forecasts of the same series and step ahead had at
earlier origins. Origins are a day apart, so one step ahead is also one hour of the day.

Shapes: S = series, T = steps, O = origins, H = steps ahead.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..arrays import Float64, Int64
from ..errors import DataError
from .arima import ArimaModels, fit_arima, seasons_of
from .series import STEP_S, Series

LEVEL: Final = 0.8
_FEWEST = 4  # earlier origins that an interval needs: the least number of which one exceeds a fifth of the rest
_FITTED: Final = 0.6  # share of the steps that models are fitted on before origins begin


@dataclass(frozen=True)
class Outlook:
    """Forecasts of the steps after the last one: `mean_SH`, `low_SH` and `high_SH`, float64 [S, H]."""

    mean_SH: Float64
    low_SH: Float64
    high_SH: Float64


@dataclass(frozen=True)
class Measured:
    """Errors over rolling origins, of forecasts that have an interval.

    `mae_S` and `naive_mae_S` float64 are mean absolute errors of forecasts, rounded to whole counts, and of the
    seasonal naive ones. (Of a count, the median has the least mean absolute error, and that is a whole number.)
    `coverage_S` float64 is the share of counts within the 80 % interval; NaN where nothing could be measured.
    `season` is that of the naive forecast.
    """

    mae_S: Float64
    naive_mae_S: Float64
    coverage_S: Float64
    num_origins: int
    season: int

    @property
    def mase_S(self) -> Float64:
        """MAE over that of the seasonal naive forecast for the same steps; NaN where the naive one has no error."""
        has_S = self.naive_mae_S > 0
        mase_S: Float64 = np.divide(self.mae_S, self.naive_mae_S, out=np.full(len(has_S), np.nan), where=has_S)
        return mase_S

    @property
    def mase(self) -> float:
        """That of all series together: the sum of their errors over the sum of the naive ones."""
        naive = float(self.naive_mae_S.sum())
        return float(self.mae_S.sum()) / naive if naive > 0 else float("nan")


def origins_of(series: Series, horizon: int) -> Int64:
    """Origins a day apart at midnight, behind the steps that models are fitted on; the last has its horizon whole."""
    a_day = STEP_S["day"] // series.step_s
    num = series.count_ST.shape[1]
    first = -(-max(int(num * _FITTED), 3 * seasons_of(series.step_s)[0]) // a_day) * a_day
    return np.arange(first, num - horizon + 1, a_day, dtype=np.int64)


def radii(error_SOH: Float64, origin_O: Int64) -> Float64:
    """The half width of each interval, float64 [S, O, H], from origins whose horizon was over; NaN where too few.

    `error_SOH` are absolute errors of the same forecasts.
    """
    radius_SOH = np.full(error_SOH.shape, np.nan)
    for at, origin in enumerate(origin_O.tolist()):
        over = int((origin_O + error_SOH.shape[2] <= origin).sum())
        if over >= _FEWEST:
            radius_SOH[:, at] = _quantile(error_SOH[:, :over])
    return radius_SOH


def _quantile(error_SOH: Float64) -> Float64:
    """The conformal quantile over the origins: float64 [S, H].

    It lies between the order statistics around LEVEL * (n + 1), for the upper one of few errors covers more than LEVEL.
    """
    sorted_SOH, rank = np.sort(error_SOH, axis=1), LEVEL * (error_SOH.shape[1] + 1) - 1
    last = error_SOH.shape[1] - 1
    below, above = min(int(rank), last), min(int(rank) + 1, last)
    quantile_SH: Float64 = sorted_SOH[:, below] + (rank - int(rank)) * (sorted_SOH[:, above] - sorted_SOH[:, below])
    return quantile_SH


def actual(count_ST: Float64, origin_O: Int64, horizon: int) -> Float64:
    """What came: float64 [S, O, H]."""
    actual_SOH: Float64 = count_ST[:, origin_O[:, None] + np.arange(horizon)]
    return actual_SOH


def seasonal_naive(count_ST: Float64, origin_O: Int64, horizon: int, season: int) -> Float64:
    """The last counts at the same place of the season, before the origin: float64 [S, O, H]."""
    naive_SOH: Float64 = count_ST[:, origin_O[:, None] - season + np.arange(horizon) % season]
    return naive_SOH


def measure(series: Series, horizon: int, *, season: int | None = None) -> tuple[Measured, ArimaModels]:
    """Fit on the first three fifths, forecast at the origins behind it, and compare; the models as well.

    `season`: that of the naive forecast; None: the shortest one (a day of hours, a week of days). Raises DataError
    where there are too few steps.
    """
    season = season or seasons_of(series.step_s)[0]
    origin_O = origins_of(series, horizon)
    if len(origin_O) <= _FEWEST:
        days = (series.count_ST.shape[1] * series.step_s) / STEP_S["day"]
        raise DataError(
            f"Forecasts are measured over at least {_FEWEST + 1} days behind those that they are fitted on, but there "
            f"are {days:.0f} days of events in all; it needs more days, or a shorter horizon."
        )
    models = fit_arima(series.count_ST[:, : origin_O[0]], series.step_s)
    mean_SOH = models.forecast(series.count_ST, origin_O, horizon)
    came_SOH = actual(series.count_ST, origin_O, horizon)
    error_SOH = np.abs(came_SOH - mean_SOH)
    radius_SOH = radii(error_SOH, origin_O)
    known_O = ~np.isnan(radius_SOH).any(axis=(0, 2))
    naive_SOH = seasonal_naive(series.count_ST, origin_O, horizon, season)
    inside_SOH = error_SOH <= radius_SOH + 1e-9
    means = [
        part[:, known_O].mean(axis=(1, 2)) if known_O.any() else np.full(len(part), np.nan)
        for part in (np.abs(came_SOH - np.round(np.maximum(mean_SOH, 0.0))), np.abs(came_SOH - naive_SOH), inside_SOH)
    ]
    return Measured(means[0], means[1], means[2], int(known_O.sum()), season), models


def forecast_ahead(series: Series, horizon: int, models: ArimaModels) -> Outlook:
    """Forecasts of the steps behind the last count, with intervals by the errors of all earlier origins.

    A count is not below 0, so neither is a forecast or an interval's end.
    """
    origin_O = origins_of(series, horizon)
    # The horizon begins where the counts end, at any hour; errors are by steps from midnight.
    a_day = STEP_S["day"] // series.step_s
    end = series.count_ST.shape[1]
    origin_O = origin_O + (end % a_day)
    origin_O = origin_O[origin_O + horizon <= end]
    error_SOH = np.abs(actual(series.count_ST, origin_O, horizon) - models.forecast(series.count_ST, origin_O, horizon))
    mean_SH = models.forecast(series.count_ST, np.array([end]), horizon)[:, 0]
    radius_SH = _quantile(error_SOH) if len(origin_O) else np.full(mean_SH.shape, np.nan)
    return Outlook(*(np.maximum(one, 0.0) for one in (mean_SH, mean_SH - radius_SH, mean_SH + radius_SH)))
