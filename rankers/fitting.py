"""Temperature and prior weight fitted to decisions that people took.

At a branching node the reweighted probability of an edge is proportional to exp(a * log_prob + w * log_mass), a = 1 /
temperature: a log-linear family, so the negative log-likelihood of the edges taken is convex in (a, w) and Newton's
method with a line search finds its minimum over a in 0.01 to 100 and w >= 0.

Shape legend: D decisions, J edges of their nodes end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64
from ..decode.decisions import Decisions
from ..decode.reweighting import TEMPERATURES
from ..decode.segments import Segments

BLOCK_EDGES = 1 << 20
MAX_STEPS = 100
LOWER, UPPER = np.array([1 / TEMPERATURES[1], 0.0]), np.array([1 / TEMPERATURES[0], np.inf])


@dataclass(frozen=True)
class Calibration:
    """What fits best, and the mean negative log-likelihood of an event's item in nats: with temperature 1 and weight 0
    (`nll_before`), and with these."""

    temperature: float
    weight: float
    nll_before: float
    nll_after: float


def fit(decisions: Decisions) -> Calibration:
    """Temperature and weight that minimise the mean negative log-likelihood per event; never worse than (1, 0)."""
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
        feature_2J = np.stack([decisions.log_prob_J[begin:end], decisions.log_mass_J[begin:end]]).astype(np.float64)
        score_J = theta @ feature_2J
        weight_J = np.exp(score_J - edges.spread(top_D := edges.highest(score_J)))
        sum_D = edges.total(weight_J)
        weight_J /= edges.spread(sum_D)
        nll += float((np.log(sum_D) + top_D - score_J[taken_D]).sum())
        mean_2D = np.stack([edges.total(weight_J * feature_J) for feature_J in feature_2J])
        slope += (mean_2D - feature_2J[:, taken_D]).sum(axis=1)
        centred_2J = feature_2J - np.stack([edges.spread(mean_D) for mean_D in mean_2D])
        curve += (centred_2J * weight_J) @ centred_2J.T
    return nll / decisions.num_events, slope / decisions.num_events, curve / decisions.num_events


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
