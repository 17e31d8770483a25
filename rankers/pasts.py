"""The user's own earlier events as a row of item weights.

Shapes: N = events (rows of the histories), Q = queries, I = items, X = past events of all queries, flattened.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64, ragged
from ..histories import Histories

__all__ = ["Weigh", "by_age", "each_one", "past_sums"]

Weigh = Callable[[Int64, Int64], NDArray[Any]]
"""`weigh(row_X, past_X)`: how much each past row counts when the row beside it is predicted, [X]."""

_ENTRIES = 2_000_000  # past events held at once, each some 50 bytes


def past_sums(histories: Histories, row_Q: Int64, weigh: Weigh) -> Float64:
    """Sum per item of the weights of the user's events before each row: float64 [Q, I], 0 for items never chosen."""
    num_items = histories.items.height
    begin_Q = histories.offset_U1[histories.user_idx_E[row_Q]]
    length_Q = row_Q - begin_Q
    sum_QI = np.zeros((len(row_Q), num_items))
    for part in _parts(length_Q):
        query_X, past_X = ragged(begin_Q[part], length_Q[part])
        cell_X = query_X * num_items + histories.item_idx_E[past_X]
        weight_X = weigh(row_Q[part][query_X], past_X)
        sum_X = np.bincount(cell_X, weights=weight_X, minlength=(part.stop - part.start) * num_items)
        sum_QI[part] = sum_X.reshape(-1, num_items)
    return sum_QI


def each_one(row_X: Int64, past_X: Int64) -> Float64:
    """Every past event counts 1."""
    return np.ones(len(past_X))


def by_age(half_life_events: float | None) -> Weigh:
    """The last event counts 1, and every `half_life_events` before it half of that; None: each counts 1."""
    if half_life_events is None:
        return each_one
    return lambda row_X, past_X: np.exp2((past_X - row_X + 1) / half_life_events)


def _parts(length_Q: Int64) -> Iterator[slice]:
    """Consecutive slices of at least one query each, of about `_ENTRIES` past events."""
    part_Q = np.cumsum(length_Q) // _ENTRIES
    bounds = [0, *(np.flatnonzero(np.diff(part_Q)) + 1).tolist(), len(length_Q)]
    return (slice(start, stop) for start, stop in pairwise(bounds))
