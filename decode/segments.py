"""Segments (X) of unequal length end to end in one array (J): the edges of several nodes, treated all at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float32, Int32, Int64
from ..catalogue import Trie

Array = NDArray[Any]


@dataclass(frozen=True)
class Segments:
    """Stretch x is `ptr_X1[x]:ptr_X1[x + 1]` (int64 [X + 1]); none is empty."""

    ptr_X1: Int64

    @classmethod
    def of_edges(cls, trie: Trie, node_X: Int64) -> Segments:
        """The edges of branching nodes, in the order of the nodes."""
        count_X = trie.child_ptr_B1[node_X + 1] - trie.child_ptr_B1[node_X]
        return cls(np.concatenate([np.zeros(1, np.int64), np.cumsum(count_X)]))

    @property
    def num_elements(self) -> int:
        return int(self.ptr_X1[-1])

    @cached_property
    def count_X(self) -> Int64:
        return np.diff(self.ptr_X1)

    def spread(self, value_X: Array) -> Array:
        """[J]: each stretch's value for each of its elements."""
        return np.repeat(value_X, self.count_X)

    def shifted(self, first_X: Int64) -> Int64:
        """int64 [J]: `first_X`, `first_X + 1`, ... along each stretch."""
        return np.arange(self.num_elements) + self.spread(first_X - self.ptr_X1[:-1])

    def rows(self, trie: Trie, node_X: Int64) -> tuple[Int32, Int32]:
        """int32 [J] each: where the rows below the edges of `node_X` (whose edges these are) begin and end."""
        lo_J = trie.child_lo_C[self.shifted(trie.child_ptr_B1[node_X])]
        hi_J = np.empty_like(lo_J)
        hi_J[:-1] = lo_J[1:]
        hi_J[self.ptr_X1[1:] - 1] = trie.row_hi_B[node_X]
        return lo_J, hi_J

    def owner(self, position_Y: Int64) -> Int64:
        """int64 [Y]: the stretch that holds each element."""
        return np.searchsorted(self.ptr_X1, position_Y, side="right") - 1

    def highest(self, value_J: Array) -> Array:
        """[X]: the largest element of each stretch."""
        return np.maximum.reduceat(value_J, self.ptr_X1[:-1])

    def total(self, value_J: Array) -> Array:
        """float64 [X]: the sum of each stretch."""
        return np.add.reduceat(value_J, self.ptr_X1[:-1], dtype=np.float64)

    def log_softmax(self, value_J: Float32) -> Float32:
        """float32 [J]: every stretch shifted such that its exponentials sum to 1; none ends above 0."""
        top_X = self.highest(value_J)
        # Against the largest, so that the sum is at least 1 and rounding cannot make a child likelier than its parent.
        log_sum_X = np.log(self.total(np.exp(value_J - self.spread(top_X)))).astype(np.float32)
        shifted: Float32 = value_J - self.spread(top_X + log_sum_X)
        return shifted
