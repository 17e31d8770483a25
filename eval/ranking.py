"""The model's answers to the events of a split: one pass over each window, one search for all its questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..decode.search import SearchResult, search
from ..decode.transformers_engine import TransformersEngine, TransformersReading
from ..prompts import HistoryText, Windows

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class WindowAnswers:
    """Answers to the events `event_Q` (rows) of one window, and log p of the true items, `log_prob_Q`."""

    event_Q: Int64
    log_prob_Q: NDArray[np.float32]
    results: list[SearchResult]
    num_tokens: int


def windows_with_targets(windows: Windows, wanted_E: NDArray[np.bool_]) -> Windows:
    """The windows that answer for at least one wanted event, each cut off after its last one."""
    count_E1 = np.concatenate([[0], np.cumsum(wanted_E)])
    kept = windows.select(count_E1[windows.end_W] > count_E1[windows.target_W])
    last_E = np.maximum.accumulate(np.where(wanted_E, np.arange(len(wanted_E)), -1)) if len(wanted_E) else wanted_E
    end_W = last_E[kept.end_W - 1] + 1 if len(kept) else kept.end_W
    return Windows(kept.user_W, kept.first_W, kept.start_W, kept.target_W, end_W)


def answer_windows(
    engine: TransformersEngine, text: HistoryText, windows: Windows, wanted_E: NDArray[np.bool_], k: int,
    max_expansions: int | None = None, queries_per_search: int = 16,
) -> Iterator[WindowAnswers]:  # fmt: skip
    """Answer every wanted event of the windows from the text before it; `k` = 0 for log-probabilities only.

    The mask of the search hides all text from a question's own title on, so that one reading of a window serves all.
    """
    for w in range(len(windows)):
        one = windows.select(np.arange(len(windows)) == w)
        encoded = text.encode_windows(one)[0]
        target = np.arange(one.target_W[0], one.end_W[0])
        target = target[wanted_E[target]]
        position_Q = encoded.title_start_V[target - one.start_W[0]] - 1
        reading = engine.read(encoded.tokens_L, position_Q)
        log_prob_Q = _log_probs(engine, reading, text.item_idx_E[target], position_Q)
        results: list[SearchResult] = []
        for first in range(0, len(target) if k else 0, queries_per_search):
            part = reading.ask(position_Q[first : first + queries_per_search])
            results += search(part, engine.trie, k, max_expansions)
        yield WindowAnswers(target, log_prob_Q, results, len(encoded.tokens_L))


def _log_probs(
    engine: TransformersEngine, reading: TransformersReading, item_Q: Int64, position_Q: Int64
) -> NDArray[np.float32]:
    """Log-probability of each true item: the sum over the branching nodes of its title, which stands in the text."""
    query_P, node_P, edge_P = engine.trie.decisions(item_Q)
    if not len(node_P):
        return np.zeros(len(item_Q), np.float32)
    position_P = position_Q[query_P] + engine.trie.depth_B[node_P]
    log_prob_P = engine.log_probs_of(reading, position_P, node_P, edge_P).cpu().numpy()
    return np.bincount(query_P, log_prob_P, minlength=len(item_Q)).astype(np.float32)


def ranks(item_idx_Q: Int64, results: list[SearchResult]) -> Int64:
    """1-based rank of the true item in each answer, 0 where it is not among them."""
    rank_Q = np.zeros(len(results), np.int64)
    for query, result in enumerate(results):
        found = np.flatnonzero(result.item_idx_K == item_idx_Q[query])
        rank_Q[query] = found[0] + 1 if len(found) else 0
    return rank_Q
