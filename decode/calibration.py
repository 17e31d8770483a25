"""Temperature and prior weight fitted to decisions that people took.

At a branching node the reweighted probability of an edge is proportional to exp(a * log_prob + w * log_mass), a = 1 /
temperature: a log-linear family, so the negative log-likelihood of the edges taken is convex in (a, w) and Newton's
method with a line search finds its minimum over a in 0.01 to 100 and w >= 0.

Shape legend: D decisions, E edges of their nodes end to end, P branching nodes on the ways of Q items.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .protocol import Float32, Int64
from .reweighting import TEMPERATURES, Float64, ItemPrior
from .segments import Segments

if TYPE_CHECKING:
    from .transformers_engine import TransformersEngine, TransformersReading

BLOCK_EDGES = 1 << 20
MAX_STEPS = 100
LOWER, UPPER = np.array([1 / TEMPERATURES[1], 0.0]), np.array([1 / TEMPERATURES[0], np.inf])


@dataclass(frozen=True)
class Decisions:
    """Branching nodes at which it is known which edge was taken.

    Decision d's edges are `ptr_D1[d]:ptr_D1[d + 1]` (int64) of `log_prob_E` (float32, the model's) and `log_mass_E`
    (float32, of the prior mass below; zeros without a prior); `taken_D` int64 is the position in E of the edge taken
    and `owner_D` int64 the event it belongs to, of `num_events`, some of which may have had nothing to decide.
    """

    log_prob_E: Float32
    log_mass_E: Float32
    ptr_D1: Int64
    taken_D: Int64
    owner_D: Int64
    num_events: int

    def log_probs(self, temperature: float = 1.0, weight: float = 0.0) -> Float32:
        """float32 [num_events]: log-probability of each event's item, under a temperature and a prior weight."""
        score_E = self.log_prob_E / np.float32(temperature) + np.float32(weight) * self.log_mass_E
        taken_D = Segments(self.ptr_D1).log_softmax(score_E)[self.taken_D]
        return np.bincount(self.owner_D, taken_D, minlength=self.num_events).astype(np.float32)

    @classmethod
    def join(cls, parts: list[Decisions]) -> Decisions:
        """Decisions of all parts; events are numbered on from part to part."""
        edges = np.cumsum([0, *(len(part.log_prob_E) for part in parts)])
        events = np.cumsum([0, *(part.num_events for part in parts)])
        return cls(
            np.concatenate([part.log_prob_E for part in parts]),
            np.concatenate([part.log_mass_E for part in parts]),
            np.concatenate([edges[:1], *(part.ptr_D1[1:] + e for part, e in zip(parts, edges, strict=False))]),
            np.concatenate([part.taken_D + e for part, e in zip(parts, edges, strict=False)]),
            np.concatenate([part.owner_D + e for part, e in zip(parts, events, strict=False)]),
            int(events[-1]),
        )


@dataclass(frozen=True)
class Calibration:
    """What fits best, and the mean negative log-likelihood of an event's item in nats: with temperature 1 and weight 0
    (`nll_before`), and with these."""

    temperature: float
    weight: float
    nll_before: float
    nll_after: float


def fit(decisions: Decisions) -> Calibration:
    """Temperature and weight that minimise the mean negative log-likelihood per event; never worse than (1, 0).

    Raises ValueError if there is nothing to learn from.
    """
    if not len(decisions.taken_D):
        raise ValueError("expected at least one decision to fit a temperature to, found none")
    theta = np.array([1.0, 0.0])
    before, slope, curve = likelihood(decisions, theta)
    now = before
    for _ in range(MAX_STEPS):
        held = ((theta <= LOWER) & (slope >= 0)) | ((theta >= UPPER) & (slope <= 0))
        direction = _newton(slope, curve, ~held)
        moved = _line_search(decisions, theta, now, slope, direction)
        if moved is None:
            break
        theta, gain = moved[0], now - moved[1][0]
        now, slope, curve = moved[1]
        if gain <= 1e-10 * max(now, 1.0):
            break
    return Calibration(1 / float(theta[0]), float(theta[1]), before, now)


def likelihood(decisions: Decisions, theta: Float64) -> tuple[float, Float64, Float64]:
    """Mean negative log-likelihood per event at `theta` = (1 / temperature, weight), its gradient and its Hessian."""
    nll, slope, curve = 0.0, np.zeros(2), np.zeros((2, 2))
    for first, last in _blocks(decisions.ptr_D1):
        begin, end = decisions.ptr_D1[first], decisions.ptr_D1[last]
        edges, taken_D = Segments(decisions.ptr_D1[first : last + 1] - begin), decisions.taken_D[first:last] - begin
        feature_2E = np.stack([decisions.log_prob_E[begin:end], decisions.log_mass_E[begin:end]]).astype(np.float64)
        score_E = theta @ feature_2E
        weight_E = np.exp(score_E - edges.spread(top_D := edges.highest(score_E)))
        sum_D = edges.total(weight_E)
        weight_E /= edges.spread(sum_D)
        nll += float((np.log(sum_D) + top_D - score_E[taken_D]).sum())
        mean_2D = np.stack([edges.total(weight_E * feature_E) for feature_E in feature_2E])
        slope += (mean_2D - feature_2E[:, taken_D]).sum(axis=1)
        centred_2E = feature_2E - np.stack([edges.spread(mean_D) for mean_D in mean_2D])
        curve += (centred_2E * weight_E) @ centred_2E.T
    return nll / decisions.num_events, slope / decisions.num_events, curve / decisions.num_events


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
        log_prob_E = engine.edge_log_probs_at(reading, position_Q[owner_P] + trie.depth_B[node_P], node_P)
    else:
        log_prob_E = np.zeros(0, np.float32)
    mass_E = np.ones(len(log_prob_E)) if prior is None else prior.masses(owner_P, node_P)
    taken_P = edges.ptr_X1[:-1] + edge_P - trie.child_ptr_B1[node_P]
    return Decisions(log_prob_E, np.log(mass_E).astype(np.float32), edges.ptr_X1, taken_P, owner_P, len(item_Q))


def _blocks(ptr_D1: Int64) -> list[tuple[int, int]]:
    """Ranges of decisions with about BLOCK_EDGES edges each: intermediate arrays are in float64."""
    marks = np.arange(0, int(ptr_D1[-1]) + BLOCK_EDGES, BLOCK_EDGES)
    bounds = np.unique(np.searchsorted(ptr_D1, marks).clip(max=len(ptr_D1) - 1)).tolist()
    return list(pairwise(bounds))


def _newton(slope: Float64, curve: Float64, free: NDArray[np.bool_]) -> Float64:
    """The Newton step within the free coordinates; downhill along the gradient where the curvature says nothing."""
    direction = np.zeros(2)
    if free.any():
        damped = curve[np.ix_(free, free)] + 1e-9 * (np.trace(curve) + 1e-12) * np.eye(int(free.sum()))
        direction[free] = -np.linalg.solve(damped, slope[free])
    return direction


def _line_search(
    decisions: Decisions, theta: Float64, now: float, slope: Float64, direction: Float64
) -> tuple[Float64, tuple[float, Float64, Float64]] | None:
    """The first of ever shorter steps (kept within bounds) that lowers the likelihood enough; None if none does."""
    for halvings in range(40):
        there = np.clip(theta + direction * 0.5**halvings, LOWER, UPPER)
        if (there == theta).all():
            return None
        found = likelihood(decisions, there)
        if found[0] <= now + 1e-4 * float(slope @ (there - theta)) and found[0] < now:
            return there, found
    return None
