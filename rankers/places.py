"""Items by their distance from the user's place, blended with popularity.

Where the user is: the coordinates of the event, if these are known beforehand (`Histories.location` is "context"); else
those of the item of the user's last event. An event's own coordinates are never looked at where they are an outcome,
for then they are those of the very item to be predicted.

Shapes: Q = queries, I = items; 3: a point on the unit sphere.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..arrays import Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import distance_km, has_coordinates, points_of
from .cached import cached
from .popular import popular_shares
from .protocol import Counting, Dense, Family, Fitting, UnfitDataError, grid_of
from .user_history import last_items

_AROUND_KM, _PLACES = 0.3, 5_000  # scale of a density, and items by which it is measured


@dataclass(frozen=True)
class Nearest(Counting):
    """p(i) is proportional to s_i^popular * (1 + d_i / scale)^-steepness, d_i in km, times `stay` for the last item.

    The power law is how distances between one check-in and the next are distributed: Ye, Yin, Lee and Lee, "Exploiting
    geographical influence for collaborative point-of-interest recommendation", SIGIR 2011. Shares s are those of
    earlier splits. Items without coordinates get the mean of the others' logarithms of the factor of distance; events
    whose place is unknown are ranked by popularity. It scores by log p.
    """

    scale_km: float
    steepness: float
    popular: float
    stay: float

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        item_I3 = item_points(known or histories)
        placed_I = ~np.isnan(item_I3[:, 0])
        popular_I = self.popular * np.log(popular_shares(known or histories, split))
        user_N3 = where_users_are(histories, item_I3)

        def scores_of(row_Q: Int64) -> Float64:
            factor_QI = self.factors(user_N3[row_Q], item_I3)
            factor_QI[:, ~placed_I] = factor_QI[:, placed_I].mean(axis=1, keepdims=True)
            factor_QI[np.isnan(factor_QI[:, 0])] = 0.0  # unknown where the user is
            score_QI: Float64 = factor_QI + popular_I
            last_Q = last_items(histories, row_Q)
            score_QI[np.flatnonzero(last_Q >= 0), last_Q[last_Q >= 0]] += np.log(self.stay)
            score_QI -= score_QI.max(axis=1, keepdims=True)
            score_QI -= np.log(np.exp(score_QI).sum(axis=1, keepdims=True))
            return score_QI

        return Dense(scores_of, is_log_prob=True)

    def factors(self, user_Q3: Float64, item_I3: Float64) -> Float64:
        """Logarithm of the factor of distance, float64 [Q, I]; NaN where one of the two places is unknown."""
        return -self.steepness * np.log1p(distance_km(user_Q3[:, None], item_I3) / self.scale_km)


@cached
def item_points(known: Histories) -> Float64:
    """Places of the items: float64 [I, 3]."""
    return points_of(known.items)


def where_users_are(histories: Histories, item_I3: Float64) -> Float64:
    """Where the user is before each event: float64 [N, 3], NaN where unknown; see the module's text."""
    last_N3 = np.roll(item_I3[histories.item_idx_N], 1, axis=0)
    last_N3[histories.offset_U1[:-1]] = np.nan
    if histories.location == "outcome" or not has_coordinates(histories.events):
        return last_N3
    here_N3 = points_of(histories.events)
    return np.where(np.isnan(here_N3), last_N3, here_N3)


def density(point_P3: Float64, item_I3: Float64) -> Float64:
    """Logarithm of the number of items around each point, by how near they are: float64 [P]; 0 where the place is
    unknown. Of a large catalogue a sample of the items stands for all."""
    step = -(-len(item_I3) // _PLACES)
    other_J3 = item_I3[::step][~np.isnan(item_I3[::step, 0])]
    distinct_D3, at_P = np.unique(point_P3, axis=0, return_inverse=True)
    density_D = np.zeros(len(distinct_D3))
    for start in range(0, len(distinct_D3), 256):
        km_DJ = distance_km(distinct_D3[start : start + 256, None], other_J3)
        density_D[start : start + 256] = np.log1p(step * ((1 + km_DJ / _AROUND_KM) ** -1.5).sum(axis=1))
    return np.nan_to_num(density_D)[at_P.ravel()]


def _nearest(fitting: Fitting) -> Nearest:
    if not has_coordinates(fitting.histories.items):
        raise UnfitDataError(
            "The baseline 'nearest' needs items with latitude and longitude, but none has both; add these columns to "
            "the items, or leave it out of evaluate.baselines."
        )
    return Nearest(**fitting.settings)


_GRID: Final = grid_of(
    Nearest, (0.01, 0.05, 1.0, 20.0, 400.0, 4000.0), (0.5, 1.0, 2.0, 3.0), (0.0, 0.5, 1.0, 1.5), (1.0, 0.1, 0.01)
)
FAMILIES: Final = (Family("nearest", _GRID, _nearest, lambda settings, *_: Nearest(**settings)),)
