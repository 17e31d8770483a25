"""Which items the same users have chosen, and what a history says of other items through that.

Shapes: U = users, I = items, P = distinct (user, item) pairs, B = items of a block, Q = queries, H = items used.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES

__all__ = ["Choices", "spread"]

_CELLS = 4_000_000  # of a block of items times items that is held densely: 32 MB
_PAIRS = 2_000_000  # of items that are counted at once


@dataclass(frozen=True)
class Choices:
    """Who chose what at least once, by user and by item.

    Attributes:
        user_item_P: int64, items in the order of users (and of item_idx); user u's are offset_U1[u]:offset_U1[u + 1].
        item_user_P: int64, users in the order of items; those of item i are offset_I1[i]:offset_I1[i + 1].
    """

    user_item_P: Int64
    offset_U1: Int64
    item_user_P: Int64
    offset_I1: Int64

    @classmethod
    def of(cls, histories: Histories, split: EvaluatedSplit) -> "Choices":
        """Those of the events in splits earlier than `split`."""
        num_users, num_items = len(histories.user_ids), histories.items.height
        earlier_N = histories.split_E < SPLIT_CODES[split]
        user_N, item_N = histories.user_idx_E[earlier_N].astype(np.int64), histories.item_idx_E[earlier_N]
        user_P, user_item_P = np.divmod(np.unique(user_N * num_items + item_N), num_items)
        item_order_P = np.argsort(user_item_P, kind="stable")
        return cls(
            user_item_P=user_item_P,
            offset_U1=np.searchsorted(user_P, np.arange(num_users + 1)).astype(np.int64),
            item_user_P=user_P[item_order_P],
            offset_I1=np.searchsorted(user_item_P[item_order_P], np.arange(num_items + 1)).astype(np.int64),
        )

    @property
    def num_users_I(self) -> Int64:
        """How many users chose each item: int64 [I]."""
        return np.diff(self.offset_I1)

    def counts(self) -> Iterator[tuple[Int64, Int64, Int64]]:
        """How many users chose both of two items, an item with itself included, in blocks of consecutive items.

        Memory is bounded whatever the catalogue; time grows by the sum of squares of users' numbers of items.

        Yields:
            item_X, other_X, count_X, int64 [X]: pairs that somebody chose, in the order of items and of the others.
        """
        num_items = len(self.offset_I1) - 1
        num_pairs_I1 = np.append(0, np.cumsum(self._num_pairs_I()))
        start = 0
        while start < num_items:
            # As many items as fit, and one at least.
            stop = int(np.searchsorted(num_pairs_I1, num_pairs_I1[start] + _PAIRS, side="right")) - 1
            stop = max(stop, start + 1)
            begin_B, length_B = self.offset_I1[start:stop], self.num_users_I[start:stop]
            at_X, place_X = ragged(begin_B, length_B)  # whoever chose an item of the block
            user_X = self.item_user_P[place_X]
            entry_Y, place_Y = ragged(self.offset_U1[user_X], np.diff(self.offset_U1)[user_X])
            cell, count = _tally(at_X[entry_Y] * num_items + self.user_item_P[place_Y], (stop - start) * num_items)
            yield start + cell // num_items, cell % num_items, count
            start = stop

    def _num_pairs_I(self) -> Int64:
        """How many items, repetitions included, the users of each item chose: int64 [I]."""
        size_P = np.diff(self.offset_U1)[self.item_user_P]
        size_P1 = np.append(0, np.cumsum(size_P))
        pairs_I: Int64 = size_P1[self.offset_I1[1:]] - size_P1[self.offset_I1[:-1]]
        return pairs_I


def _tally(cell_Y: Int64, num_cells: int) -> tuple[Int64, Int64]:
    """The distinct cells among some, ascending, and how often each occurs."""
    if num_cells > _CELLS:  # sparse: the few cells are sorted
        return np.unique(cell_Y, return_counts=True)
    count = np.bincount(cell_Y, minlength=num_cells)
    cell = np.flatnonzero(count)
    return cell, count[cell]


def spread(weight_QI: Float64, rows_of: Callable[[Int64], NDArray[Any]]) -> Float64:
    """Matrix product of histories and an item-item matrix of which only rows that occur are made, block by block.

    Args:
        weight_QI: float64 [Q, I], what each item of each query's history counts.
        rows_of: from items int64 [H] to their rows, [H, I].

    Returns:
        float64 [Q, I].
    """
    num_items = weight_QI.shape[1]
    used_H = np.flatnonzero(weight_QI.any(axis=0))
    size = max(_CELLS // num_items, 1)
    sum_QI = np.zeros(weight_QI.shape)
    for start in range(0, len(used_H), size):
        item_B = used_H[start : start + size]
        sum_QI += weight_QI[:, item_B] @ rows_of(item_B)
    return sum_QI
