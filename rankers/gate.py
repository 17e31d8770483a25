"""Probability that the next item is one that the user has never chosen: a logistic regression on the user's history.

It is fitted on earlier splits' events by Newton's method with a ridge penalty. Habits drift, as known items grow, and
so the intercept is then fitted again on the latest quarter of these events.

Shapes: see `arrays`; F = features, the first of them 1; X = past events of all questions, flattened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES, num_previous, sample_events
from .clock import DAY_S, local_seconds
from .counting import Visits, visits_of

_LONGEST = 400  # the last events of a history that are used
_PAIRS = 2_000_000  # past events held at once
_EVENTS = 30_000  # that are learnt from
_RIDGE = 1e-3
_KEPT = (0.8, 0.95)  # what each event that follows leaves of an event's weight
_NUM_FEATURES = 17


@dataclass(frozen=True)
class Gate:
    """p(new) = 1 / (1 + exp(-z)), z the sum of `weight_F` times features, less `mean_F` and divided by `spread_F`."""

    weight_F: Float64
    mean_F: Float64
    spread_F: Float64

    def log_odds(self, histories: Histories, row_Q: Int64) -> Float64:
        """log(p / (1 - p)) that the item of a row is new to its user, by the rows before: float64 [Q].

        Infinite where the user has chosen nothing before, minus infinity where the user has chosen everything.
        """
        visits = visits_of(histories)
        odds_Q = np.full(len(row_Q), np.inf)
        some_Q = num_previous(histories)[row_Q] > 0
        feature_QF = _features(histories, visits, row_Q[some_Q])
        odds_Q[some_Q] = ((feature_QF - self.mean_F) / self.spread_F) @ self.weight_F
        odds_Q[some_Q & (visits.num_known_N[row_Q] >= histories.items.height)] = -np.inf
        return odds_Q

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""
        return {"weight_F": self.weight_F, "mean_F": self.mean_F, "spread_F": self.spread_F}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Gate":
        """The gate of what `arrays` gave."""
        return cls(*(np.asarray(arrays[name], np.float64) for name in ("weight_F", "mean_F", "spread_F")))


def fit_gate(histories: Histories, split: EvaluatedSplit) -> Gate:
    """The gate for events of a split; without an event to learn from it says that both are equally probable."""
    row_Q = np.flatnonzero((num_previous(histories) > 0) & (histories.split_N < SPLIT_CODES[split]))
    row_Q = row_Q[sample_events(len(row_Q), _EVENTS, 0)]
    mean_F, spread_F, weight_F = np.zeros(_NUM_FEATURES), np.ones(_NUM_FEATURES), np.zeros(_NUM_FEATURES)
    if not len(row_Q):
        return Gate(weight_F, mean_F, spread_F)
    visits = Visits.of(histories)
    feature_QF = _features(histories, visits, row_Q)
    new_Q = _is_new(visits)[row_Q]
    mean_F[1:], spread_F[1:] = feature_QF[:, 1:].mean(axis=0), feature_QF[:, 1:].std(axis=0) + 1e-9
    feature_QF = (feature_QF - mean_F) / spread_F
    weight_F = _regress(feature_QF, new_Q, np.zeros(len(row_Q)), _RIDGE * len(row_Q))
    time_Q = histories.time_s_N[row_Q]
    late_Q = time_Q >= np.quantile(time_Q, 0.75)
    offset_Q = (feature_QF @ weight_F)[late_Q]
    # A penalty of 1: what never occurred stays possible, as by a rule of succession.
    weight_F[:1] += _regress(np.ones((len(offset_Q), 1)), new_Q[late_Q], offset_Q, 1.0)
    return Gate(weight_F, mean_F, spread_F)


def _is_new(visits: Visits) -> Bool:
    """Whether each event is the user's first of its item: bool [N]."""
    new_N: Bool = visits.number_N == visits.num_known_N
    return new_N


def _regress(feature_QF: Float64, new_Q: Bool, offset_Q: Float64, ridge: float) -> Float64:
    """Weights of a logistic regression with squares penalised by `ridge` / 2, by Newton's method: float64 [F]."""
    weight_F = np.zeros(feature_QF.shape[1])
    loss = _loss(offset_Q, new_Q)
    for _ in range(50):
        z_Q = offset_Q + feature_QF @ weight_F
        p_Q = 1 / (1 + np.exp(-z_Q))
        slope_F = feature_QF.T @ (p_Q - new_Q) + ridge * weight_F
        curve_FF = (feature_QF.T * (p_Q * (1 - p_Q))) @ feature_QF + ridge * np.eye(len(weight_F))
        step_F, part = np.linalg.solve(curve_FF, slope_F), 1.0
        while part > 1e-6:
            there_F = weight_F - part * step_F
            there = _loss(offset_Q + feature_QF @ there_F, new_Q) + ridge / 2 * float(there_F @ there_F)
            if there <= loss:
                break
            part /= 2
        else:
            break
        gained, loss, weight_F = loss - there, there, there_F
        if gained < 1e-9 * len(new_Q):
            break
    return weight_F


def _loss(z_Q: Float64, new_Q: Bool) -> float:
    return float((np.logaddexp(0, z_Q) - new_Q * z_Q).sum())


def _features(histories: Histories, visits: Visits, row_Q: Int64) -> Float64:
    """What is known of each row, which has a history: float64 [Q, F], in parts that bound the memory."""
    new_N = _is_new(visits).astype(np.float64)
    local_N = local_seconds(histories.events)
    length_Q = num_previous(histories)[row_Q]
    feature_QF = np.empty((len(row_Q), _NUM_FEATURES))
    part_Q = np.cumsum(np.minimum(length_Q, _LONGEST)) // _PAIRS
    for part in np.unique(part_Q):
        at_P = np.flatnonzero(part_Q == part)
        feature_QF[at_P] = _part(histories, visits, row_Q[at_P], length_Q[at_P], new_N, local_N)
    return feature_QF


def _part(
    histories: Histories, visits: Visits, row_Q: Int64, length_Q: Int64, new_N: Float64, local_N: Int64
) -> Float64:
    hour_N, weekend_N = local_N % DAY_S / 3600, (local_N // DAY_S + 3) % 7 >= 5
    looked_Q = np.minimum(length_Q, _LONGEST)
    query_X, past_X = ragged(row_Q - looked_Q, looked_Q)
    row_X = row_Q[query_X]

    def total(weight_X: NDArray[np.floating]) -> Float64:
        return np.bincount(query_X, weights=weight_X, minlength=len(row_Q)).astype(np.float64)

    new_X = new_N[past_X]
    faded = [kept ** (row_X - past_X - 1) for kept in _KEPT]
    apart_X = np.abs(hour_N[row_X] - hour_N[past_X])
    apart_X = np.minimum(apart_X, 24 - apart_X)
    alike_X = np.exp(-0.5 * (apart_X / 1.5) ** 2) * np.where(weekend_N[row_X] == weekend_N[past_X], 1.0, 0.3)
    alike_Q, longer_Q = total(alike_X), np.log1p(length_Q)
    gap_Q = np.log((histories.time_s_N[row_Q] - histories.time_s_N[row_Q - 1]) / 3600 + 0.1)
    angle_Q = 2 * np.pi * hour_N[row_Q] / 24
    columns = [
        np.ones(len(row_Q)),
        longer_Q,
        longer_Q**2 / 5,
        total(new_X) / looked_Q,
        *(total(new_X * faded_X) / total(faded_X) for faded_X in faded),
        (total(new_X * alike_X) + 0.3) / (alike_Q + 1),
        np.log(0.5 + alike_Q),
        gap_Q,
        np.minimum(gap_Q, 0),
        new_N[row_Q - 1],
        weekend_N[row_Q],
        visits.num_known_N[row_Q] / length_Q,
        *(wave(times * angle_Q) for times in (1, 2) for wave in (np.sin, np.cos)),
    ]
    return np.stack(columns, axis=1).astype(np.float64)
