"""The user's own earlier events as a row of item weights, and rankers that map such a row to scores.

Shapes: N = events (rows of the histories), Q = queries, I = items, X = past events of all queries, flattened.
"""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from .protocol import Arrays, Dense, Floats

T = TypeVar("T")
Weigh = Callable[[Int64, Int64], NDArray[Any]]
"""`weigh(row_X, past_X)`: how much each past row counts when the row beside it is predicted, [X]."""

_ENTRIES = 2_000_000  # past events held at once, each some 50 bytes


def past_sums(histories: Histories, row_Q: Int64, weigh: Weigh) -> Float64:
    """Sum per item of the weights of the user's events before each row: float64 [Q, I], 0 for items never chosen."""
    num_items = histories.items.height
    begin_Q = histories.offset_U1[histories.user_idx_N[row_Q]]
    length_Q = row_Q - begin_Q
    sum_QI = np.zeros((len(row_Q), num_items))
    for part in parts_of(length_Q, _ENTRIES):
        query_X, past_X = ragged(begin_Q[part], length_Q[part])
        cell_X = query_X * num_items + histories.item_idx_N[past_X]
        weight_X = weigh(row_Q[part][query_X], past_X)
        sum_X = np.bincount(cell_X, weights=weight_X, minlength=(part.stop - part.start) * num_items)
        sum_QI[part] = sum_X.reshape(-1, num_items)
    return sum_QI


def last_items(histories: Histories, row_Q: Int64) -> Int64:
    """The item of the event before each row, of the same user: int64 [Q], -1 where there is none."""
    last_Q: Int64 = histories.item_idx_N[row_Q - 1].astype(np.int64)
    return np.where(row_Q > histories.offset_U1[histories.user_idx_N[row_Q]], last_Q, -1)


def each_one(row_X: Int64, past_X: Int64) -> Float64:
    """Every past event counts 1."""
    return np.ones(len(past_X))


def by_age(half_life_events: float | None) -> Weigh:
    """The last event counts 1, and every `half_life_events` before it half of that; None: each counts 1."""
    if half_life_events is None:
        return each_one
    return lambda row_X, past_X: np.exp2((past_X - row_X + 1) / half_life_events)


def parts_of(length_Q: Int64, most: int) -> Iterator[slice]:
    """Consecutive slices of at least one question each, of about `most` entries; question q has `length_Q[q]`."""
    part_Q = np.cumsum(length_Q) // most
    bounds = [0, *(np.flatnonzero(np.diff(part_Q)) + 1).tolist(), len(length_Q)]
    return (slice(start, stop) for start, stop in pairwise(bounds) if stop > start)


class ItemModel(Protocol):
    """What items say of other items."""

    def scores_of(self, past_QI: Float64) -> Float64:
        """Scores of all items, float64 [Q, I], by weights of the items of histories, float64 [Q, I]."""
        ...

    def arrays(self) -> Arrays:
        """See `Fitted.arrays`."""
        ...


@dataclass(frozen=True)
class FadedHistory:
    """Scores items by what a model of items makes of a history, faded by age.

    An event counts half when `half_life_events` came after it; None: all count alike. `self_weight` is what each item
    of the history adds to its own score, per event: models of other items leave that out, but people return.
    """

    model: ItemModel
    half_life_events: float | None
    self_weight: float

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        weigh = by_age(self.half_life_events)

        def scores(row_Q: Int64) -> Floats:
            past_QI = past_sums(histories, row_Q, weigh)
            score_QI = self.model.scores_of(past_QI) + self.self_weight * past_QI
            return score_QI.astype(np.float32)  # sums of equal numbers in another order are equal again

        return Dense(scores)

    def arrays(self) -> Arrays:
        """See `Fitted.arrays`."""
        return self.model.arrays()


class LastFit(Generic[T]):
    """Keeps what was fitted last, so that settings that matter only when ranking are tuned without fitting again.

    A grid in which settings of the fit change least often fits once for each of them.
    """

    def __init__(self) -> None:
        self._histories: weakref.ref[Histories] | None = None
        self._key: Any = None
        self._fitted: T | None = None

    def get(self, histories: Histories, key: Any, fit: Callable[[], T]) -> T:
        """`fit()`, or what it gave the last time, if that was for the very same histories and an equal key."""
        known = self._histories is not None and self._histories() is histories and self._key == key
        if not known or self._fitted is None:
            self._fitted = None  # two of them at once might be more than fits into memory
            self._histories, self._key = weakref.ref(histories, self._forget), key
            self._fitted = fit()
        return self._fitted

    def _forget(self, gone: weakref.ref[Histories]) -> None:
        if self._histories is gone:
            self._fitted = None
