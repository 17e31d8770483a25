"""What everybody chooses: in all, lately, and at this hour of the week.

Each is a distribution over the catalogue and scores by its logarithm. All events count that are strictly earlier than
the predicted one, of any user and split, except in `Popularity`, which counts those of earlier splits.

Shapes: N = events in the order of time, Q = queries, I = items.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...histories import Histories
from ..protocol import SPLIT_CODES, Task
from ..rankings import Rankings
from ..settings import EvaluatedSplit
from .clock import DAY_S, HOURS_OF_WEEK, Stream, local_hours
from .dense import rank_dense
from .protocol import Family
from .unfitted import Unfitted

__all__ = ["FAMILIES", "HourOfWeekPopularity", "Popularity", "RecentPopularity", "popular_shares"]

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
_REACH = 4.0  # standard deviations after which a Gaussian is cut off


def popular_shares(histories: Histories, split: EvaluatedSplit) -> Float64:
    """Share of each item among the events of earlier splits, each item counted once more than it was: float64 [I].

    Laplace's rule of succession: no item is impossible, and without any event all are equally likely. Under
    leave_one_out earlier splits hold events of other users that are later than the predicted one: whatever is fitted on
    them, this included, has seen the future there (`histories.CAVEATS`, which `evaluate` prints).
    """
    earlier_N = histories.split_E < SPLIT_CODES[split]
    count_I = np.bincount(histories.item_idx_E[earlier_N], minlength=histories.items.height) + 1.0
    share_I: Float64 = count_I / count_I.sum()
    return share_I


@dataclass(frozen=True)
class Popularity:
    """The same ranking for everybody: most frequent in earlier splits first."""

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`."""
        score_I = np.log(popular_shares(task.histories, task.split))
        return rank_dense(task, lambda row_Q: np.broadcast_to(score_I, (len(row_Q), len(score_I))), k, log_probs=True)


@dataclass(frozen=True)
class RecentPopularity:
    """Counts that fade: p(i) = (n_i + s_i) / (n + 1), s the shares in earlier splits, counted as one event.

    Attributes:
        half_life_days: an event counts half after so many days; None: it never fades.
    """

    half_life_days: float | None

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`."""
        stream, share_I = Stream.of(task.histories), popular_shares(task.histories, task.split)
        half_life_s = None if self.half_life_days is None else self.half_life_days * DAY_S

        def scores_of(row_Q: Int64) -> Float64:
            return _blend(stream.sums_before(task.histories.time_s_E[row_Q], None, half_life_s), share_I, 1.0)

        return rank_dense(task, scores_of, k, log_probs=True)


@dataclass(frozen=True)
class HourOfWeekPopularity:
    """Counts around this hour of the week: p(i) = (n_i + b s_i) / (n + b), s the shares in earlier splits.

    An event counts by how far its local time is from the middle of the hour that is asked for: by a Gaussian over the
    hours of the week, plus `any_day` times a Gaussian over the hours of the day.

    Attributes:
        sigma_hours: standard deviation of both; they end after four of them.
        any_day: what another day at the same time counts.
        backoff_events: b, how many events popularity at any time counts as much as.
    """

    sigma_hours: float
    any_day: float
    backoff_events: float

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`."""
        histories, row_E = task.histories, task.row_E
        stream, share_I = Stream.of(histories), popular_shares(histories, task.split)
        hours = local_hours(histories)
        hour_N, time = hours[stream.row_N], histories.time_s_E

        def scores_of(row_Q: Int64) -> Float64:
            sum_QI = np.empty((len(row_Q), stream.num_items))
            asked_Q = hours[row_Q].astype(np.int64)
            for hour in np.unique(asked_Q):
                at_Q = asked_Q == hour
                sum_QI[at_Q] = stream.sums_before(time[row_Q[at_Q]], self.weights(hour_N, hour + 0.5))
            return _blend(sum_QI, share_I, self.backoff_events)

        # Queries of one hour together: each hour of a chunk is a pass over all events.
        order_E = np.lexsort((time[row_E], hours[row_E].astype(np.int64)))
        return rank_dense(task, scores_of, k, log_probs=True, order_E=order_E)

    def weights(self, hour_N: Float64, hour: float) -> Float64:
        """What events at some hours of the week count for another hour of the week: float64 [N]."""
        weight_N = _gaussian(hour_N - hour, HOURS_OF_WEEK, self.sigma_hours)
        if self.any_day:
            weight_N += self.any_day * _gaussian(hour_N - hour, 24, self.sigma_hours)
        return weight_N


def _gaussian(apart_N: Float64, period: float, sigma: float) -> Float64:
    """exp(-(d / sigma)^2 / 2) of the distance d around a circle, 1 at 0 and exactly 0 beyond `_REACH` sigma."""
    apart_N = np.abs(apart_N) % period
    apart_N = np.minimum(apart_N, period - apart_N) / sigma
    return np.where(apart_N <= _REACH, np.exp(-0.5 * apart_N**2), 0.0)


def _blend(sum_QI: Float64, share_I: Float64, backoff_events: float) -> Float64:
    """log((sum + b share) / (total + b)), float64 [Q, I]."""
    total_Q1 = sum_QI.sum(axis=1, keepdims=True)
    score_QI: Float64 = np.log((sum_QI + backoff_events * share_I) / (total_Q1 + backoff_events))
    return score_QI


_HALF_LIVES: Final = (None, 90.0, 30.0, 14.0, 7.0, 3.0, 1.0, 0.25)
_HOURS: Final = tuple(product((0.25, 0.5, 1.0), (0.3, 1.0, 3.0, 10.0), (3.0, 30.0, 300.0)))

FAMILIES: Final[tuple[Family, ...]] = (
    Unfitted("popularity", Popularity, [{}]),
    Unfitted("recent popularity", RecentPopularity, [{"half_life_days": days} for days in _HALF_LIVES]),
    Unfitted(
        "popularity by hour of week",
        HourOfWeekPopularity,
        [{"sigma_hours": sigma, "any_day": any_day, "backoff_events": b} for sigma, any_day, b in _HOURS],
    ),
)
