"""Drawing distinct items from the catalogue's distribution: Gumbel-top-k over the trie.

Add independent Gumbel noise to the log-probability of each item. The k items with the largest sums are k draws without
replacement, in order. The largest sum below a node is itself Gumbel around the node's log-probability. So sums can be
drawn from the top down: those of the children, given that the largest of them is their parent's. The search for the
most probable items then finds the largest sums exactly, and expands few nodes. Source: Kool, van Hoof and Welling 2019,
"Stochastic Beams and Where to Find Them", arXiv 1903.06059, with the numerics of its appendix.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arrays import Float32, Float64
from ..catalogue import Subset, Trie
from .entries import Entries, Moved
from .frontier import Frontier
from .protocol import Reading
from .reweighting import Change, Reweighting
from .search import Searching, SearchResult, Step, exploring, run
from .segments import Segments


def sample(
    reading: Reading, trie: Trie, k: int, rng: np.random.Generator, *, temperature: float = 1.0, top_p: float = 1.0,
    subset: Subset | None = None, reweighting: Change | None = None,
) -> list[SearchResult]:  # fmt: skip
    """`k` distinct items for every question, in the order of drawing without replacement.

    Drawn from the (reweighted) distribution with its log-probabilities divided by `temperature` and cut down to the
    nucleus `top_p` at every branching node, both renormalised there; restricted to the items of `subset`. `log_prob_K`
    is of that distribution before the restriction. With top_p < 1 there may be fewer than k items; `reason` says so.
    Raises ValueError for k < 1, a temperature outside of 0.01 to 100, or a top_p outside of (0, 1].
    """
    found = sampling(
        trie, reading.num_queries, k, rng, temperature=temperature, top_p=top_p, subset=subset, reweighting=reweighting
    )
    return run(reading, found)


def sampling(
    trie: Trie, num_queries: int, k: int, rng: np.random.Generator, *, temperature: float = 1.0, top_p: float = 1.0,
    max_expansions: int | None = None, subset: Subset | None = None, reweighting: Change | None = None,
) -> Searching:  # fmt: skip
    """`sample` without a model, to be driven by `run` or `run_async`; with a budget, as that of `search`."""
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, not {top_p}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    change = (reweighting or Reweighting()).checked(num_queries)
    frontier = Frontier(trie, num_queries, k, subset, change.start(num_queries))
    step = _perturbing(trie, change, Reweighting(temperature), top_p, rng)
    answers = yield from exploring(frontier, step, max_expansions)
    return [
        replace(answer, reason=f"only {len(answer.item_idx_K)} items can be drawn with top_p {top_p:g}")
        if len(answer.item_idx_K) < frontier.k and answer.exact and top_p < 1 and not answer.reason
        else answer
        for answer in answers
    ]


def _perturbing(
    trie: Trie, change: Change, flattened: Reweighting, top_p: float, rng: np.random.Generator
) -> Step:  # fmt: skip
    def step(parents: Entries, edges: Segments, log_prob_J: Float32) -> Moved:
        log_prob_J, part_JP = change.apply(trie, parents.query, parents.node, parents.part, log_prob_J)
        log_prob_J, _ = flattened.apply(trie, parents.query, parents.node, parents.part[:, :0], log_prob_J)
        if top_p < 1:
            log_prob_J = nucleus(edges, log_prob_J, top_p)
        total_J = edges.spread(parents.log_prob) + log_prob_J
        return Moved(total_J, perturbed(edges, total_J, parents.value, rng).astype(np.float32), part_JP)

    return step


def nucleus(edges: Segments, log_prob_J: Float32, top_p: float) -> Float32:
    """float32 [J]: each stretch cut down to its most probable elements that hold at least `top_p`, renormalised.

    The others get -inf. The most probable element always stays; of equally probable ones the first.
    """
    owner_J = edges.spread(np.arange(len(edges.count_X)))
    order_J = np.lexsort((-log_prob_J, owner_J))
    sorted_J = np.exp(log_prob_J[order_J], dtype=np.float64)
    sum_J = np.cumsum(sorted_J)
    before_J = sum_J - sorted_J
    before_J -= edges.spread(before_J[edges.ptr_X1[:-1]])
    kept_J = np.empty(len(log_prob_J), bool)
    kept_J[order_J] = before_J < top_p
    return edges.log_softmax(np.where(kept_J, log_prob_J, np.float32(-np.inf)))


def perturbed(edges: Segments, log_prob_J: Float32, largest_X: Float32, rng: np.random.Generator) -> Float64:
    """float64 [J]: Gumbel values around `log_prob_J`, given that the largest of each stretch is `largest_X`."""
    with np.errstate(divide="ignore"):  # log(0) is -inf: at the largest element, which then is exactly largest_X
        value_J = log_prob_J + rng.gumbel(size=len(log_prob_J))
        above_J = edges.spread(edges.highest(value_J)) - value_J
        wanted_J = edges.spread(largest_X.astype(np.float64))
        v_J = wanted_J - value_J + np.log(-np.expm1(-above_J))
    drawn_J: Float64 = wanted_J - np.maximum(v_J, 0) - np.log1p(np.exp(-np.abs(v_J)))
    return drawn_J
