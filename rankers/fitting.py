"""Weights of a log-linear model, fitted to choices that people made.

A choice is one of some alternatives, each with K features; the probability of an alternative is proportional to
exp(theta . features). The negative log-likelihood of the choices is convex in theta, and Newton's method with a line
search finds its minimum within bounds. So are temperature and prior weight at a branching node (the features of an edge
are the model's log-probability and the logarithm of the prior mass below), and the weights of a stack of rankers (the
features of an item are what each ranker says of it). A multinomial (conditional) logit: McFadden 1974.

Shape legend: D choices, J their alternatives end to end, K features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..arrays import Bool, Float32, Float64, Int64
from ..decode.decisions import Decisions
from ..decode.reweighting import TEMPERATURES
from ..decode.segments import Segments

BLOCK_EDGES = 1 << 20
MAX_STEPS = 100
LOWER, UPPER = np.array([1 / TEMPERATURES[1], 0.0]), np.array([1 / TEMPERATURES[0], np.inf])


@dataclass(frozen=True)
class ChoiceSets:
    """Choices by people: `feature_KJ` float32, alternatives of choice d are `ptr_D1[d]:ptr_D1[d + 1]` (int64), of which
    `taken_D` int64 (a position in J) was chosen. The likelihood is a mean over `num_events` events."""

    feature_KJ: Float32
    ptr_D1: Int64
    taken_D: Int64
    num_events: int

    @classmethod
    def of(cls, decisions: Decisions) -> ChoiceSets:
        """The edges of decisions, with the model's log-probability and the logarithm of the prior mass."""
        features = np.stack([decisions.log_prob_J, decisions.log_mass_J])
        return cls(features, decisions.ptr_D1, decisions.taken_D, decisions.num_events)

    def take(self, feature_F: list[int]) -> ChoiceSets:
        """The same choices with some of the features."""
        return ChoiceSets(self.feature_KJ[feature_F], self.ptr_D1, self.taken_D, self.num_events)

    def part(self, chosen_D: Bool) -> ChoiceSets:
        """Some of the choices, one event each."""
        edges = Segments(self.ptr_D1)
        kept_J = edges.spread(chosen_D)
        ptr_D1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(edges.count_X[chosen_D])])
        taken_D = (np.cumsum(kept_J) - 1)[self.taken_D[chosen_D]]
        return ChoiceSets(self.feature_KJ[:, kept_J], ptr_D1, taken_D, int(chosen_D.sum()))


@dataclass(frozen=True)
class Calibration:
    """What fits best, and the mean negative log-likelihood of an event's item in nats: before (`nll_before`), and with
    these. The share of a mixture's part is not counted."""

    temperature: float
    weight: float
    nll_before: float
    nll_after: float


def fit(decisions: Decisions, before: tuple[float, float] = (1.0, 0.0)) -> Calibration:
    """Temperature and weight that minimise the mean negative log-likelihood per event; never worse than those `before`.

    Raises ValueError without a decision.
    """
    if not len(decisions.taken_D):
        raise ValueError("expected at least one decision to fit a temperature to, found none")
    sets, start = ChoiceSets.of(decisions), np.array([1 / before[0], before[1]])
    nll_before = likelihood(sets, start)[0]
    theta, nll_after = fit_weights(sets, start, LOWER, UPPER)
    return Calibration(1 / float(theta[0]), float(theta[1]), nll_before, nll_after)


def fit_weights(
    sets: ChoiceSets, start_K: Float64, lower_K: Float64, upper_K: Float64, ridge: float = 0.0
) -> tuple[Float64, float]:  # fmt: skip
    """Theta within bounds (float64 [K]) that minimises the mean negative log-likelihood plus ridge / 2 * |theta|^2, and
    that likelihood without the ridge, in nats per event; never worse than the start."""
    theta, bounds = start_K.astype(np.float64), (lower_K, upper_K)
    now, slope, curve = _penalised(sets, theta, ridge)
    for _ in range(MAX_STEPS):
        held = ((theta <= lower_K) & (slope >= 0)) | ((theta >= upper_K) & (slope <= 0))
        direction = _newton(slope, curve, ~held)
        moved = _line_search(sets, theta, now, slope, direction, bounds, ridge)
        if moved is None:
            break
        theta, gain = moved[0], now - moved[1][0]
        now, slope, curve = moved[1]
        if gain <= 1e-10 * max(now, 1.0):
            break
    return theta, now - 0.5 * ridge * float(theta @ theta)


def likelihood(sets: ChoiceSets, theta: Float64) -> tuple[float, Float64, Float64]:
    """Mean negative log-likelihood per event at `theta`, its gradient [K] and its Hessian [K, K]."""
    num = len(theta)
    nll, slope, curve = 0.0, np.zeros(num), np.zeros((num, num))
    for first, last in _blocks(sets.ptr_D1):
        begin, end = sets.ptr_D1[first], sets.ptr_D1[last]
        edges, taken_D = Segments(sets.ptr_D1[first : last + 1] - begin), sets.taken_D[first:last] - begin
        feature_KJ = sets.feature_KJ[:, begin:end].astype(np.float64)
        score_J = theta @ feature_KJ
        weight_J = np.exp(score_J - edges.spread(top_D := edges.highest(score_J)))
        sum_D = edges.total(weight_J)
        weight_J /= edges.spread(sum_D)
        nll += float((np.log(sum_D) + top_D - score_J[taken_D]).sum())
        mean_KD = np.stack([edges.total(weight_J * feature_J) for feature_J in feature_KJ])
        slope += (mean_KD - feature_KJ[:, taken_D]).sum(axis=1)
        centred_KJ = feature_KJ - np.stack([edges.spread(mean_D) for mean_D in mean_KD])
        curve += (centred_KJ * weight_J) @ centred_KJ.T
    return nll / sets.num_events, slope / sets.num_events, curve / sets.num_events


def _penalised(sets: ChoiceSets, theta: Float64, ridge: float) -> tuple[float, Float64, Float64]:
    nll, slope, curve = likelihood(sets, theta)
    return nll + 0.5 * ridge * float(theta @ theta), slope + ridge * theta, curve + ridge * np.eye(len(theta))


def _blocks(ptr_D1: Int64) -> list[tuple[int, int]]:
    """Ranges of choices with about BLOCK_EDGES alternatives each: intermediate arrays are in float64."""
    marks = np.arange(0, int(ptr_D1[-1]) + BLOCK_EDGES, BLOCK_EDGES)
    bounds = np.unique(np.searchsorted(ptr_D1, marks).clip(max=len(ptr_D1) - 1)).tolist()
    return list(pairwise(bounds))


def _newton(slope: Float64, curve: Float64, free: Bool) -> Float64:
    """The Newton step within the free coordinates; downhill along the gradient where the curvature says nothing."""
    direction = np.zeros(len(slope))
    if free.any():
        damped = curve[np.ix_(free, free)] + 1e-9 * (np.trace(curve) + 1e-12) * np.eye(int(free.sum()))
        direction[free] = -np.linalg.solve(damped, slope[free])
    return direction


def _line_search(
    sets: ChoiceSets, theta: Float64, now: float, slope: Float64, direction: Float64,
    bounds: tuple[Float64, Float64], ridge: float,
) -> tuple[Float64, tuple[float, Float64, Float64]] | None:  # fmt: skip
    """The first of ever shorter steps (kept within bounds) that lowers the likelihood enough; None if none does."""
    for halvings in range(40):
        there = np.clip(theta + direction * 0.5**halvings, *bounds)
        if (there == theta).all():
            return None
        found = _penalised(sets, there, ridge)
        if found[0] <= now + 1e-4 * float(slope @ (there - theta)) and found[0] < now:
            return there, found
    return None
