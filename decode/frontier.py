"""The frontier of a search: the best entries in order, all others in reserve.

A node near the top of a large trie has tens of thousands of edges. A search needs a few dozen of them. Only edges above
a bound, question by question, are made into entries and sorted. The others stay in the model's scores. They are looked
at again if the bound has to be lowered.

Shape legend: A entries, X nodes scored together, J their edges end to end, Y edges picked out of them, Q questions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float32, Int64
from ..catalogue import Subset, Trie
from .entries import LOWEST, Children, Entries, Moved
from .segments import Segments

# Of a round that brings CROWDED times as many, so many entries of a question are put in order.
HELD_PER_K, HELD_AT_LEAST, CROWDED = 4, 64, 4
# Of how many times k entries a round may choose at most: no model without an opinion makes it expand everything.
REACH = 3


def worth_expanding(rank_A: Int64, value_A: Float32, bar_A: Float32, k: int, slack: float) -> NDArray[np.bool_]:
    """bool [A]: entries that are worth a place in the next round if they are nodes.

    The k best entries, and what is at most `slack` below the k-th of them (`bar_A`): splitting a node lowers the bar,
    so that most of these are needed too, and taking them now saves a round of the model later. No answer depends on it.
    """
    return (rank_A < k) | ((value_A >= bar_A - np.float32(slack)) & (rank_A < REACH * k))


class Frontier:
    """The entries of Q questions for their `k` best items, of those that `subset` allows.

    `entries` are in order: by question, value, row; after the k-th item of a question comes nothing. `lost_Q` float32:
    the largest value among what was given up without being looked into, -inf where nothing was.
    """

    def __init__(
        self, trie: Trie, num_queries: int, k: int, subset: Subset | None = None, part_QP: Float32 | None = None
    ) -> None:  # fmt: skip
        self.trie, self.subset, self.num_queries = trie, subset, num_queries
        num_allowed = trie.num_items if subset is None else subset.num_allowed
        self.k = max(min(k, num_allowed), 1)
        self._held = max(HELD_PER_K * self.k, HELD_AT_LEAST)
        self._rounds: list[Children] = []
        self._found = Entries.start(trie, 0, None if part_QP is None else part_QP[:0])  # before their titles were read
        # Entries below this bound are in reserve, all others of these rounds in `entries` or expanded.
        self._bound_Q = np.full(num_queries, LOWEST, np.float32)
        self._lowest_expanded_Q = np.full(num_queries, np.inf, np.float32)
        self._kth_item_Q = np.full(num_queries, LOWEST, np.float32)
        self._bar_Q = np.full(num_queries, LOWEST, np.float32)
        self.lost_Q = np.full(num_queries, -np.inf, np.float32)
        self._query_Q1 = np.arange(num_queries + 1)
        self.entries = Entries.start(trie, num_queries, part_QP)
        if subset is not None:
            first_Q = np.zeros(num_queries, np.int64)
            self.entries = self.entries.take(subset.any_in(first_Q, first_Q + trie.num_items, self.entries.query))
        self._rank_A, self._start_Q1 = self._query_Q1[:0], self._query_Q1
        self._settle([self.entries])

    def choose(self, limit_Q: Int64, slack: float) -> Entries:
        """Take out the nodes to expand next, at most `limit_Q` of each question; see `worth_expanding`."""
        entries = self.entries
        bar_A = self._bar_Q[entries.query]
        chosen_A = (entries.node >= 0) & worth_expanding(self._rank_A, entries.value, bar_A, self.k, slack)
        before_A: Int64 = np.cumsum(chosen_A) - chosen_A
        chosen_A &= before_A - before_A[self._start_Q1[entries.query]] < limit_Q[entries.query]
        chosen = entries.take(chosen_A)
        self.entries = entries.take(~chosen_A)
        np.minimum.at(self._lowest_expanded_Q, chosen.query, chosen.value)
        return chosen

    def expand(self, parents: Entries, edges: Segments, moved: Moved, state_X: Int64) -> None:
        """Put the children of chosen nodes in their place; scores and handles as in `Children`."""
        value_J = moved.value_J
        if self.subset is not None:
            lo_J, hi_J = edges.rows(self.trie, parents.node)
            leads_J = self.subset.any_in(lo_J, hi_J, edges.spread(parents.query))
            value_J = np.where(leads_J, value_J, np.float32(-np.inf))
        children = Children(
            self.trie, parents.query, parents.node, state_X, edges, moved.log_prob_J, value_J, moved.part_JP
        )
        low_Q = np.maximum(self._hold_back(children), self._kth_item_Q)
        position_Y = np.flatnonzero(value_J >= edges.spread(low_Q[parents.query]))
        self._settle([self.entries, children.entries(position_Y), *self._find(moved.found)])

    def _find(self, found: Entries | None) -> list[Entries]:
        """Keep items that were found early; those that are needed now."""
        if found is None:
            return []
        if self.subset is not None:
            found = found.take(self.subset.any_in(found.row, found.row + 1, found.query))
        self._found = Entries.join([self._found, found])
        return [found.take(found.value >= np.maximum(self._bound_Q, self._kth_item_Q)[found.query])]

    def bring_in_rest(self) -> None:
        """Look through the reserve of unfinished questions, as no more nodes will be expanded."""
        open_Q = np.zeros(self.num_queries, bool)
        open_Q[self.entries.query[self.entries.node >= 0]] = True
        self._settle([self.entries, *self._refill(open_Q, all_of_it=True)])

    def _settle(self, parts: list[Entries]) -> None:
        """Sort, drop what cannot be part of an answer, and fill up questions that know fewer than k entries."""
        self._rank(Entries.join(parts).in_order())
        while (needy_Q := (np.diff(self._start_Q1) < self.k) & (self._bound_Q > LOWEST)).any():
            self._rank(Entries.join([self.entries, *self._refill(needy_Q)]).in_order())

    def _rank(self, entries: Entries) -> None:
        """Take sorted entries up to the k-th item of each question."""
        start_A = np.searchsorted(entries.query, self._query_Q1)[entries.query]
        rank_A = np.arange(len(entries)) - start_A
        is_item_A = entries.node < 0
        items_A1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_item_A)])
        items_before_A = items_A1[:-1] - items_A1[start_A]
        kept_A = items_before_A < self.k
        last_A = is_item_A & (items_before_A == self.k - 1)
        self._kth_item_Q[entries.query[last_A]] = entries.value[last_A]
        bar_A = rank_A == self.k - 1
        self._bar_Q[:] = LOWEST
        self._bar_Q[entries.query[bar_A]] = entries.value[bar_A]
        self.entries, self._rank_A = entries.take(kept_A), rank_A[kept_A]
        self._start_Q1 = np.searchsorted(self.entries.query, self._query_Q1)

    def _hold_back(self, children: Children) -> Float32:
        """Keep children in reserve; float32 [Q]: the value from which on they are needed now."""
        self._rounds.append(children)
        begin_Q1 = children.bounds(self._query_Q1)
        crowded = np.flatnonzero(np.diff(begin_Q1) > CROWDED * self._held)
        if len(crowded):
            cut = top_k_bound(children.value_J, begin_Q1[crowded], begin_Q1[crowded + 1], self._held)
            # Never above an expanded node, which would be found in the reserve again.
            cut = np.minimum(cut, self._lowest_expanded_Q[crowded])
            self._bound_Q[crowded] = np.maximum(cut, self._bound_Q[crowded])
            self.entries = self.entries.take(self.entries.value >= self._bound_Q[self.entries.query])
        return self._bound_Q

    def _refill(self, wanted_Q: NDArray[np.bool_], all_of_it: bool = False) -> list[Entries]:
        """Take the best of the reserve of some questions, or all of it, and lower their bounds."""
        parts = []
        for query in np.flatnonzero(wanted_Q & (self._bound_Q > LOWEST)).tolist():
            found = [(children, self._reserve(children, query)) for children in self._rounds]
            early = self._found.take(self._found.query == query)
            early = early.take((early.value < self._bound_Q[query]) & (early.value >= self._kth_item_Q[query]))
            value_Y = np.concatenate([early.value, *(children.value_J[position_Y] for children, position_Y in found)])
            few = all_of_it or len(value_Y) <= CROWDED * self._held
            cut = LOWEST if few else top_k_bound(value_Y, np.array([0]), np.array([len(value_Y)]), self._held)[0]
            parts += [children.entries(at_Y[children.value_J[at_Y] >= cut]) for children, at_Y in found]
            parts.append(early.take(early.value >= cut))
            self._bound_Q[query] = cut
        return parts

    def _reserve(self, children: Children, query: int) -> Int64:
        """int64 [Y]: positions of a question's children below its bound that may still be part of its answer."""
        begin, end = children.bounds(np.array([query, query + 1]))
        value_Y, low = children.value_J[begin:end], self._kth_item_Q[query]
        position_Y: Int64 = np.flatnonzero((value_Y < self._bound_Q[query]) & (value_Y >= low)) + int(begin)
        return position_Y


def top_k_bound(value_J: Float32, begin_S: Int64, end_S: Int64, num: int) -> Float32:
    """float32 [S]: a bound for each stretch `begin_S:end_S` of the values that at least `num` of them reach, and not
    many more; at least LOWEST. The stretches ascend and are longer than CROWDED * num.

    By the largest of each of CROWDED * num blocks: ten times faster than by partitioning tens of thousands of values.
    """
    blocks = CROWDED * num
    start_SB1 = begin_S[:, None] + np.arange(blocks + 1) * (end_S - begin_S)[:, None] // blocks
    # No block may start behind the last value: where it ends the last block, it is put back.
    start = np.minimum(start_SB1.ravel(), len(value_J) - 1)
    highest_SB = np.maximum.reduceat(value_J, start).reshape(start_SB1.shape)[:, :-1]
    highest_SB[:, -1] = np.maximum(highest_SB[:, -1], value_J[end_S - 1])
    bound_S: Float32 = np.maximum(np.partition(highest_SB, -num, axis=1)[:, -num], LOWEST)
    return bound_S
