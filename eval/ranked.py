"""From what a ranker answers to rankings of a task's candidates, chunk by chunk.

Equal scores stand in the order of popularity in earlier splits, equally popular items in that of item_idx. Where there
are fewer candidates than `k`, the rest of a list is -1 and -inf.

Shapes: E = events of the task, Q = events of one chunk, I = items, P = items in the order of popularity, K = ranked
items, C = scored items of all events of a chunk, flattened.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64
from ..rankers.counting import popularity_order
from ..rankers.protocol import Dense, Floats, Ranker, Scored, Sparse
from .protocol import Task
from .rankings import Rankings

_CELLS_PER_CHUNK = 500_000  # events times items: 4 MB of scores, so that the passes over them find them in a cache
_ENTRIES_PER_CHUNK = 1_000_000  # bounds memory to some 100 MB, whatever the number of events
_ALLOWED_PER_CHUNK = 20_000_000  # events times items, where candidates of sparse scores differ from event to event


def rank(ranker: Ranker, task: Task, k: int) -> Rankings:
    """The first `k` candidates for each event of a task, and the exact rank of the true item among all."""
    answers = ranker.on(task.histories, task.split)
    return rank_dense(task, answers, k) if isinstance(answers, Dense) else rank_sparse(task, answers, k)


def rank_dense(task: Task, answers: Dense, k: int) -> Rankings:
    """Rank by a score of every item; `log_prob_E` is over the full catalogue, as with models.

    Raises:
        ValueError: scores of another shape, or one that is not finite; that is the ranker's mistake.
    """
    num_events, num_items = len(task.row_E), task.histories.items.height
    place_I = popularity_order(task.histories, task.split)
    item_P = np.argsort(place_I)
    truth_E = task.true_item_E
    order_E = answers.order(task.row_E) if answers.order else np.arange(num_events)
    rank_E = np.zeros(num_events, np.int64)
    item_EK = np.full((num_events, k), -1, np.int32)
    score_EK = np.full((num_events, k), -np.inf)
    log_prob_E = np.zeros(num_events, np.float32) if answers.is_log_prob else None
    size = max(1, _CELLS_PER_CHUNK // max(num_items, 1))
    for start in range(0, num_events, size):
        at_Q = order_E[start : start + size]
        row_Q = task.row_E[at_Q]
        score_QI = _checked(answers.scores(row_Q), (len(row_Q), num_items))
        score_QP = score_QI[:, item_P]  # a copy, in which the lower column wins a tie
        if not task.candidates.everything:
            score_QP[~task.candidates.allowed(row_Q)[:, item_P]] = -np.inf
        rank_E[at_Q] = _true_rank(score_QP, place_I[truth_E[at_Q]])
        place_QK, best_QK = _best(score_QP, k)
        item_EK[at_Q, : place_QK.shape[1]] = np.where(np.isneginf(best_QK), -1, item_P[place_QK])
        score_EK[at_Q, : place_QK.shape[1]] = best_QK
        if log_prob_E is not None:
            log_prob_E[at_Q] = score_QI[np.arange(len(row_Q)), truth_E[at_Q]]
    return Rankings(task.row_E, rank_E, item_EK, score_EK, log_prob_E)


def _checked(score_QI: Floats, shape: tuple[int, int]) -> Floats:
    if score_QI.shape != shape:
        raise ValueError(f"expected scores of shape {shape} (queries, items), found {score_QI.shape}")
    if not np.isfinite(score_QI).all():
        raise ValueError("scores must be finite; give what is held impossible a very low one")
    return score_QI


def _true_rank(score_QP: Floats, truth_place_Q: Int64) -> Int64:
    """1 + the number of candidates ahead of the true one: int64 [Q]."""
    score_Q1 = np.take_along_axis(score_QP, truth_place_Q[:, None], axis=1)
    ahead_QP = score_QP > score_Q1
    ahead_QP |= (score_QP == score_Q1) & (np.arange(score_QP.shape[1]) < truth_place_Q[:, None])
    rank_Q: Int64 = 1 + ahead_QP.sum(axis=1)
    return rank_Q


def _best(score_QP: Floats, k: int) -> tuple[Int64, Floats]:
    """Columns of the min(k, P) best of each row, best first, the lower column first among equals; their scores."""
    num_columns = score_QP.shape[1]
    kept = min(k, num_columns)
    least_Q1 = np.partition(score_QP, num_columns - kept, axis=1)[:, [num_columns - kept]]
    chosen_QP = score_QP > least_Q1
    # Of those that equal the k-th best, the lowest columns: as many as are missing, so that each row has `kept`.
    tied_QP = score_QP == least_Q1
    missing_Q1 = kept - chosen_QP.sum(axis=1, keepdims=True)
    chosen_QP |= tied_QP & (np.cumsum(tied_QP, axis=1, dtype=np.int32) <= missing_Q1)
    place_QK = np.nonzero(chosen_QP)[1].reshape(-1, kept)
    best_QK = np.take_along_axis(score_QP, place_QK, axis=1)
    order_QK = np.argsort(-best_QK, axis=1, kind="stable")
    return np.take_along_axis(place_QK, order_QK, axis=1), np.take_along_axis(best_QK, order_QK, axis=1)


def rank_sparse(task: Task, answers: Sparse, k: int) -> Rankings:
    """Rank scored items first and all others behind them with score 0, never dense where it need not be."""
    place_I = popularity_order(task.histories, task.split)
    parts = []
    for chunk in _chunks(task, answers.num_entries(task.row_E)):
        row_Q = task.row_E[chunk]
        scored, allowed_QI = answers.scores(row_Q), None
        if not task.candidates.everything:
            allowed_QI = task.candidates.allowed(row_Q)
            scored = scored.take(allowed_QI[scored.query_C, scored.item_C])
        scored = scored.take(np.lexsort((scored.order_C, -scored.score_C, scored.query_C)))
        rank_Q = _true_rank_sparse(scored, task.true_item_E[chunk], place_I, allowed_QI)
        parts.append((rank_Q, *_best_sparse(scored, len(row_Q), place_I, allowed_QI, k)))
    rank_E, item_EK, score_EK = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Rankings(task.row_E, rank_E, item_EK, score_EK)


def _chunks(task: Task, num_entries_E: Int64) -> Iterator[slice]:
    """Slices of the task's events, of at least one each, that bound the memory of their entries and candidates."""
    load_E = num_entries_E / _ENTRIES_PER_CHUNK
    if not task.candidates.everything:
        load_E = np.maximum(load_E, task.histories.items.height / _ALLOWED_PER_CHUNK)
    chunk_E = np.cumsum(load_E).astype(np.int64)
    bounds = [0, *(np.flatnonzero(np.diff(chunk_E)) + 1).tolist(), len(num_entries_E)]
    return (slice(start, stop) for start, stop in pairwise(bounds))


def _true_rank_sparse(ordered: Scored, truth_Q: NDArray[np.int32], place_I: Int64, allowed_QI: Bool | None) -> Int64:
    """1 + the number of candidates ahead of the truth: int64 [Q]; `ordered` is best first within each query."""
    query_C, truth_place_Q = ordered.query_C, place_I[truth_Q]
    # A truth that is not scored stands behind all that is, and then where popularity puts it among the rest.
    popular_Q = truth_place_Q if allowed_QI is None else (allowed_QI & (place_I < truth_place_Q[:, None])).sum(axis=1)
    is_counted_C = place_I[ordered.item_C] >= truth_place_Q[query_C]
    rank_Q: Int64 = 1 + popular_Q + np.bincount(query_C[is_counted_C], minlength=len(truth_Q))
    is_truth_C = ordered.item_C == truth_Q[query_C]
    rank_Q[query_C[is_truth_C]] = 1 + _places(query_C)[is_truth_C]
    return rank_Q


def _places(query_C: Int64) -> Int64:
    """The position of each entry within its query, from 0; queries ascend."""
    return np.arange(len(query_C)) - np.searchsorted(query_C, query_C)


def _best_sparse(
    ordered: Scored, num_queries: int, place_I: Int64, allowed_QI: Bool | None, k: int
) -> tuple[NDArray[np.int32], Float64]:
    """The first k candidates of each query, int32 [Q, K], and their scores, float64 [Q, K]."""
    item_QK = np.full((num_queries, k), -1, np.int32)
    score_QK = np.full((num_queries, k), -np.inf)
    query_C, at_C = ordered.query_C, _places(ordered.query_C)
    first_C = at_C < k
    item_QK[query_C[first_C], at_C[first_C]] = ordered.item_C[first_C]
    score_QK[query_C[first_C], at_C[first_C]] = ordered.score_C[first_C]

    count_Q = np.bincount(query_C, minlength=num_queries)
    short_S = np.flatnonzero(count_Q < k)  # S: queries to be filled up by popularity; each has less than k scored items
    popular_W = np.argsort(place_I)
    if allowed_QI is None:
        popular_W = popular_W[: 2 * k]  # of which less than k are scored
        open_SW = np.ones((len(short_S), len(popular_W)), bool)
    else:
        open_SW = allowed_QI[np.ix_(short_S, popular_W)]
    known_C = (count_Q[query_C] < k) & (place_I[ordered.item_C] < len(popular_W))
    open_SW[np.searchsorted(short_S, query_C[known_C]), place_I[ordered.item_C[known_C]]] = False
    at_SW = count_Q[short_S][:, None] + np.cumsum(open_SW, axis=1) - 1
    short_Y, place_Y = np.nonzero(open_SW & (at_SW < k))
    query_Y, at_Y = short_S[short_Y], at_SW[short_Y, place_Y]
    item_QK[query_Y, at_Y] = popular_W[place_Y]
    score_QK[query_Y, at_Y] = 0.0
    return item_QK, score_QK
