"""Fits of models of choice: Adam, and Newton's method for log-linear ones.

There, p(i) is proportional to exp(sum over k of b_k f_ki) among the candidates.

Shapes: see `arrays`; K = features, P = the questions of a part.
"""

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float32, Float64

Parts = list[tuple[Float32, Bool]]
"""Features of some questions, float32 [K, P, I], less those of the true item of each, whose score is thus 0; and which
items are candidates, bool [P, I], the true one among them. In parts, so that what is made of one at a time is small."""


def fit_loglinear(parts: Parts, weight_K: Float64, bounded_K: Bool, ridge: float) -> Float64:
    """The weights of the greatest mean log-likelihood less ridge / 2 times their squares, by projected Newton steps.

    Those of `bounded_K` stay at least 0, where they must start; `weight_K` is where to start.
    """
    loss, slope_K, curve_KK = _likelihood(parts, weight_K, ridge)
    for _ in range(30):
        free_K = ~(bounded_K & (weight_K <= 0) & (slope_K > 0))
        step_K, share = np.zeros_like(weight_K), 1.0
        step_K[free_K] = np.linalg.solve(curve_KK[np.ix_(free_K, free_K)], slope_K[free_K])
        while share > 1e-4:
            there_K = weight_K - share * step_K
            there_K = np.where(bounded_K, np.maximum(there_K, 0), there_K)
            there = _likelihood(parts, there_K, ridge)
            if there[0] < loss:
                break
            share /= 2
        else:
            break
        gained, weight_K = loss - there[0], there_K
        loss, slope_K, curve_KK = there
        if gained < 1e-6:
            break
    return weight_K


def _likelihood(parts: Parts, weight_K: Float64, ridge: float) -> tuple[float, Float64, NDArray[np.float64]]:
    """Mean of -log p of the true items plus the penalty, and its first and second derivatives."""
    loss, slope_K, num = 0.0, np.zeros_like(weight_K), sum(len(allowed_PI) for _, allowed_PI in parts)
    curve_KK = np.zeros((len(weight_K), len(weight_K)))
    for feature_KPI, allowed_PI in parts:
        score_PI = np.tensordot(weight_K.astype(np.float32), feature_KPI, 1)
        score_PI = np.where(allowed_PI, score_PI, np.float32(-np.inf))
        most_P1 = score_PI.max(axis=1, keepdims=True)
        share_PI = np.exp(score_PI - most_P1)
        total_P1 = share_PI.sum(axis=1, keepdims=True)
        loss += float((np.log(total_P1) + most_P1).sum())
        share_PI /= total_P1
        moment_KPI = feature_KPI * share_PI
        mean_KP = moment_KPI.sum(axis=2, dtype=np.float64)
        slope_K += mean_KP.sum(axis=1)
        flat = (len(weight_K), -1)
        curve_KK += moment_KPI.reshape(flat) @ feature_KPI.reshape(flat).T - mean_KP @ mean_KP.T
    loss = loss / num + ridge / 2 * float(weight_K @ weight_K)
    return loss, slope_K / num + ridge * weight_K, curve_KK / num + ridge * np.eye(len(weight_K))


class Adam:
    """Arrays that are learnt together, and the running means of their slopes: Kingma and Ba, ICLR 2015, with decoupled
    decay (Loshchilov and Hutter, ICLR 2019)."""

    def __init__(self, values: list[Float64]) -> None:
        self.values, self._step = values, 0
        self._mean, self._square = ([np.zeros_like(value) for value in values] for _ in range(2))

    def descend(self, slopes: list[Float64], rate: float, decays: tuple[float, ...]) -> None:
        """One step down the slopes; each array also shrinks by its decay times the rate."""
        self._step += 1
        for i, (slope, decay) in enumerate(zip(slopes, decays, strict=True)):
            self._mean[i] = 0.9 * self._mean[i] + 0.1 * slope
            self._square[i] = 0.999 * self._square[i] + 0.001 * slope**2
            mean, square = self._mean[i] / (1 - 0.9**self._step), self._square[i] / (1 - 0.999**self._step)
            self.values[i] = self.values[i] * (1 - rate * decay) - rate * mean / (np.sqrt(square) + 1e-8)
