"""Exact top-k search over the trie, for many questions at once.

A child is never more probable than its parent. So once the k most probable entries of (finished items and unexpanded
nodes) are all finished items, no item is missing: the answer is the true top-k, whatever the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..catalogue import Trie
from .protocol import FROM_PROMPT, Float32, Int64, Reading


@dataclass(frozen=True)
class SearchResult:
    """The ranked answer to one question.

    `item_idx_K` int64 and `log_prob_K` float32, best first, K = min(k, catalogue size) if `exact`. If not (the budget
    of expansions ran out), items may be missing; none of them is more probable than exp(`missing_log_prob`), which
    is -inf where nothing that was left could change the answer.
    """

    item_idx_K: Int64
    log_prob_K: Float32
    exact: bool
    missing_log_prob: float
    num_expansions: int


@dataclass(frozen=True)
class _Entries:
    """Items (node -1) and unexpanded nodes of all questions: question, log-probability, node, row, parent handle."""

    query: Int64
    log_prob: Float32
    node: Int64
    row: Int64
    state: Int64

    def take(self, which: Int64 | NDArray[np.bool_]) -> _Entries:
        return _Entries(self.query[which], self.log_prob[which], self.node[which], self.row[which], self.state[which])

    def add(self, more: _Entries) -> _Entries:
        names = self.__dataclass_fields__
        return _Entries(*(np.concatenate([getattr(self, name), getattr(more, name)]) for name in names))


def search(reading: Reading, trie: Trie, k: int = 10, max_expansions: int | None = None) -> list[SearchResult]:
    """The k most probable items for every question of a reading, best first, ties by title order.

    Each round expands, for every question, the unexpanded nodes among its k best entries; a question without such a
    node is answered. `max_expansions` bounds the nodes scored per question. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    num_queries = reading.num_queries
    spent_Q = np.zeros(num_queries, np.int64)
    budget = np.iinfo(np.int64).max if max_expansions is None else max_expansions
    entries = _start(trie, num_queries)
    while True:
        entries, rank = _ranked(entries)
        chosen = (rank < k) & (entries.node >= 0)
        position = _position_within(entries.query, chosen)
        chosen &= position < (budget - spent_Q)[entries.query]
        if not chosen.any():
            break
        wanted = entries.take(chosen)
        spent_Q += np.bincount(wanted.query, minlength=num_queries)
        scored = reading.score(wanted.query, wanted.node, wanted.state)
        entries = _prune(entries.take(~chosen).add(_children(trie, wanted, scored.log_prob_E, scored.state_X)), k)
    return _results(trie, entries, k, spent_Q)


def score_all(reading: Reading, trie: Trie, query: int = 0) -> Float32:
    """float32 [N]: the log-probability of every item, by item index: the whole trie, level by level, nothing pruned."""
    entries = _start(trie, 1)
    entries = _Entries(entries.query + query, *(getattr(entries, n) for n in ("log_prob", "node", "row", "state")))
    log_prob_N = np.zeros(trie.num_items, np.float32)
    while len(entries.query):
        done = entries.node < 0
        log_prob_N[trie.item_of_row_N[entries.row[done]]] = entries.log_prob[done]
        level = entries.take(~done)
        if not len(level.query):
            break
        scored = reading.score(level.query, level.node, level.state)
        entries = _children(trie, level, scored.log_prob_E, scored.state_X)
    return log_prob_N


def _start(trie: Trie, num_queries: int) -> _Entries:
    query = np.arange(num_queries, dtype=np.int64)
    top = 0 if trie.num_nodes else -1
    zeros = np.zeros(num_queries, np.int64)
    return _Entries(query, np.zeros(num_queries, np.float32), zeros + top, zeros, zeros + FROM_PROMPT)


def _children(trie: Trie, parents: _Entries, log_prob_E: Float32, state_X: Int64) -> _Entries:
    begin, end = trie.child_ptr_B1[parents.node], trie.child_ptr_B1[parents.node + 1]
    count = end - begin
    edge = np.arange(count.sum()) + np.repeat(begin - np.cumsum(count) + count, count)
    log_prob = np.repeat(parents.log_prob, count) + log_prob_E
    node, row = trie.child_node_C[edge].astype(np.int64), trie.child_lo_C[edge].astype(np.int64)
    return _Entries(np.repeat(parents.query, count), log_prob, node, row, np.repeat(state_X, count))


def _ranked(entries: _Entries) -> tuple[_Entries, Int64]:
    """Sort by question, probability, row and rank within each question.

    Nodes go before items of the same probability: one that is as probable as the k-th item may hide an earlier title.
    """
    order = np.lexsort((entries.row, entries.node < 0, -entries.log_prob, entries.query))
    entries = entries.take(order)
    starts = np.searchsorted(entries.query, entries.query)
    return entries, np.arange(len(order)) - starts


def _position_within(query: Int64, chosen: NDArray[np.bool_]) -> Int64:
    """For sorted entries: how many chosen ones of the same question stand before each."""
    before: Int64 = np.cumsum(chosen) - chosen
    return before - before[np.searchsorted(query, query)]


def _prune(entries: _Entries, k: int) -> _Entries:
    """Drop what is less probable than the question's k-th finished item: it can never be part of the answer."""
    done, rank = _ranked(entries.take(entries.node < 0))
    floor_Q = np.full(int(entries.query.max()) + 1, -np.inf, np.float32)
    floor_Q[done.query[rank == k - 1]] = done.log_prob[rank == k - 1]
    return entries.take(entries.log_prob >= floor_Q[entries.query])


def _results(trie: Trie, entries: _Entries, k: int, spent_Q: Int64) -> list[SearchResult]:
    done, rank = _ranked(entries.take(entries.node < 0))
    done, open_ = done.take(rank < k), entries.take(entries.node >= 0)
    results = []
    for query in range(len(spent_Q)):
        rows = slice(*np.searchsorted(done.query, [query, query + 1]))
        left = open_.log_prob[open_.query == query]
        log_prob_K = done.log_prob[rows]
        missing = float(left.max()) if len(left) else -np.inf
        full = len(log_prob_K) == k and log_prob_K[-1] > missing
        items = trie.item_of_row_N[done.row[rows]].astype(np.int64)
        results.append(SearchResult(items, log_prob_K, bool(full or not len(left)), missing, int(spent_Q[query])))
    return results
