"""Counts of the user's events, weighted by similarity to the query, and where all users go from the last item.

`OwnEvents` is sparse. On nyc-checkins it is the opponent to beat, and comes with that data as its reference.

Known items, and items that someone had reached from the user's last one, come by score; equal scores in the order in
which the user first visited the items, then by popularity; all other items follow by popularity.

`OwnHours` is a distribution: what the user does at this hour.

Shapes: see `counting` and `protocol`; X = past events of all questions, flattened.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import num_previous
from .clock import DAY_S, is_weekend, local_hours, local_seconds
from .counting import Moves, Visits, moves_of, popularity_order
from .popular import popular_shares
from .protocol import Counting, Dense, Family, Scored, Sparse, grid_of
from .user_history import Weigh, each_one, last_items, past_sums

WITHOUT_CLOCK: Final = {"hour_sigma": 1e9, "other_kind_of_day": 1.0}
"""Fields of `ContextWeights` for hours so wide that all are alike, and all days of one kind."""
_WEEKEND_FROM = 5 * 24  # hours since Monday 00:00
Settings = Mapping[str, float]


@dataclass(frozen=True)
class ContextWeights:
    """The weight of a past event of the user for the query.

    Attributes:
        age_days: the weight falls by e in this time.
        hour_sigma: standard deviation in hours of a Gaussian over the distance between the times of day.
        hour_floor: what is left for an event at another time of day.
        other_kind_of_day: factor for a working day's event at a weekend and the reverse.
        same_previous: factor for an event that came after the same item as the query.
    """

    age_days: float = 30.0
    hour_sigma: float = 1.5
    hour_floor: float = 0.03
    other_kind_of_day: float = 0.5
    same_previous: float = 7.0

    def weigh(self, histories: Histories) -> Weigh:
        """Prepare the weights; `weight(row_X, past_X)` is that of the event in row `past_X` for predicting `row_X`."""
        local_N = local_seconds(histories.events)
        item_N, time_N = histories.item_idx_N, histories.time_s_N
        from_N = np.where(num_previous(histories) > 0, np.roll(item_N, 1), -1)

        def weight(row_X: Int64, past_X: Int64) -> Float64:
            # Age counts from the user's last event: weights matter only as shares, and so they cannot all vanish.
            age_s_X = time_N[row_X - 1] - time_N[past_X]
            return self.of(age_s_X, local_N[row_X], local_N[past_X], from_N[past_X] == item_N[row_X - 1])

        return weight

    def of(self, age_s_X: Int64, local_X: Int64, past_local_X: Int64, followed_X: NDArray[np.bool_]) -> Float64:
        """Weights of past events: float64 [X].

        `age_s_X` int64 seconds; `local_X`, `past_local_X` int64 seconds of the local wall clock since 1970, of the
        query and of the event; `followed_X` whether it came after the same item as the query.
        """
        apart_X = np.abs(local_X % DAY_S - past_local_X % DAY_S) / 3600
        apart_X = np.minimum(apart_X, 24 - apart_X)
        weight_X = np.exp(-(age_s_X / DAY_S) / self.age_days)
        weight_X *= self.hour_floor + np.exp(-0.5 * (apart_X / self.hour_sigma) ** 2)
        weight_X *= np.where(is_weekend(local_X) == is_weekend(past_local_X), 1.0, self.other_kind_of_day)
        weight_X *= np.where(followed_X, self.same_previous, 1.0)
        return weight_X


@dataclass(frozen=True)
class MoveWeights:
    """What the share of all users' moves out of the last item to an item adds to that item's score."""

    known: float
    new: float


@dataclass(frozen=True)
class OwnEvents(Counting):
    """Each known item scores its share of the earlier events, weighted by `context` (None: each counts 1), plus moves
    of all users, weighted by `moves` (None: without them)."""

    context: ContextWeights | None = None
    moves: MoveWeights | None = None

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Sparse:
        place_I = popularity_order(known or histories, split)
        visits = Visits.of(histories)
        moves = moves_of(known or histories) if self.moves else None
        weigh = self.context.weigh(histories) if self.context else each_one

        def scores(row_Q: Int64) -> Scored:
            scored = _known(histories, visits, weigh, row_Q)
            if moves and self.moves:
                return _with_moves(histories, visits, moves, self.moves, row_Q, scored, place_I)
            return scored

        def num_entries(row_E: Int64) -> Int64:
            entries_E = num_previous(histories)[row_E]
            return entries_E + moves.degree(last_items(histories, row_E)) if moves else entries_E

        return Sparse(scores, num_entries)


def _known(histories: Histories, visits: Visits, weigh: Weigh, row_Q: Int64) -> Scored:
    """Each query's known items in the order of the first visit, scored by their share of the past events' weights."""
    user_Q = histories.user_idx_N[row_Q]
    num_known_Q = visits.num_known_N[row_Q]
    start_Q = np.cumsum(num_known_Q) - num_known_Q
    query_X, past_X = ragged(histories.offset_U1[user_Q], row_Q - histories.offset_U1[user_Q])
    weight_X = weigh(row_Q[query_X], past_X)
    total_Q = np.bincount(query_X, weights=weight_X, minlength=len(row_Q))
    score_C = np.bincount(start_Q[query_X] + visits.number_N[past_X], weights=weight_X, minlength=num_known_Q.sum())
    query_C, at_C = ragged(visits.offset_U1[user_Q], num_known_Q)
    order_C = at_C - visits.offset_U1[user_Q][query_C]
    return Scored(query_C, visits.item_P[at_C], score_C / total_Q[query_C], order_C)


def _with_moves(
    histories: Histories,
    visits: Visits,
    moves: Moves,
    weights: MoveWeights,
    row_Q: Int64,
    known: Scored,
    place_I: Int64,
) -> Scored:
    """Add the share of all users' earlier moves out of the last item: to known items' scores, or as new items."""
    query_X, item_X, count_X = moves.before_time(histories.time_s_N[row_Q], last_items(histories, row_Q))
    share_X = count_X / np.bincount(query_X, weights=count_X, minlength=len(row_Q))[query_X]
    number_X = visits.number(histories.user_idx_N[row_Q].astype(np.int64)[query_X], item_X)
    num_known_Q = visits.num_known_N[row_Q]
    is_new_X = number_X >= num_known_Q[query_X]  # never visited, or only later
    start_Q = np.cumsum(num_known_Q) - num_known_Q
    known_C = start_Q[query_X[~is_new_X]] + number_X[~is_new_X]
    score_C = known.score_C.copy()
    score_C[known_C] += weights.known * share_X[~is_new_X]  # no item occurs twice in known_C
    new_item = item_X[is_new_X]
    return Scored(
        np.concatenate([known.query_C, query_X[is_new_X]]),
        np.concatenate([known.item_C, new_item]),
        np.concatenate([score_C, weights.new * share_X[is_new_X]]),
        np.concatenate([known.order_C, visits.num_items + place_I[new_item]]),
    )


@dataclass(frozen=True)
class OwnHours(Counting):
    """p(i) = (h_i + b o_i) / (h + b), and o_i = (n_i + a s_i) / (n + a).

    Each is backed off to the next as a Dirichlet prior does it. n counts own events; h weighs them by a Gaussian over
    the distance between the times of day, and by the kind of day; s are the shares of all users' events in earlier
    splits.

    `sigma_hours` is the standard deviation of that Gaussian, `other_kind` the factor for a working day's event at a
    weekend and the reverse, b is `backoff_events`, and a `popular_events`.
    """

    sigma_hours: float
    other_kind: float
    backoff_events: float
    popular_events: float

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """See `Ranker.on`; it scores by the logarithm."""
        share_I, weigh = popular_shares(known or histories, split), self.weigh(histories)

        def scores_of(row_Q: Int64) -> Float64:
            any_QI = past_sums(histories, row_Q, each_one)
            any_QI = _backed_off(any_QI, share_I, self.popular_events)
            return np.log(_backed_off(past_sums(histories, row_Q, weigh), any_QI, self.backoff_events))

        return Dense(scores_of, is_log_prob=True)

    def weigh(self, histories: Histories) -> Weigh:
        """The weight of a past event for a query at another time, at most 1."""
        hour_N = local_hours(histories)
        day_hour_N, weekend_N = hour_N % 24, hour_N >= _WEEKEND_FROM

        def weight(row_X: Int64, past_X: Int64) -> Float64:
            apart_X = np.abs(day_hour_N[row_X] - day_hour_N[past_X])
            apart_X = np.minimum(apart_X, 24 - apart_X)
            kind_X = np.where(weekend_N[row_X] == weekend_N[past_X], 1.0, self.other_kind)
            weight_X: Float64 = kind_X * np.exp(-0.5 * (apart_X / self.sigma_hours) ** 2)
            return weight_X

        return weight


def _backed_off(sum_QI: Float64, prior: Float64, events: float) -> Float64:
    """(sum + events * prior) / (total + events): float64 [Q, I], rows adding up to 1 if those of `prior` do."""
    share_QI: Float64 = (sum_QI + events * prior) / (sum_QI.sum(axis=1, keepdims=True) + events)
    return share_QI


def _own_events(**settings: float) -> OwnEvents:
    """Settings are the fields of `ContextWeights` and `MoveWeights`."""
    context, moves = (
        {field.name: settings[field.name] for field in fields(kind) if field.name in settings}
        for kind in (ContextWeights, MoveWeights)
    )
    return OwnEvents(ContextWeights(**context) if context else None, MoveWeights(**moves) if moves else None)


def _grid(start: Settings, *choices: Sequence[Settings]) -> list[Settings]:
    """One of each of the choices, in all combinations, behind the settings to start from."""
    combined: list[Settings] = [dict(ChainMap(*map(dict, one), dict(start))) for one in product(*choices)]
    return [start, *(one for one in combined if one != start)]


def _choice(name: str, *values: float) -> list[Settings]:
    return [{name: value} for value in values]


# What comes with nyc-checkins as its reference, or was chosen there before there was any tuning.
_MOVES: Final = vars(MoveWeights(known=2.0, new=0.5))
_CONTEXT: Final = {**vars(ContextWeights()), **vars(MoveWeights(known=0.1, new=0.03))}
# Settings that hardly matter together are not varied together: 640 combinations rather than thousands.
_CONTEXT_GRID: Final = _grid(
    _CONTEXT,
    _choice("age_days", 10.0, 30.0, 90.0, 270.0),
    _choice("hour_sigma", 0.1, 0.5, 1.0, 1.5),
    _choice("other_kind_of_day", 0.5, 1.0),
    _choice("same_previous", 1.0, 2.0, 4.0, 7.0),
    [{"known": k, "new": n} for k, n in ((0.1, 0.03), (0.3, 0.1), (1.0, 0.3), (2.0, 2.0), (6.0, 6.0))],
)

_HOURS: Final = grid_of(
    OwnHours, (0.1, 0.25, 0.5, 1.0, 2.0), (0.3, 1.0), (0.3, 1.0, 3.0, 10.0, 100.0), (1.0, 10.0, 100.0)
)

FAMILIES: Final = (
    Family.counting("own counts", [{}], _own_events),
    Family.counting(
        "own counts + transitions",
        _grid(_MOVES, _choice("known", 0.3, 1.0, 2.0, 4.0), _choice("new", 0.03, 0.1, 0.5, 2.0)),
        _own_events,
    ),
    Family.counting("context-weighted own events", _CONTEXT_GRID, _own_events),
    Family.counting("own counts by hour of week", _HOURS, OwnHours),
)
