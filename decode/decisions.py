"""The branching decisions on the paths of given items: the model's scores of each edge there, and the edge taken.

Shape legend: D decisions, J edges of their nodes end to end, E events, P branching nodes on the paths of Q items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Bool, Float32, Float64, Int64
from .reweighting import AgainOrNew, Change, ItemPrior, Reweighting
from .segments import Segments

if TYPE_CHECKING:
    from .transformers_engine import TransformersEngine, TransformersReading


@dataclass(frozen=True)
class Decisions:
    """Branching nodes at which it is known which edge was taken.

    Decision d's edges are `ptr_D1[d]:ptr_D1[d + 1]` (int64) of `log_prob_J` (float32, the model's) and `log_mass_J`
    (float32, of the prior mass below; zeros without a prior); `taken_D` int64 is the position in J of the edge taken
    and `owner_D` int64 the event it belongs to. Some events may have had nothing to decide. `is_new_E` bool says which
    part of a mixture gives the event's item, `log_share_E` float64 the log-probability of that part (without a mixture
    False and 0). Edges to which that part gives no probability are left out.
    """

    log_prob_J: Float32
    log_mass_J: Float32
    ptr_D1: Int64
    taken_D: Int64
    owner_D: Int64
    is_new_E: Bool
    log_share_E: Float64

    @property
    def num_events(self) -> int:
        """E."""
        return len(self.is_new_E)

    def log_probs(self, pools: tuple[Reweighting, Reweighting]) -> Float32:
        """float32 [E]: log-probability of each event's item, with temperature and weight of the pool of its part: that
        of items chosen before, and that of new ones. Without a mixture the first one counts."""
        edges, part_D = Segments(self.ptr_D1), self.is_new_E[self.owner_D].astype(np.int64)
        inverse_D = (1 / np.array([pool.temperature for pool in pools], np.float32))[part_D]
        weight_D = np.array([pool.weight for pool in pools], np.float32)[part_D]
        score_J = self.log_prob_J * edges.spread(inverse_D) + edges.spread(weight_D) * self.log_mass_J
        taken_D = (
            edges.log_softmax(score_J.astype(np.float32))[self.taken_D]
            if len(self.taken_D)
            else np.zeros(0, np.float32)
        )
        return (np.bincount(self.owner_D, taken_D, minlength=self.num_events) + self.log_share_E).astype(np.float32)

    def of_part(self, is_new: bool) -> Decisions:
        """The decisions of events whose item one part of a mixture gives, numbered anew."""
        kept_E = self.is_new_E == is_new
        kept_D = kept_E[self.owner_D]
        edges = Segments(self.ptr_D1)
        kept_J = edges.spread(kept_D)
        number_E, before_J = np.cumsum(kept_E) - 1, np.cumsum(kept_J) - 1
        ptr_D1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(edges.count_X[kept_D])])
        return Decisions(
            self.log_prob_J[kept_J], self.log_mass_J[kept_J], ptr_D1, before_J[self.taken_D[kept_D]],
            number_E[self.owner_D[kept_D]], self.is_new_E[kept_E], self.log_share_E[kept_E],
        )  # fmt: skip

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
            np.concatenate([part.is_new_E for part in parts]),
            np.concatenate([part.log_share_E for part in parts]),
        )


def decisions_of(
    engine: TransformersEngine, reading: TransformersReading, item_Q: Int64, position_Q: Int64,
    change: Change | None = None,
) -> Decisions:  # fmt: skip
    """The branching decisions of items that stand in a text, each item one event.

    Title q begins after the text's token at `position_Q[q]`; `change` was made for these Q questions, or for any.
    """
    trie = engine.trie
    owner_P, node_P, edge_P = trie.decisions(item_Q)
    edges = Segments.of_edges(trie, node_P)
    if len(node_P):
        log_prob_J = engine.edge_log_probs_at(reading, position_Q[owner_P] + trie.depth_B[node_P], node_P)
    else:
        log_prob_J = np.zeros(0, np.float32)
    taken_P = edges.ptr_X1[:-1] + edge_P - trie.child_ptr_B1[node_P]
    no_gate = np.zeros(len(item_Q), bool), np.zeros(len(item_Q))
    plain = Decisions(log_prob_J, np.zeros_like(log_prob_J), edges.ptr_X1, taken_P, owner_P, *no_gate)
    if isinstance(change, AgainOrNew):
        is_new_Q = change.is_new(item_Q)
        new_J, again_J = (_masses(pool, owner_P, node_P) for pool in (change.new, change.again))
        mass_J = np.where(edges.spread(is_new_Q[owner_P]), new_J, again_J)
        log_share_Q = change.log_share_Q2[np.arange(len(item_Q)), is_new_Q.astype(np.int64)]
        return _with_masses(replace(plain, is_new_E=is_new_Q, log_share_E=log_share_Q), mass_J)
    if isinstance(change, Reweighting) and change.prior is not None:
        return _with_masses(plain, _masses(change, owner_P, node_P))
    return plain


def _masses(pool: Reweighting, owner_P: Int64, node_P: Int64) -> Float64:
    assert isinstance(pool.prior, ItemPrior)
    return pool.prior.masses(owner_P, node_P)


def _with_masses(plain: Decisions, mass_J: Float64) -> Decisions:
    """With the masses below the edges; edges without mass are left out."""
    kept_J = mass_J > 0
    kept_J[plain.taken_D] = True
    edges = Segments(plain.ptr_D1)
    log_mass_J = np.log(np.maximum(mass_J[kept_J], np.finfo(np.float64).tiny)).astype(np.float32)
    if kept_J.all():
        return replace(plain, log_mass_J=log_mass_J)
    count_D = edges.total(kept_J).astype(np.int64)
    return replace(
        plain, log_prob_J=plain.log_prob_J[kept_J], log_mass_J=log_mass_J,
        ptr_D1=np.concatenate([np.zeros(1, np.int64), np.cumsum(count_D)]),
        taken_D=(np.cumsum(kept_J) - 1)[plain.taken_D],
    )  # fmt: skip
