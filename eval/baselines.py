"""Rankers by counting, which any model has to beat.

Each ranks the full catalogue for every evaluated event from what came before it: the user's earlier events, of any
split; all users' moves that had arrived strictly earlier in time; popularity from events of earlier splits (under
leave-one-out some of those are later in time than the predicted event, as that protocol has it).

Ranks are exact over the whole catalogue and deterministic. Candidates (items the user knows, and items that someone had
reached from the user's last one) come by score; equal scores in the order in which the user first visited the
items, then by popularity; all other items follow by popularity; equally popular ones by `item_idx`.

Shapes: see `counting`; C = candidates of all queries, flattened.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..histories import Histories
from .counting import Ints, Moves, Visits, ragged
from .protocol import SPLIT_CODES, evaluated_events, num_previous
from .settings import BaselineName, EvaluatedSplit

__all__ = ["BASELINES", "Baseline", "OwnEvents", "Popularity", "popularity_order"]

Floats = NDArray[np.float64]
_SECONDS_PER_DAY = 86_400
_ENTRIES_PER_CHUNK = 1_000_000  # bounds memory to some 100 MB, whatever the number of events


class Baseline(Protocol):
    """Anything that ranks the catalogue for each evaluated event."""

    @property
    def name(self) -> BaselineName: ...

    def rank(self, histories: Histories, split: EvaluatedSplit) -> Ints:
        """Rank of the chosen item, from 1: int64 [E], in the order of `evaluated_events(histories, split)`.

        Raises:
            DataError: the split has no event to predict.
        """
        ...


@dataclass(frozen=True)
class Popularity:
    """The same ranking for everybody: most frequent first."""

    name: BaselineName = "popularity"

    def rank(self, histories: Histories, split: EvaluatedSplit) -> Ints:
        """See `Baseline.rank`."""
        row_E = evaluated_events(histories, split)
        return popularity_order(histories, split)[histories.item_idx_E[row_E]] + 1


@dataclass(frozen=True)
class ContextWeights:
    """How much an own event of the past says about now.

    A strong simple opponent on nyc-checkins, where four of the constants come with the data as its reference. The floor
    and the weights of moves that go with it are the best of 108 combinations on that data's validation split.

    Attributes:
        age_days: the weight falls by e in this time.
        hour_sigma: standard deviation in hours of a Gaussian over the distance between the times of day.
        hour_floor: what is left for an event at another time of day.
        other_kind_of_day: factor for a working day's event at a weekend and the reverse.
        same_previous: factor for an event that followed upon the item where the user is now.
    """

    age_days: float = 30.0
    hour_sigma: float = 1.5
    hour_floor: float = 0.03
    other_kind_of_day: float = 0.5
    same_previous: float = 7.0

    def weigh(self, histories: Histories) -> "Weigh":
        """Prepare the weights; `weight(row_X, past_X)` is that of the event in row `past_X` for predicting `row_X`."""
        moment = _local_seconds(histories)
        hour_N = moment % _SECONDS_PER_DAY / 3600
        weekend_N = (moment // _SECONDS_PER_DAY + 3) % 7 >= 5  # day 0, 1 January 1970, was a Thursday
        item_N, time_N = histories.item_idx_E, histories.time_s_E
        from_N = np.where(num_previous(histories) > 0, np.roll(item_N, 1), -1)

        def weight(row_X: Ints, past_X: Ints) -> Floats:
            # Age counts from the user's last event: weights matter only as shares, and so they cannot all vanish.
            age_X = (time_N[row_X - 1] - time_N[past_X]) / _SECONDS_PER_DAY
            apart_X = np.abs(hour_N[row_X] - hour_N[past_X])
            apart_X = np.minimum(apart_X, 24 - apart_X)
            weight_X = np.exp(-age_X / self.age_days)
            weight_X *= self.hour_floor + np.exp(-0.5 * (apart_X / self.hour_sigma) ** 2)
            weight_X *= np.where(weekend_N[row_X] == weekend_N[past_X], 1.0, self.other_kind_of_day)
            weight_X *= np.where(from_N[past_X] == item_N[row_X - 1], self.same_previous, 1.0)
            return weight_X

        return weight


Weigh = Callable[[Ints, Ints], Floats]


@dataclass(frozen=True)
class MoveWeights:
    """What the share of all users' moves out of the last item to an item adds to that item's score."""

    known: float
    new: float


@dataclass(frozen=True)
class OwnEvents:
    """The user's own past: each known item scores its share of the (weighted) earlier events, plus moves of all users.

    Attributes:
        context: weights of the own events; None counts each as 1.
        moves: weights of the moves; None leaves them out.
    """

    name: BaselineName
    context: ContextWeights | None = None
    moves: MoveWeights | None = None

    def rank(self, histories: Histories, split: EvaluatedSplit) -> Ints:
        """See `Baseline.rank`."""
        row_E = evaluated_events(histories, split)
        place_I = popularity_order(histories, split)
        visits = Visits.of(histories)
        moves = Moves.of(histories) if self.moves else None
        weigh = self.context.weigh(histories) if self.context else _one_each
        rank_E = np.empty(len(row_E), dtype=np.int64)
        for chunk in _chunks(_num_entries(histories, row_E, moves)):
            row_Q = row_E[chunk]
            candidates = _known(histories, visits, weigh, row_Q)
            if moves and self.moves:
                candidates = _with_moves(histories, visits, moves, self.moves, row_Q, candidates, place_I)
            rank_E[chunk] = _rank_of_truth(candidates, histories.item_idx_E[row_Q], place_I)
        return rank_E


def popularity_order(histories: Histories, split: EvaluatedSplit) -> Ints:
    """Place of each item by its number of events in earlier splits, 0 the most popular: int64 [I]; ties by item_idx."""
    earlier_N = histories.split_E < SPLIT_CODES[split]
    count_I = np.bincount(histories.item_idx_E[earlier_N], minlength=histories.items.height)
    place_I = np.empty(len(count_I), dtype=np.int64)
    place_I[np.argsort(-count_I, kind="stable")] = np.arange(len(count_I))
    return place_I


@dataclass(frozen=True)
class _Candidates:
    """`order_C` breaks ties: the user's number of the item; for new ones, behind all those, the place by popularity."""

    query_C: Ints
    item_C: Ints
    score_C: Floats
    order_C: Ints


def _known(histories: Histories, visits: Visits, weigh: Weigh, row_Q: Ints) -> _Candidates:
    """Each query's known items in the order of the first visit, scored by their share of the past events' weights."""
    user_Q = histories.user_idx_E[row_Q]
    num_known_Q = visits.num_known_N[row_Q]
    start_Q = np.cumsum(num_known_Q) - num_known_Q
    query_X, past_X = ragged(histories.offset_U1[user_Q], row_Q - histories.offset_U1[user_Q])
    weight_X = weigh(row_Q[query_X], past_X)
    total_Q = np.bincount(query_X, weights=weight_X, minlength=len(row_Q))
    score_C = np.bincount(start_Q[query_X] + visits.number_N[past_X], weights=weight_X, minlength=num_known_Q.sum())
    query_C, at_C = ragged(visits.offset_U1[user_Q], num_known_Q)
    order_C = at_C - visits.offset_U1[user_Q][query_C]
    return _Candidates(query_C, visits.item_P[at_C], score_C / total_Q[query_C], order_C)


def _with_moves(
    histories: Histories,
    visits: Visits,
    moves: Moves,
    weights: MoveWeights,
    row_Q: Ints,
    known: _Candidates,
    place_I: Ints,
) -> _Candidates:
    """Add the share of all users' earlier moves out of the last item: to known items' scores, or as new candidates."""
    query_X, item_X, count_X = moves.before(row_Q, histories.item_idx_E[row_Q - 1].astype(np.int64))
    share_X = count_X / np.bincount(query_X, weights=count_X, minlength=len(row_Q))[query_X]
    number_X = visits.number(histories.user_idx_E[row_Q].astype(np.int64)[query_X], item_X)
    num_known_Q = visits.num_known_N[row_Q]
    is_new_X = number_X >= num_known_Q[query_X]  # never visited, or only later
    start_Q = np.cumsum(num_known_Q) - num_known_Q
    known_C = start_Q[query_X[~is_new_X]] + number_X[~is_new_X]
    score_C = known.score_C.copy()
    score_C[known_C] += weights.known * share_X[~is_new_X]  # no candidate occurs twice in known_C
    new_item = item_X[is_new_X]
    return _Candidates(
        np.concatenate([known.query_C, query_X[is_new_X]]),
        np.concatenate([known.item_C, new_item]),
        np.concatenate([score_C, weights.new * share_X[is_new_X]]),
        np.concatenate([known.order_C, visits.num_items + place_I[new_item]]),
    )


def _rank_of_truth(candidates: _Candidates, truth_Q: NDArray[np.int32], place_I: Ints) -> Ints:
    """1 + the number of items ahead of the truth: int64 [Q]."""
    query_C, num_queries = candidates.query_C, len(truth_Q)
    is_truth_C = candidates.item_C == truth_Q[query_C]
    # A truth outside of the candidates stands behind all of them, and then where popularity puts it among the rest.
    score_Q, order_Q = np.full(num_queries, -np.inf), np.zeros(num_queries, dtype=np.int64)
    score_Q[query_C[is_truth_C]] = candidates.score_C[is_truth_C]
    order_Q[query_C[is_truth_C]] = candidates.order_C[is_truth_C]
    is_equal_C = candidates.score_C == score_Q[query_C]
    is_ahead_C = (candidates.score_C > score_Q[query_C]) | (is_equal_C & (candidates.order_C < order_Q[query_C]))
    more_popular_C = place_I[candidates.item_C] < place_I[truth_Q][query_C]
    num_ahead_Q = np.bincount(query_C[is_ahead_C], minlength=num_queries)
    rest_ahead_Q = place_I[truth_Q] - np.bincount(query_C[more_popular_C], minlength=num_queries)
    rank_Q: Ints = 1 + num_ahead_Q + np.where(np.isneginf(score_Q), rest_ahead_Q, 0)
    return rank_Q


def _num_entries(histories: Histories, row_E: Ints, moves: Moves | None) -> Ints:
    entries_E = num_previous(histories)[row_E]
    return entries_E + moves.degree(histories.item_idx_E[row_E - 1].astype(np.int64)) if moves else entries_E


def _chunks(num_entries_E: Ints) -> Iterator[slice]:
    """Consecutive slices of at least one query each, of about `_ENTRIES_PER_CHUNK` entries."""
    chunk_E = np.cumsum(num_entries_E) // _ENTRIES_PER_CHUNK
    bounds = [0, *(np.flatnonzero(np.diff(chunk_E)) + 1).tolist(), len(num_entries_E)]
    return (slice(start, stop) for start, stop in pairwise(bounds))


def _one_each(row_X: Ints, past_X: Ints) -> Floats:
    return np.ones(len(past_X))


def _local_seconds(histories: Histories) -> Ints:
    """Local wall-clock seconds since 1970-01-01 00:00 of every event: int64 [N]."""
    local = histories.events["local_time"].cast(pl.Datetime("us")).dt.epoch("s")
    return local.cast(pl.Int64).to_numpy()


_ALL: Final[tuple[Baseline, ...]] = (
    Popularity(),
    OwnEvents("own counts"),
    OwnEvents("own counts + transitions", moves=MoveWeights(known=2.0, new=0.5)),
    OwnEvents("context-weighted own events", ContextWeights(), MoveWeights(known=0.1, new=0.03)),
)
BASELINES: Final[Mapping[BaselineName, Baseline]] = {baseline.name: baseline for baseline in _ALL}
"""Every baseline by its name, weakest first."""
