"""Spatial k nearest neighbours: what was chosen where place, time of day, kind of day and weather were like now.

An event is a point: where the user was before it (`places`), its time of day on a circle, its kind of day, and the
weather. Each of the k nearest events of all users votes for its item by exp(-d), d being how far apart the points are
(Euclid), and each of the user's own events as well, by its weight. Nearest points are found by a tree
(Maneewongvatana and Mount, "It's okay to be skinny, if your friends are fat", 1999; scipy's cKDTree) of the events
before the day of the question, so that nothing later is seen; days are those of UTC.

Of the context's numbers, such as the weather, it takes the principal components, so that columns that say the same do
not count twice; or the columns themselves, see `numbers`.

Shapes: see `arrays`; D = coordinates of a point, X = neighbours of questions, flattened.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..arrays import Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import EARTH_RADIUS_KM, has_coordinates
from .clock import DAY_S, is_weekend, local_seconds, stream_of
from .numbers import Numbers, number_values, scaling
from .places import item_points, where_users_are
from .popular import popular_shares
from .protocol import Counting, Dense, Family, Fitting, Floats, grid_of, require
from .user_history import past_sums

_NAME: Final = "spatial KNN"
_LATEST = 100_000  # events among which neighbours are looked for
_OTHER_KIND = 1.0  # distance between a working day and a weekend


@dataclass(frozen=True)
class SpatialNeighbours(Counting):
    """p(i) = (v_i + own * o_i + s_i) / (v + own * o + 1): votes of the `num_neighbours` nearest events v and of own
    events o, see the module's text, and s the shares of items in earlier splits.

    Points are 1 apart at a distance of `scale_km`, at times of day `scale_hours` apart (as long as these are much less
    than a day), and at weathers that differ by 1 / `weather` as `numbers` scales them. Unknown places are all in one.
    """

    num_neighbours: int
    scale_km: float
    scale_hours: float
    weather: float
    own: float
    numbers: Numbers = "components"

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """Log-probabilities over all items."""
        known = known or histories
        share_I, stream, num_items = popular_shares(known, split), stream_of(known), known.items.height
        point_ND = self.points(histories, known, split)
        other_MD = point_ND if known is histories else self.points(known, known, split)
        other_MD = other_MD[stream.row_N]
        time_N, trees = histories.time_s_N, _Trees(other_MD, stream.time_N)

        def weigh(row_X: Int64, past_X: Int64) -> Float64:
            return _votes(np.linalg.norm(point_ND[row_X] - point_ND[past_X], axis=1))

        def scores_of(row_Q: Int64) -> Floats:
            sum_QI = share_I + self.own * past_sums(histories, row_Q, weigh)
            day_Q = time_N[row_Q] // DAY_S
            for day in np.unique(day_Q):
                at_P = np.flatnonzero(day_Q == day)
                query_X, event_X, apart_X = trees.nearest(int(day), point_ND[row_Q[at_P]], self.num_neighbours)
                cell_X = query_X * num_items + stream.item_N[event_X]
                votes_X = np.bincount(cell_X, _votes(apart_X), len(at_P) * num_items)
                sum_QI[at_P] += votes_X.reshape(-1, num_items)
            score_QI: Floats = np.log(sum_QI / sum_QI.sum(axis=1, keepdims=True))
            return score_QI

        def order(row_E: Int64) -> Int64:
            """Queries of a day together: each day has a tree."""
            order_E: Int64 = np.argsort(time_N[row_E], kind="stable")
            return order_E

        return Dense(scores_of, is_log_prob=True, order=order)

    def points(self, histories: Histories, known: Histories, split: EvaluatedSplit) -> Float64:
        """float64 [N, D]: the point of each event as it was before the event."""
        local_N = local_seconds(histories.events)
        angle_N, radius = 2 * np.pi * (local_N % DAY_S) / DAY_S, 24 / (2 * np.pi) / self.scale_hours
        columns = [radius * np.cos(angle_N), radius * np.sin(angle_N), _OTHER_KIND * is_weekend(local_N)]
        parts = [np.stack(columns, axis=1)]
        if has_coordinates(known.items):
            here_N3 = where_users_are(histories, item_points(known))
            parts.append(np.nan_to_num(here_N3) * EARTH_RADIUS_KM / self.scale_km)
        if self.weather:
            scaled = scaling(known, split, self.numbers)
            parts.append(np.nan_to_num(scaled.of(number_values(histories, scaled.names))) * self.weather)
        return np.concatenate(parts, axis=1)


def _votes(apart_X: Float64) -> Float64:
    votes_X: Float64 = np.exp(-apart_X)
    return votes_X


class _Trees:
    """The tree of the events before a day, `point_MD` float64 in the order of `time_M`; the last one is kept."""

    def __init__(self, point_MD: Float64, time_M: Int64) -> None:
        self._point_MD, self._time_M, self._kept = point_MD, time_M, (-1, -1, None)

    def nearest(self, day: int, point_QD: Float64, num: int) -> tuple[Int64, Int64, Float64]:
        """Question and place among the events, int64 [X], and distance, float64 [X], of the nearest to some points."""
        from scipy.spatial import cKDTree

        end = int(np.searchsorted(self._time_M, day * DAY_S))
        start = max(0, end - _LATEST)
        if end == start:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        if self._kept[:2] != (start, end):
            self._kept = (start, end, cKDTree(self._point_MD[start:end]))
        tree: Any = self._kept[2]
        apart_QK, event_QK = tree.query(point_QD, k=np.arange(1, min(num, end - start) + 1))
        query_X = np.repeat(np.arange(len(point_QD), dtype=np.int64), apart_QK.shape[1])
        return query_X, event_QK.ravel().astype(np.int64) + start, apart_QK.ravel()


def _ranker(fitting: Fitting) -> SpatialNeighbours:
    require("scipy", "boosting", _NAME)
    return SpatialNeighbours(**fitting.settings)


_SCALES: Final = (30, 150), (0.1, 1.0, 20.0), (0.5, 2.0)
_GRID: Final = (
    *grid_of(SpatialNeighbours, *_SCALES, (0.0, 0.3), (0.0, 3.0, 30.0), ("components",)),
    *grid_of(SpatialNeighbours, *_SCALES, (0.3,), (3.0,), ("standard", "min-max", "informative")),
)
FAMILIES: Final = (Family(_NAME, _GRID, _ranker, lambda settings, *_: SpatialNeighbours(**settings)),)
