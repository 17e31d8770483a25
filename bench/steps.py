"""What a step of the search costs beside the model: from the hidden states of nodes to the nodes of the next round.

The model is one that knows nothing and costs nothing: its hidden states are drawn beforehand and are narrow, so that
hardly more is left of the output projection than picking the logits of the edges. That, normalising them, and the
search's own bookkeeping are counted, all by the functions that serve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whereupon.catalogue import Trie
from whereupon.decode.branching import TrieTensors, edge_log_probs
from whereupon.decode.output_layer import OutputLayer
from whereupon.decode.protocol import Scored
from whereupon.decode.search import SearchResult, beam_search, search

Int64 = NDArray[np.int64]

NUM_NODES = 32
NUM_ENTRIES = 48  # ranked items, or width of the beam: some entries of a round are items and nothing to expand
NUM_SEARCHES, NUM_WARM_UP = 300, 20
WIDTH = 8  # of the hidden states
SPREAD = 1.0  # standard deviation of the logits: little, so that searches go on and rounds are full
NUM_STATES = 4096


@dataclass(frozen=True)
class Step:
    """One round: how many nodes and edges, milliseconds until they were scored and then until the next round began."""

    is_root: bool
    num_nodes: int
    num_edges: int
    score_ms: float
    search_ms: float


class RandomReading:
    """A reading by the model that knows nothing; notes when each call began and ended."""

    num_queries = 1

    @classmethod
    def over(cls, trie: Trie, rng: np.random.Generator) -> RandomReading:
        """A model of its own, for the tokens of `trie`."""
        drawn = rng.normal(size=(int(trie.token_P.max()) + 1, WIDTH)).astype(np.float32)
        return cls(TrieTensors.of(trie, torch.device("cpu")), torch.from_numpy(drawn), rng)

    def __init__(self, tensors: TrieTensors, weight_VH: torch.Tensor, rng: np.random.Generator) -> None:
        self._tensors, self._weight_VH, self._rng = tensors, weight_VH, rng
        drawn = rng.normal(scale=SPREAD / WIDTH**0.5, size=(NUM_STATES, WIDTH)).astype(np.float32)
        self._hidden_SH, self._num_scored = torch.from_numpy(drawn), 0
        self._rounds: list[tuple[float, float, int, int]] = []

    def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        """See `Reading.score`."""
        start, first = time.perf_counter(), self._num_scored
        self._num_scored += len(node_X)
        hidden_XH = self._hidden_SH[torch.arange(first, self._num_scored) % NUM_STATES]
        log_prob_J, _ = edge_log_probs(
            hidden_XH, torch.from_numpy(node_X), self._tensors, OutputLayer(self._weight_VH), 1.0
        )  # fmt: skip
        scored = Scored(log_prob_J.numpy(), np.arange(first, self._num_scored))
        self._rounds.append((start, time.perf_counter(), len(node_X), len(scored.log_prob_J)))
        return scored

    def again(self) -> RandomReading:
        """Another text, read by the same model."""
        return RandomReading(self._tensors, self._weight_VH, self._rng)

    def steps(self, ended: float) -> list[Step]:
        """The rounds so far, the last of which was over at `ended`."""
        starts = [one[0] for one in self._rounds[1:]] + [ended]
        return [
            Step(number == 0, nodes, edges, 1e3 * (answered - began), 1e3 * (following - answered))
            for number, ((began, answered, nodes, edges), following) in enumerate(
                zip(self._rounds, starts, strict=True)
            )
        ]


def step_overhead(trie: Trie, seed: int, num_searches: int = NUM_SEARCHES) -> dict[str, Any]:
    """Median and 90th percentile of the milliseconds of a step: at the root, and where 32 nodes or more are expanded.

    Best-first search for 48 items expands in a round the nodes among its 48 best entries, a beam of 48 all its nodes.
    """
    reading = RandomReading.over(trie, np.random.default_rng(seed))
    kinds: dict[str, Callable[[RandomReading], list[SearchResult]]] = {
        "best_first": lambda reading: search(reading, trie, NUM_ENTRIES, max_expansions=2_000, slack=0.0),
        "beam": lambda reading: beam_search(reading, trie, NUM_ENTRIES, width=NUM_ENTRIES),
    }
    found: dict[str, list[Step]] = {kind: [] for kind in kinds}
    with torch.inference_mode():
        for number in range(NUM_WARM_UP + num_searches):
            for kind, run in kinds.items():
                reading = reading.again()
                run(reading)
                found[kind] += reading.steps(time.perf_counter()) if number >= NUM_WARM_UP else []
    return {kind: _figures(steps) for kind, steps in found.items()}


def _figures(steps: list[Step]) -> dict[str, Any]:
    chosen = {
        "root": [step for step in steps if step.is_root],
        f"nodes_{NUM_NODES}": [step for step in steps if step.num_nodes >= NUM_NODES],
    }
    return {name: _quantiles(part) for name, part in chosen.items()} | {"num_steps": len(steps)}


def _quantiles(steps: list[Step]) -> dict[str, float]:
    if not steps:
        return {"num_steps": 0}
    score, search_ = (np.array([getattr(step, name) for step in steps]) for name in ("score_ms", "search_ms"))
    return {
        "num_steps": len(steps),
        "nodes_median": float(np.median([step.num_nodes for step in steps])),
        "edges_median": float(np.median([step.num_edges for step in steps])),
        "score_ms_median": float(np.median(score)),
        "search_ms_median": float(np.median(search_)),
        "ms_median": float(np.median(score + search_)),
        "ms_p90": float(np.quantile(score + search_, 0.9)),
    }
