"""The model's answers to many events of histories: one pass over each window, one search for all its questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Int64
from ..catalogue import Subset
from ..prompts import EncodedWindow, HistoryText, Windows
from .decisions import decisions_of
from .reweighting import Change, Reweighting
from .search import SearchResult, search
from .transformers_engine import TransformersEngine, TransformersReading


@dataclass(frozen=True)
class WindowAnswers:
    """Answers to the events `event_Q` (rows) of one window, and log p of the true items, `log_prob_Q`."""

    event_Q: Int64
    log_prob_Q: NDArray[np.float32]
    results: list[SearchResult]
    num_tokens: int


def windows_with_targets(windows: Windows, wanted_N: NDArray[np.bool_]) -> Windows:
    """The windows that answer for at least one requested event, each cut off after its last one."""
    count_N1 = np.concatenate([[0], np.cumsum(wanted_N)])
    kept = windows.select(count_N1[windows.end_W] > count_N1[windows.target_W])
    last_N = np.maximum.accumulate(np.where(wanted_N, np.arange(len(wanted_N)), -1)) if len(wanted_N) else wanted_N
    end_W = last_N[kept.end_W - 1] + 1 if len(kept) else kept.end_W
    return Windows(kept.user_W, kept.first_W, kept.start_W, kept.target_W, end_W)


def encode_queries(text: HistoryText, windows: Windows) -> list[EncodedWindow]:
    """Token ids and title positions of windows in which many events are predicted.

    With `align_tokens`, a window is filled up to its first new event. Filled up to its last one, the number of empty
    lines would reveal how long later titles are, and would depend on which events are predicted.
    """
    return text.encode_windows(windows, windows.target_W)


@dataclass(frozen=True)
class Questions:
    """Q predicted events of one window: their rows, the position of each title, and the window's reading."""

    event_Q: Int64
    position_Q: Int64
    reading: TransformersReading
    num_tokens: int


def read_windows(
    engine: TransformersEngine, text: HistoryText, windows: Windows, wanted_N: NDArray[np.bool_]
) -> Iterator[Questions]:
    """Read each window once, for all requested events in it."""
    for w in range(len(windows)):
        one = windows.select(np.arange(len(windows)) == w)
        encoded = encode_queries(text, one)[0]
        event_Q = np.arange(one.target_W[0], one.end_W[0])
        event_Q = event_Q[wanted_N[event_Q]]
        position_Q = encoded.title_start_V[event_Q - one.start_W[0]] - 1
        yield Questions(event_Q, position_Q, engine.read(encoded.tokens_L, position_Q), len(encoded.tokens_L))


def answer_windows(
    engine: TransformersEngine, text: HistoryText, windows: Windows, wanted_N: NDArray[np.bool_], k: int,
    max_expansions: int | None = None, reweighting_of: Callable[[Int64], Change] | None = None,
    allowed_of: Callable[[Int64], Bool] | None = None, queries_per_search: int = 16,
) -> Iterator[WindowAnswers]:  # fmt: skip
    """Answer every requested event of the windows from the text before it; `k` = 0 for log-probabilities only.

    The mask of the search hides all text from a question's own title on, so that one reading of a window serves all.
    `reweighting_of` gives the reweighting for the events in some rows, `allowed_of` bool [Q, I] the items that may
    answer them (None: all may); probabilities stay those over the whole catalogue.
    """
    for queried in read_windows(engine, text, windows, wanted_N):
        item_Q = text.item_idx_N[queried.event_Q]
        whole: Change = reweighting_of(queried.event_Q) if reweighting_of else Reweighting()
        decisions = decisions_of(engine, queried.reading, item_Q, queried.position_Q, whole)
        log_prob_Q = decisions.log_probs(whole.pools)
        results: list[SearchResult] = []
        for first in range(0, len(item_Q) if k else 0, queries_per_search):
            some = slice(first, first + queries_per_search)
            reweighting = reweighting_of(queried.event_Q[some]) if reweighting_of else None
            part = queried.reading.ask(queried.position_Q[some])
            subset = Subset.of(engine.trie, allowed_of(queried.event_Q[some])) if allowed_of else None
            results += search(part, engine.trie, k, max_expansions, subset=subset, reweighting=reweighting)
        yield WindowAnswers(queried.event_Q, log_prob_Q, results, queried.num_tokens)


def ranks(item_idx_Q: Int64, results: list[SearchResult]) -> Int64:
    """1-based rank of the true item in each answer, 0 where it is not among them."""
    rank_Q = np.zeros(len(results), np.int64)
    for query, result in enumerate(results):
        found = np.flatnonzero(result.item_idx_K == item_idx_Q[query])
        rank_Q[query] = found[0] + 1 if len(found) else 0
    return rank_Q
