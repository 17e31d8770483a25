"""Probability that the next item is one that the user has never chosen: a logistic regression on the user's history.

It knows how often and when the user chose something new, how busy the last days were, how surely the past says what
comes again (the entropy of the attention of `returns`), and how well the user knows the place, which many or few items
surround. It is fitted on earlier splits' events by Newton's method with a ridge penalty. Habits drift, as known items
grow, and so the intercept is then fitted again on the latest quarter of these events.

Shapes: see `arrays`; F = features, the first of them 1; X = past events of all questions, flattened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import distance_km
from ..histories.questions import SPLIT_CODES, num_previous, sample_events
from .clock import DAY_S, is_weekend
from .counting import Visits, visits_of
from .places import density
from .returns import LONGEST, EventData, Returns, event_data, fit_returns, sums
from .votes import apart_hours

_PAIRS = 2_000_000  # past events held at once
_EVENTS = 30_000  # that are learnt from
_RIDGE = 1e-3
_KEPT = (0.8, 0.95)  # what each event that follows leaves of an event's weight
_NEAR_KM = 0.3  # where the user knows the surroundings
_LATELY_H = (3, 168)  # hours
_NUM_FEATURES = 27
_LEARNT = ("weight_F", "mean_F", "spread_F")


@dataclass(frozen=True)
class Gate:
    """p(new) = 1 / (1 + exp(-z)), z the sum of `weight_F` times features, less `mean_F` and divided by `spread_F`.
    `returns` is the attention whose entropy is a feature."""

    weight_F: Float64
    mean_F: Float64
    spread_F: Float64
    returns: Returns

    def log_odds(self, histories: Histories, row_Q: Int64, known: Histories | None = None) -> Float64:
        """log(p / (1 - p)) that the item of a row is new to its user, by the rows before: float64 [Q].

        Places of items are those of `known` (None: of the same histories). Infinite where the user has chosen nothing
        before, minus infinity where the user has chosen everything.
        """
        visits = visits_of(histories)
        odds_Q = np.full(len(row_Q), np.inf)
        some_Q = num_previous(histories)[row_Q] > 0
        feature_QF = _features(event_data(histories, known), visits, self.returns, row_Q[some_Q])
        odds_Q[some_Q] = ((feature_QF - self.mean_F) / self.spread_F) @ self.weight_F
        odds_Q[some_Q & (visits.num_known_N[row_Q] >= histories.items.height)] = -np.inf
        return odds_Q

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt."""
        of_gate: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _LEARNT}
        return {**of_gate, **self.returns.arrays()}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Gate":
        """The gate of what `arrays` gave."""
        weight_F, mean_F, spread_F = (np.asarray(arrays[name], np.float64) for name in _LEARNT)
        return cls(weight_F, mean_F, spread_F, Returns.of(arrays))


def fit_gate(histories: Histories, split: EvaluatedSplit, seed: int) -> Gate:
    """The gate for events of a split; without an event to learn from it says that both are equally probable."""
    row_Q = np.flatnonzero((num_previous(histories) > 0) & (histories.split_N < SPLIT_CODES[split]))
    row_Q = row_Q[sample_events(len(row_Q), _EVENTS, 0)]
    returns = fit_returns(histories, split, seed)
    mean_F, spread_F, weight_F = np.zeros(_NUM_FEATURES), np.ones(_NUM_FEATURES), np.zeros(_NUM_FEATURES)
    if not len(row_Q):
        return Gate(weight_F, mean_F, spread_F, returns)
    visits = Visits.of(histories)
    feature_QF = _features(event_data(histories), visits, returns, row_Q)
    new_Q = _is_new(visits)[row_Q]
    mean_F[1:], spread_F[1:] = feature_QF[:, 1:].mean(axis=0), feature_QF[:, 1:].std(axis=0) + 1e-9
    feature_QF = (feature_QF - mean_F) / spread_F
    weight_F = _regress(feature_QF, new_Q, np.zeros(len(row_Q)), _RIDGE * len(row_Q))
    time_Q = histories.time_s_N[row_Q]
    late_Q = time_Q >= np.quantile(time_Q, 0.75)
    offset_Q = (feature_QF @ weight_F)[late_Q]
    # A penalty of 1: what never occurred stays possible, as by a rule of succession.
    weight_F[:1] += _regress(np.ones((len(offset_Q), 1)), new_Q[late_Q], offset_Q, 1.0)
    return Gate(weight_F, mean_F, spread_F, returns)


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


def _features(data: EventData, visits: Visits, returns: Returns, row_Q: Int64) -> Float64:
    """What is known of each row, which has a history: float64 [Q, F], in parts that bound the memory."""
    new_N = _is_new(visits).astype(np.float64)
    length_Q = row_Q - data.begin_N[row_Q]
    feature_QF = np.empty((len(row_Q), _NUM_FEATURES))
    part_Q = np.cumsum(np.minimum(length_Q, LONGEST)) // _PAIRS
    for part in np.unique(part_Q):
        at_P = np.flatnonzero(part_Q == part)
        past = _Past.of(data, returns, row_Q[at_P], new_N)
        columns = [*past.of_new(), *past.of_clock(), *past.of_kinds(visits.num_known_N), *past.of_routine()]
        feature_QF[at_P] = np.stack(columns, axis=1)
    return feature_QF


@dataclass(frozen=True)
class _Past:
    """The last events before some rows, flattened: question and row of each, the attention of `returns`, and whether
    the item was new; hours of the day and weekends are of all events."""

    data: EventData
    row_Q: Int64
    query_X: Int64
    past_X: Int64
    share_X: Float64
    new_N: Float64
    hour_N: Float64
    weekend_N: Bool

    @classmethod
    def of(cls, data: EventData, returns: Returns, row_Q: Int64, new_N: Float64) -> "_Past":
        hour_N, weekend_N = data.local_N % DAY_S / 3600, is_weekend(data.local_N)
        return cls(data, row_Q, *returns.shares(data, row_Q), new_N, hour_N, weekend_N)

    @property
    def length_Q(self) -> Int64:
        """How long each history is."""
        return self.row_Q - self.data.begin_N[self.row_Q]

    @property
    def looked_Q(self) -> Int64:
        """How many events of it are looked at."""
        return np.minimum(self.length_Q, LONGEST)

    def total(self, weight_X: NDArray[np.floating] | Bool) -> Float64:
        """Sum of the weights of each question's events: float64 [Q]."""
        return sums(self.query_X, weight_X, len(self.row_Q))

    def of_new(self) -> list[NDArray[Any]]:
        """The length of the history, and how much of it was new."""
        longer_Q = np.log1p(self.length_Q)
        new_X, ago_X = self.new_N[self.past_X], self.row_Q[self.query_X] - self.past_X - 1
        faded = [kept**ago_X for kept in _KEPT]
        return [
            np.ones(len(self.row_Q)), longer_Q, longer_Q**2 / 5, self.total(new_X) / self.looked_Q,
            *(self.total(new_X * faded_X) / self.total(faded_X) for faded_X in faded),
        ]  # fmt: skip

    def of_clock(self) -> list[NDArray[Any]]:
        """How much was new at such hours, the time since the last event, and both events' times of day."""
        row_X, new_X = self.row_Q[self.query_X], self.new_N[self.past_X]
        apart_X = apart_hours(self.data.local_N[row_X], self.data.local_N[self.past_X])
        same_X = self.weekend_N[row_X] == self.weekend_N[self.past_X]
        alike_X = np.exp(-0.5 * (apart_X / 1.5) ** 2) * np.where(same_X, 1.0, 0.3)
        alike_Q, time_N = self.total(alike_X), self.data.time_N
        gap_Q = np.log((time_N[self.row_Q] - time_N[self.row_Q - 1]) / 3600 + 0.1)
        angle_Q, last_Q = (2 * np.pi * self.hour_N[row_Q] / 24 for row_Q in (self.row_Q, self.row_Q - 1))
        return [
            (self.total(new_X * alike_X) + 0.3) / (alike_Q + 1), np.log(0.5 + alike_Q), gap_Q, np.minimum(gap_Q, 0),
            *(wave(times * angle_Q) for times in (1, 2) for wave in (np.sin, np.cos)), np.sin(last_Q), np.cos(last_Q),
        ]  # fmt: skip

    def of_kinds(self, num_known_N: Int64) -> list[NDArray[Any]]:
        """Whether the last item was new, whether it is a weekend, and different items for each event."""
        return [self.new_N[self.row_Q - 1], self.weekend_N[self.row_Q], num_known_N[self.row_Q] / self.length_Q]

    def of_routine(self) -> list[NDArray[Any]]:
        """How sure it is what comes again, how busy the last days were, and what the user knows of the place."""
        data, row_X = self.data, self.row_Q[self.query_X]
        _, entry_X = np.unique(self.query_X * data.num_items + data.item_N[self.past_X], return_inverse=True)
        share_X = sums(entry_X, self.share_X, len(entry_X))[entry_X]  # of the whole item
        entropy_Q = self.total(-self.share_X * np.log(share_X + 1e-12))
        hours_X = (data.time_N[row_X] - data.time_N[self.past_X]) / 3600
        few_Q, many_Q = (self.total(hours_X < hours) for hours in _LATELY_H)
        new_Q = self.total((hours_X < _LATELY_H[0]) * self.new_N[self.past_X])
        followed_Q = self.total(data.from_N[self.past_X] == data.from_N[row_X])
        return [
            entropy_Q, entropy_Q**2, np.log1p(few_Q), np.log1p(many_Q), np.log1p(new_Q), np.log1p(followed_Q),
            *self._of_place(row_X),
        ]  # fmt: skip

    def _of_place(self, row_X: Int64) -> list[Float64]:
        """The share of events near to where the user is, and how many items surround that place."""
        here_N3, place_I3 = self.data.here_N3, self.data.place_I3
        if here_N3 is None or place_I3 is None:
            return [np.zeros(len(self.row_Q))] * 2
        there_X3 = place_I3[self.data.item_N[self.past_X]]
        near_Q = self.total(distance_km(here_N3[row_X], there_X3) < _NEAR_KM) / self.looked_Q
        return [np.sqrt(near_Q), density(here_N3[self.row_Q], place_I3) ** 2]
