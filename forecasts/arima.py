"""Seasonal ARIMA models of counts: one of each series, fitted once, which forecast from any later time.

The model is ARIMA(p, 0, q)(0, 1, 1)[m]: y_t = l_t + w_t. l_t is the exponentially smoothed count at this hour of the
day or of the week; to that of the week, the smoothed rest at this hour of the day may be added, which is a second
seasonal part, (0, 1, 1)[24]. Seasons and smoothing are chosen by squared error. w_t is an ARMA process, whose orders
and coefficients AutoARIMA of `statsforecast` chooses by AICc: Hyndman and Khandakar, "Automatic time series
forecasting: the forecast package for R", Journal of Statistical Software 27(3), 2008.

Shapes: S = series, T = steps, O = origins, H = steps ahead, P and Q = orders of the ARMA process.
"""

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from ..arrays import Float64, Int64
from ..errors import DataError
from .series import STEP_S, Every

ALPHAS: Final = (1.0, 0.6, 0.35, 0.2, 0.1, 0.05)
NO_DAY: Final = 0.0  # smoothing of the day's part where there is none
MOST_STEPS: Final = 2_000  # the last steps are what orders and coefficients are fitted on
_PACKAGE: Final = "statsforecast"
_MOST_ROOT: Final = 0.999
_DAY: Final = 24
_WEEK: Final = 7 * _DAY


def seasons_of(step_s: int) -> tuple[int, ...]:
    """Seasons that are tried: a day and a week of hours, or a week of days."""
    return (_DAY, _WEEK) if step_s == STEP_S["hour"] else (7,)


def usable_seasons(num_steps: int, seasons: tuple[int, ...]) -> tuple[int, ...]:
    """Those that some steps hold two and a half times; the shortest one in any case."""
    return tuple(season for season in seasons if 2.5 * season <= num_steps or season == seasons[0])


def least_steps(every: Every) -> int:
    """Steps that a fit needs: three of the shortest season."""
    return 3 * seasons_of(STEP_S[every])[0]


@dataclass(frozen=True)
class ArimaModels:
    """One model of each series.

    `season_S` int64 and `alpha_S` float64 are m and the smoothing, `daily_S` float64 that of the day's part beside a
    week's, 0 where there is none; `mean_S` float64, `ar_SP` float64 and `ma_SQ` float64 are the ARMA process, orders
    filled up with zeros.
    """

    season_S: Int64
    alpha_S: Float64
    daily_S: Float64
    mean_S: Float64
    ar_SP: Float64
    ma_SQ: Float64

    def forecast(self, count_ST: Float64, origin_O: Int64, horizon: int) -> Float64:
        """Forecasts of the steps origin, origin + 1, ...: float64 [S, O, H].

        Each looks only at columns before its origin, which is at least the season and at most T.
        """
        seasonal = zip(self.season_S.tolist(), self.alpha_S.tolist(), self.daily_S.tolist(), strict=True)
        each = zip(count_ST, seasonal, self.mean_S.tolist(), self.ar_SP, self.ma_SQ, strict=True)
        return np.stack([
            _forecast(count_T, Seasonal(*one), mean, ar_P, ma_Q, origin_O, horizon)
            for count_T, one, mean, ar_P, ma_Q in each
        ])  # fmt: skip


class Seasonal(NamedTuple):
    """The seasonal part of a model: see `ArimaModels`."""

    season: int
    alpha: float
    daily: float

    def levels(self, count_T: Float64) -> list[tuple[int, Float64]]:
        """Seasons, and what each adds: float64 [T + season], of columns at least a season earlier only."""
        level_T = seasonal_levels(count_T, self.season, self.alpha)
        found = [(self.season, level_T)]
        if self.daily != NO_DAY:
            rest_T = count_T - level_T[: len(count_T)]
            rest_T[: self.season] = 0.0
            found.append((_DAY, seasonal_levels(rest_T, _DAY, self.daily)))
        return found

    def rest(self, count_T: Float64) -> Float64:
        """What the seasonal part leaves: float64 [T]."""
        rest_T = count_T.copy()
        for _, level_T in self.levels(count_T):
            rest_T -= level_T[: len(count_T)]
        return rest_T


def _forecast(
    count_T: Float64, seasonal: Seasonal, mean: float, ar_P: Float64, ma_Q: Float64, origin_O: Int64, horizon: int
) -> Float64:  # fmt: skip
    from scipy.signal import lfilter

    rest_T = seasonal.rest(count_T) - mean
    rest_T[: seasonal.season] = 0.0
    shock_T = lfilter(np.append(1.0, -ar_P), np.append(1.0, ma_Q), rest_T)
    # Columns before the origin, oldest first, and then what is forecast.
    reach = max(len(ar_P), len(ma_Q), 1)
    before_OR = origin_O[:, None] + np.arange(-reach, 0)
    rest_OX, shock_OX = (
        np.concatenate([np.where(before_OR >= 0, values_T[before_OR], 0.0), np.zeros((len(origin_O), horizon))], axis=1)
        for values_T in (rest_T, shock_T)
    )
    for ahead in range(reach, reach + horizon):
        past_OP = rest_OX[:, ahead - len(ar_P) : ahead][:, ::-1]
        past_OQ = shock_OX[:, ahead - len(ma_Q) : ahead][:, ::-1]
        rest_OX[:, ahead] = past_OP @ ar_P + past_OQ @ ma_Q
    forecast_OH: Float64 = mean + rest_OX[:, reach:]
    for season, level_T in seasonal.levels(count_T):
        forecast_OH += level_T[origin_O[:, None] + np.arange(horizon) % season]
    return forecast_OH


def seasonal_levels(count_T: Float64, season: int, alpha: float) -> Float64:
    """The smoothed count at this place of the season, of earlier seasons only: float64 [T + season].

    The first season has none and is 0; the second has the first one's counts.
    """
    num = -(-len(count_T) // season)
    padded_KM = np.pad(count_T, (0, num * season - len(count_T))).reshape(num, season)
    level_KM = np.zeros((num + 1, season))
    level_KM[1] = padded_KM[0]
    for k in range(1, num):
        level_KM[k + 1] = alpha * padded_KM[k] + (1 - alpha) * level_KM[k]
    level_T: Float64 = level_KM.ravel()[: len(count_T) + season]
    return level_T


def fit_arima(count_ST: Float64, step_s: int) -> ArimaModels:
    """Fit one model of each series.

    Raises:
        DataError: the package `statsforecast` is missing, or there are fewer than three of the shortest seasons.
    """
    require_statsforecast()
    seasons = seasons_of(step_s)
    if count_ST.shape[1] < 3 * seasons[0]:
        raise DataError(
            f"A forecast needs at least {3 * seasons[0]} steps of counts but there are {count_ST.shape[1]}; "
            "it needs more days of events."
        )
    chosen = [_seasonal_part(count_T, seasons) for count_T in count_ST]
    found = [_arma(count_T, one) for count_T, one in zip(count_ST, chosen, strict=True)]
    ar_SP, ma_SQ = _padded([ar_P for _, ar_P, _ in found]), _padded([ma_Q for _, _, ma_Q in found])
    season_S, alpha_S, daily_S = (np.array(column) for column in zip(*chosen, strict=True))
    return ArimaModels(season_S, alpha_S, daily_S, np.array([one[0] for one in found]), ar_SP, ma_SQ)


def require_statsforecast() -> None:
    """Raise DataError where the package is not installed."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise DataError(
            "Forecasts need the package statsforecast, which is not installed; pip install 'whereupon[forecast]'."
        )


def _seasonal_part(count_T: Float64, seasons: tuple[int, ...]) -> Seasonal:
    """The seasons and the smoothing of the least squared error over the last steps.

    They are the later half of those behind the first of the longest usable season, and at least one such season: first
    weeks may be unlike all others (holidays, the growth of a new data set).
    """
    usable = usable_seasons(len(count_T), seasons)
    start = len(count_T) - max(max(usable), (len(count_T) - max(usable)) // 2)

    def error(one: Seasonal) -> float:
        return float(np.square(one.rest(count_T)[start:]).mean())

    tried = [
        Seasonal(season, alpha, daily)
        for season in usable
        for alpha in ALPHAS
        for daily in ((NO_DAY, *ALPHAS[1:]) if season == _WEEK else (NO_DAY,))
    ]
    return min(tried, key=error)


def _arma(count_T: Float64, seasonal: Seasonal) -> tuple[float, Float64, Float64]:
    """Mean, AR and MA coefficients of what the seasonal part leaves; an empty process where nothing is left."""
    rest_T = seasonal.rest(count_T)[seasonal.season :][-MOST_STEPS:]
    nothing = (0.0, np.zeros(0), np.zeros(0))
    if np.ptp(rest_T) < 1e-9:
        return nothing
    from statsforecast.models import AutoARIMA

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optimisers that stop early; a worse candidate has a worse AICc
        # max_order and the small orders bound the time: the season is in the other part.
        model = AutoARIMA(d=0, seasonal=False, max_p=2, max_q=2, approximation=True).fit(rest_T).model_
    coefficients = model["coef"]
    p, q = model["arma"][:2]
    ar_P, ma_Q = (np.array([coefficients[f"{kind}{i + 1}"] for i in range(n)]) for kind, n in (("ar", p), ("ma", q)))
    found = float(coefficients.get("intercept", 0.0)), ar_P, ma_Q
    return found if _is_stable(ar_P) and _is_stable(-ma_Q) and np.isfinite(found[0]) else nothing


def _is_stable(coefficient_P: Float64) -> bool:
    """Whether what a step adds fades: all roots of the process lie within the unit circle. Without that, errors of the
    past would grow in the filter."""
    polynomial = np.append(1.0, -coefficient_P)
    return bool(np.isfinite(polynomial).all() and (np.abs(np.roots(polynomial)) < _MOST_ROOT).all())


def _padded(rows: list[Float64]) -> Float64:
    width = max(len(row) for row in rows)
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])
