"""The user's own past: counts, weighted by how much each event resembles now, and where all users go from here.

On nyc-checkins these few lines are the opponent to beat; they come with that data as its reference.

Known items, and items that someone had reached from the user's last one, come by score; equal scores in the order in
which the user first visited the items, then by popularity; all other items follow by popularity.

Shapes: see `counting` and `sparse`.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import Task, num_previous
from .clock import DAY_S, local_seconds
from .counting import Moves, Visits, popularity_order
from .pasts import Weigh, each_one
from .protocol import Family
from .rankings import Rankings
from .settings import BaselineName
from .sparse import Scored, chunks, join, rank_sparse

__all__ = ["FAMILIES", "ContextWeights", "MoveWeights", "OwnEvents", "local_seconds"]

Settings = Mapping[str, float]


@dataclass(frozen=True)
class ContextWeights:
    """How much an own event of the past says about now.

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

    def weigh(self, histories: Histories) -> Weigh:
        """Prepare the weights; `weight(row_X, past_X)` is that of the event in row `past_X` for predicting `row_X`."""
        local_N = local_seconds(histories.events)
        item_N, time_N = histories.item_idx_E, histories.time_s_E
        from_N = np.where(num_previous(histories) > 0, np.roll(item_N, 1), -1)

        def weight(row_X: Int64, past_X: Int64) -> Float64:
            # Age counts from the user's last event: weights matter only as shares, and so they cannot all vanish.
            age_s_X = time_N[row_X - 1] - time_N[past_X]
            return self.of(age_s_X, local_N[row_X], local_N[past_X], from_N[past_X] == item_N[row_X - 1])

        return weight

    def of(self, age_s_X: Int64, local_X: Int64, past_local_X: Int64, followed_X: NDArray[np.bool_]) -> Float64:
        """Weights of past events: float64 [X].

        Args:
            age_s_X: int64, seconds.
            local_X, past_local_X: int64, seconds of the local wall clock since 1970, of the moment and of the event.
            followed_X: bool, whether the event followed upon the item where the user is at the moment.
        """
        day_X, past_day_X = local_X // DAY_S, past_local_X // DAY_S
        apart_X = np.abs(local_X % DAY_S - past_local_X % DAY_S) / 3600
        apart_X = np.minimum(apart_X, 24 - apart_X)
        weight_X = np.exp(-(age_s_X / DAY_S) / self.age_days)
        weight_X *= self.hour_floor + np.exp(-0.5 * (apart_X / self.hour_sigma) ** 2)
        weight_X *= np.where(_is_weekend(day_X) == _is_weekend(past_day_X), 1.0, self.other_kind_of_day)
        weight_X *= np.where(followed_X, self.same_previous, 1.0)
        return weight_X


@dataclass(frozen=True)
class MoveWeights:
    """What the share of all users' moves out of the last item to an item adds to that item's score."""

    known: float
    new: float


@dataclass(frozen=True)
class OwnEvents:
    """Each known item scores its share of the (weighted) earlier events, plus moves of all users.

    Attributes:
        context: weights of the own events; None counts each as 1.
        moves: weights of the moves; None leaves them out.
    """

    context: ContextWeights | None = None
    moves: MoveWeights | None = None

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`."""
        histories, row_E = task.histories, task.row_E
        place_I = popularity_order(histories, task.split)
        visits = Visits.of(histories)
        moves = Moves.of(histories) if self.moves else None
        weigh = self.context.weigh(histories) if self.context else each_one
        parts = []
        for chunk in chunks(task, _num_entries(histories, row_E, moves)):
            row_Q = row_E[chunk]
            scored = _known(histories, visits, weigh, row_Q)
            if moves and self.moves:
                scored = _with_moves(histories, visits, moves, self.moves, row_Q, scored, place_I)
            parts.append(rank_sparse(task, row_Q, scored, place_I, k))
        return join(parts)


@dataclass(frozen=True)
class _OwnFamily:
    """Rankers of the kind `OwnEvents`; settings are the fields of `ContextWeights` and `MoveWeights`."""

    name: BaselineName
    settings: Sequence[Settings]

    def grid(self) -> Sequence[Mapping[str, Any]]:
        """See `Family.grid`."""
        return self.settings

    def ranker(
        self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int
    ) -> OwnEvents:  # fmt: skip
        """See `Family.ranker`; there is nothing to fit, nor anything random."""
        context = {field.name: settings[field.name] for field in fields(ContextWeights) if field.name in settings}
        moves = {field.name: settings[field.name] for field in fields(MoveWeights) if field.name in settings}
        return OwnEvents(ContextWeights(**context) if context else None, MoveWeights(**moves) if moves else None)


def _known(histories: Histories, visits: Visits, weigh: Weigh, row_Q: Int64) -> Scored:
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
    query_X, item_X, count_X = moves.before(row_Q, histories.item_idx_E[row_Q - 1].astype(np.int64))
    share_X = count_X / np.bincount(query_X, weights=count_X, minlength=len(row_Q))[query_X]
    number_X = visits.number(histories.user_idx_E[row_Q].astype(np.int64)[query_X], item_X)
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


def _num_entries(histories: Histories, row_E: Int64, moves: Moves | None) -> Int64:
    entries_E = num_previous(histories)[row_E]
    return entries_E + moves.degree(histories.item_idx_E[row_E - 1].astype(np.int64)) if moves else entries_E


def _is_weekend(day_X: Int64) -> NDArray[np.bool_]:
    return (day_X + 3) % 7 >= 5  # day 0, 1 January 1970, was a Thursday


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

FAMILIES: Final[tuple[Family, ...]] = (
    _OwnFamily("own counts", [{}]),
    _OwnFamily(
        "own counts + transitions",
        _grid(_MOVES, _choice("known", 0.3, 1.0, 2.0, 4.0), _choice("new", 0.03, 0.1, 0.5, 2.0)),
    ),
    _OwnFamily("context-weighted own events", _CONTEXT_GRID),
)
