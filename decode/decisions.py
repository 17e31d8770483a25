"""The branching decisions on the ways of given items: what the model says of each edge there, and which was taken.

Shape legend: D decisions, J edges of their nodes end to end, P branching nodes on the ways of Q items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Float32, Int64
from .reweighting import ItemPrior
from .segments import Segments

if TYPE_CHECKING:
    from .transformers_engine import TransformersEngine, TransformersReading


@dataclass(frozen=True)
class Decisions:
    """Branching nodes at which it is known which edge was taken.

    Decision d's edges are `ptr_D1[d]:ptr_D1[d + 1]` (int64) of `log_prob_J` (float32, the model's) and `log_mass_J`
    (float32, of the prior mass below; zeros without a prior); `taken_D` int64 is the position in J of the edge taken
    and `owner_D` int64 the event it belongs to, of `num_events`, some of which may have had nothing to decide.
    """

    log_prob_J: Float32
    log_mass_J: Float32
    ptr_D1: Int64
    taken_D: Int64
    owner_D: Int64
    num_events: int

    def log_probs(self, temperature: float = 1.0, weight: float = 0.0) -> Float32:
        """float32 [num_events]: log-probability of each event's item, under a temperature and a prior weight."""
        score_J = self.log_prob_J / np.float32(temperature) + np.float32(weight) * self.log_mass_J
        taken_D = Segments(self.ptr_D1).log_softmax(score_J)[self.taken_D]
        return np.bincount(self.owner_D, taken_D, minlength=self.num_events).astype(np.float32)

    @classmethod
    def join(cls, parts: list[Decisions]) -> Decisions:
        """Decisions of all parts; events are numbered on from part to part."""
        edges = np.cumsum([0, *(len(part.log_prob_J) for part in parts)])
        events = np.cumsum([0, *(part.num_events for part in parts)])
        return cls(
            np.concatenate([part.log_prob_J for part in parts]),
            np.concatenate([part.log_mass_J for part in parts]),
            np.concatenate([edges[:1], *(part.ptr_D1[1:] + e for part, e in zip(parts, edges, strict=False))]),
            np.concatenate([part.taken_D + e for part, e in zip(parts, edges, strict=False)]),
            np.concatenate([part.owner_D + e for part, e in zip(parts, events, strict=False)]),
            int(events[-1]),
        )


def decisions_of(
    engine: TransformersEngine, reading: TransformersReading, item_Q: Int64, position_Q: Int64,
    prior: ItemPrior | None = None,
) -> Decisions:  # fmt: skip
    """The branching decisions of items that stand in a text, each item one event.

    Title q begins after the text's token at `position_Q[q]`; `prior` has own masses for these Q questions, or for none.
    """
    trie = engine.trie
    owner_P, node_P, edge_P = trie.decisions(item_Q)
    edges = Segments.of_edges(trie, node_P)
    if len(node_P):
        log_prob_J = engine.edge_log_probs_at(reading, position_Q[owner_P] + trie.depth_B[node_P], node_P)
    else:
        log_prob_J = np.zeros(0, np.float32)
    mass_J = np.ones(len(log_prob_J)) if prior is None else prior.masses(owner_P, node_P)
    taken_P = edges.ptr_X1[:-1] + edge_P - trie.child_ptr_B1[node_P]
    return Decisions(log_prob_J, np.log(mass_J).astype(np.float32), edges.ptr_X1, taken_P, owner_P, len(item_Q))
