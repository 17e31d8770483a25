"""Exact top-k search over the trie, for many questions at once.

A child is never more probable than its parent. Take the k most probable entries among finished items and unexpanded
nodes. Once all of them are finished items, no item is missing: the answer is the true top k, whatever the model.

Shape legend: Q questions, X nodes scored together, J their edges end to end, K ranked items, I items.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from ..arrays import Float32, Int64
from ..catalogue import Subset, Trie
from .beam import Beam
from .entries import Children, Entries, Moved
from .frontier import Frontier
from .protocol import AsyncReading, Reading, Scored
from .reweighting import Change, Reweighting
from .segments import Segments

# How far (in nats) below the k-th best entry a node is expanded ahead of need. Of 0.2 to 2, what costs least over
# recorded searches of nyc-checkins for 1 to 20 items if a round of the model costs as much as 25 nodes.
SLACK = 0.4

# From expanded nodes and the model's scores of their edges to what the children get.
Step = Callable[[Entries, Segments, Float32], Moved]
# A search without a model: gives out the nodes of a round, is sent their scores, and returns the answers in the end.
Searching = Generator[Entries, Scored, "list[SearchResult]"]


@dataclass(frozen=True)
class SearchResult:
    """The ranked answer to one question.

    `item_idx_K` int64 and `log_prob_K` float32, best first (a sample: in the order of drawing), K = min(k, number of
    allowed items) if `exact`. If not (the budget of expansions ran out, or a beam was too narrow), allowed items may
    be missing; none of them is more probable than exp(`missing_log_prob`), which is -inf where nothing that was left
    could change the answer. `reason` says why no item, or fewer than there should be, could be answered; else "".
    """

    item_idx_K: Int64
    log_prob_K: Float32
    exact: bool
    missing_log_prob: float
    num_expansions: int
    reason: str = ""


def search(
    reading: Reading, trie: Trie, k: int = 10, max_expansions: int | None = None, *,
    subset: Subset | None = None, reweighting: Change | None = None, slack: float = SLACK,
) -> list[SearchResult]:  # fmt: skip
    """The k most probable items for every question of a reading, best first, ties by title order.

    Of the items that `subset` allows: the ranking is that of the full catalogue with the others left out, probabilities
    unchanged. `max_expansions` bounds the nodes scored per question; `slack`
    trades rounds of the model for expansions and changes no answer (see `worth_expanding`). Raises ValueError for k < 1
    or a prior made for other questions.
    """
    found = searching(trie, reading.num_queries, k, max_expansions, subset=subset, reweighting=reweighting, slack=slack)
    return run(reading, found)


def beam_search(
    reading: Reading, trie: Trie, k: int = 10, *, width: int, subset: Subset | None = None,
    reweighting: Change | None = None,
) -> list[SearchResult]:  # fmt: skip
    """As `search`, but each round expands every node and keeps only the `width` best items and nodes of a question.

    What was lost on the way is accounted for in `exact` and `missing_log_prob`. Raises ValueError for k or width < 1.
    """
    found = beam_searching(trie, reading.num_queries, k, width=width, subset=subset, reweighting=reweighting)
    return run(reading, found)


def run(reading: Reading, found: Searching) -> list[SearchResult]:
    """Let a model score the nodes that a search gives out."""
    scored: Scored | None = None
    while True:
        try:
            nodes = found.send(scored)  # type: ignore[arg-type]  # a generator is started by None
        except StopIteration as end:
            answers: list[SearchResult] = end.value
            return answers
        scored = reading.score(nodes.query, nodes.node, nodes.state)


async def run_async(reading: AsyncReading, found: Searching) -> list[SearchResult]:
    """As `run`, with a model that answers many at once; a cancelled search sends no more nodes."""
    scored: Scored | None = None
    while True:
        try:
            nodes = found.send(scored)  # type: ignore[arg-type]
        except StopIteration as end:
            answers: list[SearchResult] = end.value
            return answers
        scored = await reading.score(nodes.query, nodes.node, nodes.state)


def searching(
    trie: Trie, num_queries: int, k: int, max_expansions: int | None = None, *, subset: Subset | None = None,
    reweighting: Change | None = None, slack: float = SLACK,
) -> Searching:  # fmt: skip
    """`search` without a model, to be driven by `run` or `run_async`."""
    change = (reweighting or Reweighting()).checked(num_queries)
    frontier = Frontier(trie, num_queries, _checked(k, "k"), subset, change.start(num_queries))
    return (yield from exploring(frontier, _finding_early(trie, change), max_expansions, slack))


def beam_searching(
    trie: Trie, num_queries: int, k: int, *, width: int, subset: Subset | None = None,
    reweighting: Change | None = None,
) -> Searching:  # fmt: skip
    """`beam_search` without a model, to be driven by `run` or `run_async`."""
    change = (reweighting or Reweighting()).checked(num_queries)
    frontier = Beam(trie, num_queries, _checked(k, "k"), _checked(width, "width"), subset, change.start(num_queries))
    return (yield from exploring(frontier, _finding_early(trie, change)))


def exploring(frontier: Frontier, step: Step, max_expansions: int | None = None, slack: float = SLACK) -> Searching:
    """Expand until every question is answered or has spent its budget."""
    spent_Q = np.zeros(frontier.num_queries, np.int64)
    budget = np.iinfo(np.int64).max if max_expansions is None else max_expansions
    while len(parents := frontier.choose(budget - spent_Q, slack)):
        spent_Q += np.bincount(parents.query, minlength=len(spent_Q))
        scored = yield parents
        edges = Segments.of_edges(frontier.trie, parents.node)
        frontier.expand(parents, edges, step(parents, edges, scored.log_prob_J), scored.state_X)
    frontier.bring_in_rest()
    return results(frontier, spent_Q)


def _most_probable(trie: Trie, change: Change) -> Step:
    """The step of a search for the most probable items."""

    def step(parents: Entries, edges: Segments, log_prob_J: Float32) -> Moved:
        log_prob_J, part_JP = change.apply(trie, parents.query, parents.node, parents.part, log_prob_J)
        total_J: Float32 = edges.spread(parents.log_prob)
        total_J += log_prob_J
        return Moved(total_J, total_J, part_JP)

    return step


def _finding_early(trie: Trie, change: Change) -> Step:
    """As `_most_probable`, but gives an item chosen before as soon as it is the only one below an edge: `Change.alone`.

    The rest of its title need not be scored. So the search expands fewer nodes, and its answers are the same.
    """
    most_probable, nothing = _most_probable(trie, change), np.float32(-np.inf)

    def step(parents: Entries, edges: Segments, log_prob_J: Float32) -> Moved:
        moved = most_probable(parents, edges, log_prob_J)
        total_J, part_JP = moved.log_prob_J, moved.part_JP
        position_Y, row_Y = change.alone(trie, parents.query, parents.node, part_JP)
        if not len(position_Y):
            return moved
        part_YP, zero_Y = part_JP[position_Y], np.zeros_like(row_Y)
        total_J[position_Y] = part_YP[:, 1]  # the edge keeps what all other items have
        part_JP[position_Y, 0] = nothing
        part_YP[:, 1] = nothing
        query_Y, known_Y = edges.spread(parents.query)[position_Y], part_YP[:, 0]
        found = Entries(query_Y, known_Y, known_Y, zero_Y - 1, row_Y, zero_Y, part_YP)
        return Moved(total_J, total_J, part_JP, found)

    return step


def results(frontier: Frontier, spent_Q: Int64) -> list[SearchResult]:
    """What a finished or given up frontier knows."""
    entries, trie = frontier.entries, frontier.trie
    nothing = "" if frontier.subset is None or frontier.subset.num_allowed else frontier.subset.reason
    start_Q1 = np.searchsorted(entries.query, np.arange(len(spent_Q) + 1))
    answers = []
    for query, (begin, end) in enumerate(zip(start_Q1[:-1].tolist(), start_Q1[1:].tolist(), strict=True)):
        own = entries.take(slice(begin, end))
        done_A = own.node < 0
        missing = max(float(own.value[~done_A].max(initial=-np.inf)), float(frontier.lost_Q[query]))
        items, log_prob_K = trie.item_of_row_I[own.row[done_A]].astype(np.int64), own.log_prob[done_A]
        full = len(items) == frontier.k and own.value[done_A][-1] > missing
        exact = bool(full or missing == -np.inf)
        answers.append(SearchResult(items, log_prob_K, exact, missing, int(spent_Q[query]), nothing))
    return answers


def score_all(reading: Reading, trie: Trie, query: int = 0, reweighting: Change | None = None) -> Float32:
    """float32 [I]: the log-probability of every item, by item index: the whole trie, level by level, nothing pruned."""
    change = (reweighting or Reweighting()).checked(reading.num_queries)
    step, log_prob_I = _most_probable(trie, change), np.zeros(trie.num_items, np.float32)
    start = Entries.start(trie, reading.num_queries, change.start(reading.num_queries)).take(slice(query, query + 1))
    level = start.take(start.node >= 0)
    while len(level):
        scored = reading.score(level.query, level.node, level.state)
        edges = Segments.of_edges(trie, level.node)
        moved = step(level, edges, scored.log_prob_J)
        scores = moved.log_prob_J, moved.value_J, moved.part_JP
        below = Children(trie, level.query, level.node, scored.state_X, edges, *scores)
        entries = below.entries(np.arange(edges.num_elements))
        is_item_A = entries.node < 0
        log_prob_I[trie.item_of_row_I[entries.row[is_item_A]]] = entries.log_prob[is_item_A]
        level = entries.take(~is_item_A)
    return log_prob_I


def _checked(number: int, name: str) -> int:
    if number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}")
    return number
