"""Is a ranker as sure as it should be? Calibration of the probabilities that it gives to its first items.

A prediction is one item of one event's list, with the probability p that the ranker gave it; it is right where that
item was chosen. A calibrated ranker is right in a share p of its predictions of probability p.

Shapes: E = events, K = items of a list, P = predictions, B = bins that hold any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..arrays import Bool, Float64, Int64
from .rankings import Rankings

Binning = Literal["equal-mass", "equal-width"]

NUM_BINS = 15  # as in Guo et al., 2017
_ROUND_OFF = 1e-3  # float32 log-probabilities of a certain item may be this much above 0


@dataclass(frozen=True)
class ReliabilityCurve:
    """Mean probability, share of right predictions, and number of predictions of each bin that holds any, ascending."""

    binning: Binning
    confidence_B: Float64
    accuracy_B: Float64
    count_B: Int64

    @property
    def error(self) -> float:
        """Expected calibration error: mean over predictions of |accuracy - confidence| of their bin; NaN over none.

        With few predictions a bin it is biased upwards, so compare only errors of equally many predictions and bins.
        Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
        AAAI 2015; for the most probable class, Guo et al., "On calibration of modern neural networks", ICML 2017.
        """
        gap_B = np.abs(self.accuracy_B - self.confidence_B)
        return float(np.average(gap_B, weights=self.count_B)) if self.count_B.size else float("nan")


@dataclass(frozen=True)
class Calibrated:
    """How calibrated one set of predictions is; the means are NaN over no predictions.

    `brier` is the mean of (p - right)^2, right = 1 or 0: Brier, "Verification of forecasts expressed in terms of
    probability", Monthly Weather Review 78(1), 1950. `confidence` is the mean probability, `accuracy` the share of
    predictions that were right.
    """

    equal_mass: ReliabilityCurve
    equal_width: ReliabilityCurve
    brier: float
    confidence: float
    accuracy: float
    num_predictions: int

    @classmethod
    def of(cls, probability_P: Float64, right_P: Bool) -> Calibrated:
        mass, width = (reliability_curve(probability_P, right_P, binning) for binning in get_args(Binning))
        averaged = (probability_P - right_P) ** 2, probability_P, right_P
        brier, confidence, accuracy = (float(np.mean(x_P)) if x_P.size else float("nan") for x_P in averaged)
        return cls(mass, width, brier, confidence, accuracy, probability_P.size)


def calibration(rankings: Rankings) -> dict[str, Calibrated]:
    """Calibration of the first predictions, "top-1", and of all of them, "top-K" (K as the lists are long).

    Scores must be natural log-probabilities, or it is a ValueError. Events whose list is empty make no prediction.
    Source of top-K: Nixon et al., "Measuring calibration in deep learning", CVPR Workshops 2019.
    """
    return {f"top-{k}": Calibrated.of(*predictions(rankings, k)) for k in (1, rankings.k)}


def predictions(rankings: Rankings, k: int) -> tuple[Float64, Bool]:
    """Probability and correctness of each of the first k items of each event: float64 [P], bool [P], event by event.

    Raises:
        ValueError: the scores are no log-probabilities (one is above 0, or an event's sum to more than 1).
    """
    all_EK = np.exp(rankings.score_EK)  # 0 where there is no item
    total_E = all_EK.sum(axis=1)
    if total_E.size and not total_E.max() <= 1 + _ROUND_OFF:
        raise ValueError(
            "calibration needs scores that are log-probabilities, but the probabilities of an event's first "
            f"{rankings.k} items sum to {total_E.max():.4g}; leave rankers without probabilities out"
        )
    listed_EK, probability_EK = rankings.item_EK[:, :k] >= 0, np.minimum(all_EK[:, :k], 1.0)
    right_EK = rankings.rank_E[:, None] == np.arange(1, listed_EK.shape[1] + 1)
    return probability_EK[listed_EK], right_EK[listed_EK]


def reliability_curve(
    probability_P: Float64, right_P: Bool, binning: Binning = "equal-mass", num_bins: int = NUM_BINS
) -> ReliabilityCurve:
    """Predictions of like probability together, see `bin_of`; no predictions give no bins."""
    bin_P = bin_of(probability_P, binning, num_bins)
    count_B = np.bincount(bin_P, minlength=num_bins)
    held_B = count_B > 0
    sums = (np.bincount(bin_P, weights=x_P, minlength=num_bins) for x_P in (probability_P, right_P))
    confidence_B, accuracy_B = (sum_B[held_B] / count_B[held_B] for sum_B in sums)
    return ReliabilityCurve(binning, confidence_B, accuracy_B, count_B[held_B].astype(np.int64))


def bin_of(probability_P: Float64, binning: Binning = "equal-mass", num_bins: int = NUM_BINS) -> Int64:
    """The bin of each prediction: int64 [P], from 0, ascending with the probability; some may be empty.

    `equal-width` bins are (i / B, (i + 1) / B], the first one with 0 (Guo et al., 2017). `equal-mass` bins hold about
    equally many predictions each (adaptive bins: Nixon et al., 2019); equal probabilities share the bin of the middle
    one of them, so their order does not matter.
    """
    if binning == "equal-width":
        return np.searchsorted(np.arange(1, num_bins) / num_bins, probability_P, side="left")
    _, value_P, count_V = np.unique(probability_P, return_inverse=True, return_counts=True)
    middle_V = np.cumsum(count_V) - (count_V + 1) / 2  # where each value stands in order, from 0: the middle one
    bin_V: Int64 = np.floor(num_bins * middle_V / max(1, len(probability_P))).astype(np.int64)
    return bin_V[value_P]
