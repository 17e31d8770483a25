"""From scores of a few items of each query to a ranking of the whole catalogue, never dense where it need not be.

Shapes: Q = queries (rows to be predicted), I = items, C = scored items of all queries, flattened, K = ranked items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64
from ..histories.questions import Task
from .rankings import Rankings

__all__ = ["Scored", "chunks", "join", "rank_sparse"]

_ENTRIES_PER_CHUNK = 1_000_000  # bounds memory to some 100 MB, whatever the number of events
_CELLS_PER_CHUNK = 20_000_000  # of queries times items, where candidates differ from query to query


@dataclass(frozen=True)
class Scored:
    """Items that a ranker has something to say of; no query has an item twice.

    Attributes:
        query_C: int64 [C], position of the query.
        item_C: int64 [C], item_idx.
        score_C: float64 [C], at least 0, higher is better; what is not scored stands behind at 0, most popular first.
        order_C: int64 [C], at least 0; among equal scores of a query the lower goes first.
    """

    query_C: Int64
    item_C: Int64
    score_C: Float64
    order_C: Int64

    def take(self, chosen_C: Bool | Int64) -> "Scored":
        """Some of them: by a mask or by positions."""
        return Scored(self.query_C[chosen_C], self.item_C[chosen_C], self.score_C[chosen_C], self.order_C[chosen_C])


def rank_sparse(task: Task, row_Q: Int64, scored: Scored, place_I: Int64, k: int) -> Rankings:
    """Rank the candidates of `row_Q`: scored items first, all others behind them by popularity with score 0.

    Args:
        task: its candidates are heeded; the rows need not be its own.
        row_Q: int64 [Q], rows of the histories, ascending.
        scored: what the ranker says of those queries.
        place_I: int64 [I], place of each item by popularity, see `popularity_order`.
        k: how many items to keep.
    """
    truth_Q = task.histories.item_idx_E[row_Q]
    allowed_QI = None if task.candidates.everything else task.candidates.allowed(row_Q)
    if allowed_QI is not None:
        scored = scored.take(allowed_QI[scored.query_C, scored.item_C])
    rank_Q = _rank_of_truth(scored, truth_Q, place_I, allowed_QI)
    item_QK, score_QK = _first(scored, len(row_Q), place_I, allowed_QI, k)
    return Rankings(row_Q, rank_Q, item_QK, score_QK)


def chunks(task: Task, num_entries_E: Int64) -> Iterator[slice]:
    """Slices of the task's events, of at least one each, that bound the memory of their entries and candidates."""
    load_E = num_entries_E / _ENTRIES_PER_CHUNK
    if not task.candidates.everything:
        load_E = np.maximum(load_E, task.histories.items.height / _CELLS_PER_CHUNK)
    chunk_E = np.cumsum(load_E).astype(np.int64)
    bounds = [0, *(np.flatnonzero(np.diff(chunk_E)) + 1).tolist(), len(num_entries_E)]
    return (slice(start, stop) for start, stop in pairwise(bounds))


def join(parts: list[Rankings]) -> Rankings:
    """Rankings of consecutive rows as one; none of them has log-probabilities."""
    return Rankings(
        np.concatenate([part.row_E for part in parts]),
        np.concatenate([part.rank_E for part in parts]),
        np.concatenate([part.item_EK for part in parts]),
        np.concatenate([part.score_EK for part in parts]),
    )


def _rank_of_truth(scored: Scored, truth_Q: NDArray[np.int32], place_I: Int64, allowed_QI: Bool | None) -> Int64:
    """1 + the number of candidates ahead of the truth: int64 [Q]."""
    query_C, num_queries, truth_place_Q = scored.query_C, len(truth_Q), place_I[truth_Q]
    is_truth_C = scored.item_C == truth_Q[query_C]
    # A truth that is not scored stands behind all that is, and then where popularity puts it among the rest.
    score_Q, order_Q = np.full(num_queries, -np.inf), np.zeros(num_queries, dtype=np.int64)
    score_Q[query_C[is_truth_C]] = scored.score_C[is_truth_C]
    order_Q[query_C[is_truth_C]] = scored.order_C[is_truth_C]
    is_equal_C = scored.score_C == score_Q[query_C]
    is_ahead_C = (scored.score_C > score_Q[query_C]) | (is_equal_C & (scored.order_C < order_Q[query_C]))
    more_popular_C = place_I[scored.item_C] < truth_place_Q[query_C]
    num_ahead_Q = np.bincount(query_C[is_ahead_C], minlength=num_queries)
    more_popular_Q = truth_place_Q
    if allowed_QI is not None:
        more_popular_Q = (allowed_QI & (place_I < truth_place_Q[:, None])).sum(axis=1)
    rest_ahead_Q = more_popular_Q - np.bincount(query_C[more_popular_C], minlength=num_queries)
    rank_Q: Int64 = 1 + num_ahead_Q + np.where(np.isneginf(score_Q), rest_ahead_Q, 0)
    return rank_Q


def _first(
    scored: Scored, num_queries: int, place_I: Int64, allowed_QI: Bool | None, k: int
) -> tuple[NDArray[np.int32], Float64]:
    """The first k candidates of each query, int32 [Q, K], and their scores, float64 [Q, K]."""
    item_QK = np.full((num_queries, k), -1, np.int32)
    score_QK = np.full((num_queries, k), -np.inf)
    ordered = scored.take(np.lexsort((scored.order_C, -scored.score_C, scored.query_C)))
    count_Q = np.bincount(ordered.query_C, minlength=num_queries)
    at_C = np.arange(len(ordered.query_C)) - (np.cumsum(count_Q) - count_Q)[ordered.query_C]
    first_C = at_C < k
    query_F, at_F = ordered.query_C[first_C], at_C[first_C]
    item_QK[query_F, at_F] = ordered.item_C[first_C]
    score_QK[query_F, at_F] = ordered.score_C[first_C]

    short_S = np.flatnonzero(count_Q < k)  # S: queries to be filled up by popularity; each has less than k scored items
    if not len(short_S):
        return item_QK, score_QK
    popular_W = np.argsort(place_I)
    if allowed_QI is None:
        popular_W = popular_W[: 2 * k]  # of which less than k are scored
        open_SW = np.ones((len(short_S), len(popular_W)), bool)
    else:
        open_SW = allowed_QI[np.ix_(short_S, popular_W)]
    short_of_Q = np.full(num_queries, -1)
    short_of_Q[short_S] = np.arange(len(short_S))
    known_C = (short_of_Q[ordered.query_C] >= 0) & (place_I[ordered.item_C] < len(popular_W))
    open_SW[short_of_Q[ordered.query_C[known_C]], place_I[ordered.item_C[known_C]]] = False
    at_SW = count_Q[short_S][:, None] + np.cumsum(open_SW, axis=1) - 1
    short_Y, place_Y = np.nonzero(open_SW & (at_SW < k))
    query_Y, at_Y = short_S[short_Y], at_SW[short_Y, place_Y]
    item_QK[query_Y, at_Y] = popular_W[place_Y]
    score_QK[query_Y, at_Y] = 0.0
    return item_QK, score_QK
