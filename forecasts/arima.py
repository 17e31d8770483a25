"""Seasonal ARIMA models of counts: one of each series, fitted once, which forecast from any later moment.

The model is ARIMA(p, 0, q)(0, 1, 1)[m]: y_t = l_t + w_t. l_t is the exponentially smoothed count at this hour of the
day or of the week (the seasonal part: its season m and its smoothing are chosen by squared error), and w_t an ARMA
process, whose orders and coefficients AutoARIMA of `statsforecast` chooses by AICc: Hyndman and Khandakar, "Automatic
time series forecasting: the forecast package for R", Journal of Statistical Software 27(3), 2008.

Shapes: S = series, T = steps, O = origins, H = steps ahead, P and Q = orders of the ARMA process.
"""

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..arrays import Float64, Int64
from ..errors import DataError
from .series import STEP_S, Every

ALPHAS: Final = (1.0, 0.6, 0.35, 0.2, 0.1, 0.05)
MOST_STEPS: Final = 2_000  # the last steps are what orders and coefficients are fitted on
_PACKAGE: Final = "statsforecast"


def seasons_of(step_s: int) -> tuple[int, ...]:
    """Seasons that are tried: a day and a week of hours, or a week of days."""
    return (24, 168) if step_s == STEP_S["hour"] else (7,)


def usable_seasons(num_steps: int, seasons: tuple[int, ...]) -> tuple[int, ...]:
    """Those that some steps hold two and a half times; the shortest one in any case."""
    return tuple(season for season in seasons if 2.5 * season <= num_steps or season == seasons[0])


def least_steps(every: Every) -> int:
    """Steps that a fit needs: three of the shortest season."""
    return 3 * seasons_of(STEP_S[every])[0]


@dataclass(frozen=True)
class ArimaModels:
    """One model of each series.

    `season_S` int64 and `alpha_S` float64 are m and the smoothing; `mean_S` float64, `ar_SP` float64 and `ma_SQ`
    float64 are the ARMA process, orders filled up with zeros.
    """

    season_S: Int64
    alpha_S: Float64
    mean_S: Float64
    ar_SP: Float64
    ma_SQ: Float64

    def forecast(self, count_ST: Float64, origin_O: Int64, horizon: int) -> Float64:
        """Forecasts of the steps origin, origin + 1, ...: float64 [S, O, H].

        Each looks only at columns before its origin, which is at least the season and at most T.
        """
        each = zip(count_ST, self.season_S, self.alpha_S, self.mean_S, self.ar_SP, self.ma_SQ, strict=True)
        return np.stack([
            _forecast(count_T, int(season), float(alpha), float(mean), ar_P, ma_Q, origin_O, horizon)
            for count_T, season, alpha, mean, ar_P, ma_Q in each
        ])  # fmt: skip


def _forecast(
    count_T: Float64, season: int, alpha: float, mean: float, ar_P: Float64, ma_Q: Float64, origin_O: Int64,
    horizon: int,
) -> Float64:  # fmt: skip
    from scipy.signal import lfilter

    level_T = seasonal_levels(count_T, season, alpha)
    rest_T = count_T - level_T[: len(count_T)] - mean
    rest_T[:season] = 0.0
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
    column_OH = origin_O[:, None] + np.arange(horizon) % season
    forecast_OH: Float64 = level_T[column_OH] + mean + rest_OX[:, reach:]
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
    found = [_arma(count_T, *one) for count_T, one in zip(count_ST, chosen, strict=True)]
    ar_SP, ma_SQ = _padded([ar_P for _, ar_P, _ in found]), _padded([ma_Q for _, _, ma_Q in found])
    season_S, alpha_S = np.array([m for m, _ in chosen], np.int64), np.array([a for _, a in chosen])
    return ArimaModels(season_S, alpha_S, np.array([one[0] for one in found]), ar_SP, ma_SQ)


def require_statsforecast() -> None:
    """Raise DataError where the package is not installed."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise DataError(
            "Forecasts need the package statsforecast, which is not installed; pip install 'whereupon[forecast]'."
        )


def _seasonal_part(count_T: Float64, seasons: tuple[int, ...]) -> tuple[int, float]:
    """The season and the smoothing of the least squared error over the last steps.

    They are the later half of those behind the first of the longest usable season, and at least one such season: first
    weeks may be unlike all others (holidays, the growth of a new data set).
    """
    usable = usable_seasons(len(count_T), seasons)
    start = len(count_T) - max(max(usable), (len(count_T) - max(usable)) // 2)

    def error(season: int, alpha: float) -> float:
        levels_T = seasonal_levels(count_T, season, alpha)[start : len(count_T)]
        return float(np.square(count_T[start:] - levels_T).mean())

    return min(((m, a) for m in usable for a in ALPHAS), key=lambda one: error(*one))


def _arma(count_T: Float64, season: int, alpha: float) -> tuple[float, Float64, Float64]:
    """Mean, AR and MA coefficients of what the seasonal part leaves; an empty process where nothing is left."""
    rest_T = (count_T - seasonal_levels(count_T, season, alpha)[: len(count_T)])[season:][-MOST_STEPS:]
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
    return found if all(np.isfinite(part).all() for part in found) else nothing


def _padded(rows: list[Float64]) -> Float64:
    width = max(len(row) for row in rows)
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])
