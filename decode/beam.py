"""A frontier of fixed width: entries that are not among the best of a round are dropped."""

from __future__ import annotations

import numpy as np

from ..arrays import Float32, Int64
from ..catalogue import Subset, Trie
from .entries import LOWEST, Children, Entries
from .frontier import CROWDED, Frontier, top_k_bound


class Beam(Frontier):
    """Every node is expanded in the round after it was found; of each question, `width` entries survive a round."""

    def __init__(
        self, trie: Trie, num_queries: int, k: int, width: int, subset: Subset | None = None,
        part_QP: Float32 | None = None,
    ) -> None:  # fmt: skip
        self.width = width
        super().__init__(trie, num_queries, k, subset, part_QP)

    def choose(self, limit_Q: Int64, slack: float) -> Entries:
        is_node_A = self.entries.node >= 0
        chosen, self.entries = self.entries.take(is_node_A), self.entries.take(~is_node_A)
        return chosen

    def _hold_back(self, children: Children) -> Float32:
        """Nothing is kept in reserve: float32 [Q], below which children cannot be among the best."""
        low_Q = np.full(self.num_queries, LOWEST, np.float32)
        begin_Q1 = children.bounds(self._query_Q1)
        crowded = np.flatnonzero(np.diff(begin_Q1) > CROWDED * self.width)
        if len(crowded):
            low_Q[crowded] = top_k_bound(children.value_J, begin_Q1[crowded], begin_Q1[crowded + 1], self.width)
            is_lost_J = children.value_J < children.edges.spread(low_Q[children.query_X])
            highest_X = children.edges.highest(np.where(is_lost_J, children.value_J, np.float32(-np.inf)))
            np.maximum.at(self.lost_Q, children.query_X, highest_X)
        return low_Q

    def _rank(self, entries: Entries) -> None:
        start_Q1 = np.searchsorted(entries.query, self._query_Q1)
        lost_A = np.arange(len(entries)) - start_Q1[entries.query] >= self.width
        np.maximum.at(self.lost_Q, entries.query[lost_A], entries.value[lost_A])
        super()._rank(entries.take(~lost_A))
