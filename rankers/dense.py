"""From a score for every item to a ranking of the candidates, chunk by chunk.

Shapes: E = events of the task, Q = queries of one chunk, I = items, P = items in the order of popularity, K = ranked.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..arrays import Int64
from ..histories.questions import Task
from .counting import popularity_order
from .rankings import Rankings

__all__ = ["rank_dense"]

Float = NDArray[np.floating]

_CELLS_PER_CHUNK = 500_000  # queries times items: 4 MB of scores, so that the passes over them find them in a cache


def rank_dense(
    task: Task,
    scores_of: Callable[[Int64], Float],
    k: int,
    log_probs: bool = False,
    *,
    order_E: Int64 | None = None,
) -> Rankings:
    """Rank the candidates of each event by a score of every item of the catalogue.

    Equal scores stand in the order of popularity in earlier splits, equally popular items in that of item_idx. Where
    there are fewer candidates than `k`, the rest of a list is -1 and -inf.

    Args:
        task: its rows are ranked, its candidates heeded.
        scores_of: from rows of the histories, int64 [Q], to scores float [Q, I], all of them finite and higher for
            better; of items that are no candidates too. Rows come once each, in chunks of at least one.
        k: how many items to keep.
        log_probs: whether scores are log-probabilities in nats; then `log_prob_E` is that of the true item, over the
            full catalogue as with models: leaving items out changes no probability.
        order_E: int64 [E], positions in `task.row_E` in the order in which to ask; None: ascending rows. Whoever shares
            work between events of a time or an hour asks for them together.

    Raises:
        ValueError: scores of another shape, or one that is not finite; that is the ranker's mistake.
    """
    histories, num_events, num_items = task.histories, len(task.row_E), task.histories.items.height
    place_I = popularity_order(histories, task.split)
    item_P = np.argsort(place_I)
    truth_E = task.true_item_E
    asked_E = np.arange(num_events) if order_E is None else order_E
    rank_E = np.zeros(num_events, np.int64)
    item_EK = np.full((num_events, k), -1, np.int32)
    score_EK = np.full((num_events, k), -np.inf)
    log_prob_E = np.zeros(num_events, np.float32)
    size = max(1, _CELLS_PER_CHUNK // max(num_items, 1))
    for start in range(0, num_events, size):
        at_Q = asked_E[start : start + size]
        row_Q = task.row_E[at_Q]
        score_QI = _checked(scores_of(row_Q), (len(row_Q), num_items))
        score_QP = score_QI[:, item_P]  # a copy, in which the lower column wins a tie
        if not task.candidates.everything:
            score_QP[~task.candidates.allowed(row_Q)[:, item_P]] = -np.inf
        rank_E[at_Q] = _rank_of_truth(score_QP, place_I[truth_E[at_Q]])
        place_QK, best_QK = _first(score_QP, k)
        item_EK[at_Q, : place_QK.shape[1]] = np.where(np.isneginf(best_QK), -1, item_P[place_QK])
        score_EK[at_Q, : place_QK.shape[1]] = best_QK
        if log_probs:
            log_prob_E[at_Q] = score_QI[np.arange(len(row_Q)), truth_E[at_Q]]
    return Rankings(task.row_E, rank_E, item_EK, score_EK, log_prob_E if log_probs else None)


def _checked(score_QI: Float, shape: tuple[int, int]) -> Float:
    if score_QI.shape != shape:
        raise ValueError(f"expected scores of shape {shape} (queries, items), found {score_QI.shape}")
    if not np.isfinite(score_QI).all():
        raise ValueError("scores must be finite; give what is held impossible a very low one")
    return score_QI


def _rank_of_truth(score_QP: Float, truth_place_Q: Int64) -> Int64:
    """1 + the number of candidates ahead of the true one: int64 [Q]."""
    score_Q1 = np.take_along_axis(score_QP, truth_place_Q[:, None], axis=1)
    ahead_QP = score_QP > score_Q1
    ahead_QP |= (score_QP == score_Q1) & (np.arange(score_QP.shape[1]) < truth_place_Q[:, None])
    rank_Q: Int64 = 1 + ahead_QP.sum(axis=1)
    return rank_Q


def _first(score_QP: Float, k: int) -> tuple[Int64, Float]:
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
