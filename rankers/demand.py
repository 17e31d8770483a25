"""Demand at the query's time, by forecasts from the midnight before it; needs `statsforecast`.

The counts of each hour are forecast by a seasonal ARIMA model for each category, or for each item where items have no
categories (see `forecasts.arima`). The models are fitted on earlier splits; a forecast reads all events before its
midnight, of any user and split. Small groups are pooled. p(i) is the demand of the item's group times the item's share
within the group, blended with its share in earlier splits.

Shapes: Q = queries, I = items, S = series, T = hours, O = midnights, H = hours of a day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..arrays import Float64, Int64
from ..errors import DataError
from ..forecasts import ArimaModels, Grouping, Series, count_series, fit_arima, group_items
from ..forecasts.arima import least_steps
from ..forecasts.series import STEP_S, By
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES
from .popular import popular_shares
from .protocol import Arrays, Dense, Family, Fitting, grid_of, require
from .user_history import LastFit

_NAME: Final = "demand forecast"
_DAY_H: Final = 24


@dataclass(frozen=True)
class DemandSettings:
    """At most `most` groups, with `least_events` each, have a series of their own; `popular` is the weight of the share
    in earlier splits, in (0, 1]."""

    most: int
    least_events: int
    popular: float


@dataclass(frozen=True)
class _Learnt:
    """Groups and their models, and the clock and the first hour that the counts of the fit began with."""

    series_I: Int64
    first_step: int
    offset_s: int
    models: ArimaModels


@dataclass(frozen=True)
class Demand:
    """See the module's text; without `learnt`, for there were too few hours, it ranks by shares in earlier splits."""

    popular: float
    learnt: _Learnt | None

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """See `Ranker.on`; log-probabilities over all items."""
        share_I = popular_shares(known or histories, split)
        if (learnt := self.learnt) is None:
            return Dense(lambda row_Q: np.broadcast_to(np.log(share_I), (len(row_Q), len(share_I))), is_log_prob=True)
        count_ST = _counts(known or histories, learnt)
        within_I = share_I / np.bincount(learnt.series_I, share_I)[learnt.series_I]
        hour_N = (histories.time_s_N + learnt.offset_s) // STEP_S["hour"] - learnt.first_step

        def scores_of(row_Q: Int64) -> Float64:
            demand_QS = _demand(learnt.models, count_ST, hour_N[row_Q])
            known_Q1 = ~np.isnan(demand_QS).any(axis=1, keepdims=True)
            p_QI = demand_QS[:, learnt.series_I] * within_I
            p_QI = np.where(known_Q1, self.popular * share_I + (1 - self.popular) * p_QI, share_I)
            scores_QI: Float64 = np.log(p_QI)
            return scores_QI

        return Dense(scores_of, is_log_prob=True)

    def arrays(self) -> Arrays:
        """What was learnt."""
        if self.learnt is None:
            return {}
        clock_2 = np.array([self.learnt.first_step, self.learnt.offset_s], np.int64)
        return {"series_I": self.learnt.series_I, "clock_2": clock_2, **vars(self.learnt.models)}


def _demand(models: ArimaModels, count_ST: Float64, hour_Q: Int64) -> Float64:
    """Shares of the series at each hour, forecast from the midnight before: float64 [Q, S].

    NaN where less than the longest season lies before that midnight, or nothing at all is expected.
    """
    midnight_Q = hour_Q // _DAY_H * _DAY_H
    origin_O, at_Q = np.unique(midnight_Q, return_inverse=True)
    usable_O = origin_O >= models.season_S.max()
    share_QS = np.full((len(hour_Q), len(count_ST)), np.nan)
    if not usable_O.any():
        return share_QS
    # What lies behind the last event is empty, as far as anybody knows.
    padded_ST = np.pad(count_ST, ((0, 0), (0, max(0, int(origin_O.max()) - count_ST.shape[1]))))
    forecast_SOH = np.zeros((len(count_ST), len(origin_O), _DAY_H))
    forecast_SOH[:, usable_O] = models.forecast(padded_ST, origin_O[usable_O], _DAY_H)
    expected_QS = np.maximum(forecast_SOH[:, at_Q, hour_Q - midnight_Q].T, 0.0)
    total_Q1 = expected_QS.sum(axis=1, keepdims=True)
    known_Q1 = usable_O[at_Q][:, None] & (total_Q1 > 0)
    found_QS: Float64 = np.divide(expected_QS, total_Q1, out=share_QS, where=known_Q1)
    return found_QS


def _counts(known: Histories, learnt: _Learnt) -> Float64:
    """Counts from the first hour of the fit on: float64 [S, T]."""
    hour_N = (known.time_s_N + learnt.offset_s) // STEP_S["hour"] - learnt.first_step
    inside_N = known.shared_N & (hour_N >= 0)
    num_hours, num_series = int(hour_N.max(initial=0)) + 1, len(learnt.models.season_S)
    cell_N = learnt.series_I[known.item_idx_N[inside_N]] * num_hours + hour_N[inside_N]
    count_X = np.bincount(cell_N, minlength=num_series * num_hours).astype(np.float64)
    return count_X.reshape(num_series, num_hours)


def _fit(histories: Histories, split: EvaluatedSplit, one: DemandSettings) -> _Learnt | None:
    earlier_N = histories.split_N < SPLIT_CODES[split]
    by: By = "category" if "category" in histories.items.columns else "item"
    grouping: Grouping = group_items(histories, by, earlier_N, most=one.most, least_events=one.least_events)
    try:
        series: Series = count_series(histories, grouping, "hour", earlier_N)
    except DataError:  # no hour is over
        return None
    if series.count_ST.shape[1] < least_steps("hour"):
        return None
    models = fit_arima(series.count_ST, series.step_s)
    return _Learnt(grouping.series_I, series.first_step, series.offset_s, models)


_fits: Final[LastFit[_Learnt | None]] = LastFit()


def _demand_ranker(fitting: Fitting) -> Demand:
    require("statsforecast", "forecast", _NAME)
    one, histories, split = DemandSettings(**fitting.settings), fitting.histories, fitting.split
    learnt = _fits.get(histories, (split, one.most, one.least_events), lambda: _fit(histories, split, one))
    return Demand(one.popular, learnt)


def _restored(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> Demand:
    require("scipy", "forecast", _NAME)
    one = DemandSettings(**settings)
    if not arrays:
        return Demand(one.popular, None)
    models = ArimaModels(**{name: arrays[name] for name in ArimaModels.__annotations__})
    first_step, offset_s = arrays["clock_2"].tolist()
    return Demand(one.popular, _Learnt(arrays["series_I"], first_step, offset_s, models))


_GRID: Final = grid_of(DemandSettings, (20, 60), (30,), (0.05, 0.2, 0.5, 0.8))
FAMILIES: Final = (Family(_NAME, _GRID, _demand_ranker, _restored),)
