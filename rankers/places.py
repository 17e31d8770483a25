"""What is near: items by their distance from where the user is, blended with popularity.

Where the user is: the coordinates of the event, if these are known beforehand (`Histories.location` is "context"); else
those of the item of the user's last event. An event's own coordinates are never looked at where they are an outcome,
for then they are those of the very item to be predicted.

Shapes: Q = queries, I = items; 3: a point on the unit sphere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64
from ..catalogue.distance import PlacesOnSphere, has_coordinates
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import Task
from ..histories.weather import EARTH_RADIUS_KM
from .dense import rank_dense
from .popular import popular_shares
from .protocol import Family, UnfitDataError
from .rankings import Rankings

__all__ = ["FAMILIES", "Nearest"]


@dataclass(frozen=True)
class Nearest:
    """p(i) is proportional to s_i^popular * (1 + d_i / scale)^-steepness, d_i in km, times `stay` for the last item.

    The power law is how distances between one check-in and the next are distributed: Ye, Yin, Lee and Lee, "Exploiting
    geographical influence for collaborative point-of-interest recommendation", SIGIR 2011. Shares s are those of
    earlier splits. Items without coordinates get the mean of the others' logarithms of the factor of distance; events
    whose place is unknown are ranked by popularity. It scores by log p.

    Attributes:
        scale_km: below this distance hardly matters.
        steepness: how fast it falls beyond.
        popular: exponent of popularity; 0 leaves distance alone.
        stay: factor for the item of the user's last event.
    """

    scale_km: float
    steepness: float
    popular: float
    stay: float

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`."""
        histories = task.histories
        item_I3 = PlacesOnSphere.of(histories.items).unit_N3[:-1]
        placed_I = ~np.isnan(item_I3[:, 0])
        popular_I = self.popular * np.log(popular_shares(histories, task.split))
        user_N3 = _where_users_are(histories, item_I3)

        def scores_of(row_Q: NDArray[np.int64]) -> Float64:
            factor_QI = self.factors(user_N3[row_Q], item_I3)
            factor_QI[:, ~placed_I] = factor_QI[:, placed_I].mean(axis=1, keepdims=True)
            factor_QI[np.isnan(factor_QI[:, 0])] = 0.0  # unknown where the user is
            score_QI = factor_QI + popular_I
            score_QI[np.arange(len(row_Q)), histories.item_idx_E[row_Q - 1]] += np.log(self.stay)
            score_QI -= score_QI.max(axis=1, keepdims=True)
            score_QI -= np.log(np.exp(score_QI).sum(axis=1, keepdims=True))
            return score_QI

        return rank_dense(task, scores_of, k, log_probs=True)

    def factors(self, user_Q3: Float64, item_I3: Float64) -> Float64:
        """Logarithm of the factor of distance, float64 [Q, I]; NaN where one of the two places is unknown."""
        return -self.steepness * np.log1p(distance_km(user_Q3, item_I3) / self.scale_km)


def distance_km(user_Q3: Float64, item_I3: Float64) -> Float64:
    """Great-circle distances of points on the unit sphere: float64 [Q, I], less than a metre off; NaN: unknown."""
    chord2_QI = np.zeros((len(user_Q3), len(item_I3)))
    for axis in range(3):  # differences, for an inner product cannot tell near places apart
        chord2_QI += (user_Q3[:, [axis]] - item_I3[:, axis]) ** 2
    distance_QI: Float64 = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(np.sqrt(chord2_QI) / 2, 1))
    return distance_QI


def _where_users_are(histories: Histories, item_I3: Float64) -> Float64:
    """Where the user is before each event: float64 [N, 3], NaN where unknown; see the module's text."""
    last_N3 = np.roll(item_I3[histories.item_idx_E], 1, axis=0)
    last_N3[histories.offset_U1[:-1]] = np.nan
    if histories.location == "outcome" or not has_coordinates(histories.events):
        return last_N3
    here_N3 = PlacesOnSphere.of(histories.events).unit_N3[:-1]
    return np.where(np.isnan(here_N3), last_N3, here_N3)


_GRID: Final = tuple(
    asdict(Nearest(*values))
    for values in product(
        (0.01, 0.05, 1.0, 20.0, 400.0, 4000.0), (0.5, 1.0, 2.0, 3.0), (0.0, 0.5, 1.0, 1.5), (1.0, 0.1, 0.01)
    )
)


@dataclass(frozen=True)
class _Family:
    name: str = "nearest"

    def grid(self) -> Sequence[Mapping[str, Any]]:
        """See `Family.grid`."""
        return _GRID

    def ranker(self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int) -> Nearest:
        """See `Family.ranker`; there is nothing to fit, nor anything random.

        Raises:
            UnfitDataError: no item has coordinates.
        """
        if not has_coordinates(histories.items):
            raise UnfitDataError(
                f"The baseline {self.name!r} needs items with latitude and longitude, but none has both; "
                "add these columns to the items, or leave it out of evaluate.baselines."
            )
        return Nearest(**settings)


FAMILIES: Final[tuple[Family, ...]] = (_Family(),)
