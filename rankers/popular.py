"""Popularity: of all events, of recent events, and at this hour of the week.

Each is a distribution over the catalogue and scores by its logarithm. All events count that are strictly earlier than
the predicted one, of any user and split, except in `Popularity`, which counts those of earlier splits.

Shapes: N = events in the order of time, Q = queries, I = items.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import has_coordinates
from ..histories.questions import SPLIT_CODES
from .cached import cached
from .clock import DAY_S, HOURS_OF_WEEK, local_hours, stream_of
from .protocol import Counting, Dense, Family, grid_of

_REACH = 4.0  # standard deviations after which a Gaussian is cut off


@cached
def popular_shares(histories: Histories, split: EvaluatedSplit) -> Float64:
    """Share of each item among the events of earlier splits, each item counted once more than it was: float64 [I].

    Laplace's rule of succession: no item is impossible, and without any event all are equally likely. Under
    leave_one_out earlier splits hold events of other users that are later than the predicted one: whatever is fitted on
    them, this included, has seen the future there (`histories.CAVEATS`, which `evaluate` prints).
    """
    earlier_N = histories.split_N < SPLIT_CODES[split]
    count_I = np.bincount(histories.item_idx_N[earlier_N], minlength=histories.items.height) + 1.0
    share_I: Float64 = count_I / count_I.sum()
    return share_I


@cached
def log_popular_shares(histories: Histories, split: EvaluatedSplit) -> Float64:
    """The logarithm of `popular_shares`."""
    log_I: Float64 = np.log(popular_shares(histories, split))
    return log_I


@dataclass(frozen=True)
class Popularity(Counting):
    """The same ranking for everybody: most frequent in earlier splits first."""

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        score_I = np.log(popular_shares(known or histories, split))
        return Dense(lambda row_Q: np.broadcast_to(score_I, (len(row_Q), len(score_I))), is_log_prob=True)


@dataclass(frozen=True)
class RecentPopularity(Counting):
    """Counts that fade: p(i) = (n_i + s_i) / (n + 1), s the shares in earlier splits, counted as one event.

    An event counts half after `half_life_days`; None: it never fades.
    """

    half_life_days: float | None

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        stream, share_I = stream_of(known or histories), popular_shares(known or histories, split)
        half_life_s = None if self.half_life_days is None else self.half_life_days * DAY_S

        def scores_of(row_Q: Int64) -> Float64:
            return _blend(stream.sums_before(histories.time_s_N[row_Q], None, half_life_s), share_I, 1.0)

        return Dense(scores_of, is_log_prob=True)


@dataclass(frozen=True)
class HourOfWeekPopularity(Counting):
    """Counts around this hour of the week: p(i) = (n_i + b s_i) / (n + b), s the shares in earlier splits.

    An event counts by how far its local time is from the query's (the middle of an hour, or of
    `sigma_hours` where these are less): by a Gaussian over the hours of the week, plus `any_day` times a Gaussian over
    the hours of the day. `sigma_hours` is the standard deviation of both; they end after four of them. b is
    `backoff_events`. Where it is known beforehand where the user will be (`Histories.location` is "context"), an event
    elsewhere counts `elsewhere` of that: at a place that differs in the second decimal of a degree, or whose
    coordinates are unknown where others are known.
    """

    sigma_hours: float
    any_day: float
    backoff_events: float
    elsewhere: float = 1.0

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        known = known or histories
        stream, share_I = stream_of(known), popular_shares(known, split)
        hour_N, there_N = _hours_and_places(known)
        hours, place_N, time = local_hours(histories), places_known(histories, known), histories.time_s_N
        width = min(1.0, self.sigma_hours)
        step_N = (hours / width).astype(np.int64)

        def scores_of(row_Q: Int64) -> Float64:
            sum_QI = np.empty((len(row_Q), stream.num_items))
            query_Q2 = np.stack([step_N[row_Q], place_N[row_Q]], axis=1)
            alike_G2, group_Q = np.unique(query_Q2, axis=0, return_inverse=True)
            for group, (step, place) in enumerate(alike_G2.tolist()):
                at_Q = group_Q == group
                weight_N = self.weights(hour_N, (step + 0.5) * width)
                weight_N *= np.where(there_N == place, 1.0, self.elsewhere)
                sum_QI[at_Q] = stream.sums_before(time[row_Q[at_Q]], weight_N)
            return _blend(sum_QI, share_I, self.backoff_events)

        def order(row_E: Int64) -> Int64:
            """Queries of one time and place together: each of a chunk is a pass over all events."""
            order_E: Int64 = np.lexsort((time[row_E], place_N[row_E], step_N[row_E]))
            return order_E

        return Dense(scores_of, is_log_prob=True, order=order)

    def weights(self, hour_N: Float64, hour: float) -> Float64:
        """What events at some hours of the week count for another hour of the week: float64 [N]."""
        weight_N = _gaussian(hour_N - hour, HOURS_OF_WEEK, self.sigma_hours)
        if self.any_day:
            weight_N += self.any_day * _gaussian(hour_N - hour, 24, self.sigma_hours)
        return weight_N


@cached
def _hours_and_places(known: Histories) -> tuple[Float64, Int64]:
    """Hour of the week and place of the events of their stream, in its order: float64 and int64 [N]."""
    row_N = stream_of(known).row_N
    return local_hours(known)[row_N], places_known(known, known)[row_N]


def places_known(histories: Histories, known: Histories) -> Int64:
    """A number for each kilometre or so where a user is known to be before the event: int64 [N]; all 0 if that is never
    so in `known`."""
    if known.location == "outcome" or not _has_places(known):
        return np.zeros(len(histories.user_idx_N), np.int64)
    north, east = ((pl.col(name) * 100).round() for name in ("latitude", "longitude"))
    places = histories.events.select((north * 100_000 + east).cast(pl.Int64).fill_null(-(10**9)))
    return places.to_series().to_numpy()


@cached
def _has_places(known: Histories) -> bool:
    return has_coordinates(known.events)


def _gaussian(apart_N: Float64, period: float, sigma: float) -> Float64:
    """exp(-(d / sigma)^2 / 2) of the distance d around a circle, 1 at 0 and exactly 0 beyond `_REACH` sigma."""
    apart_N = np.abs(apart_N) % period
    apart_N = np.minimum(apart_N, period - apart_N) / sigma
    near_X = np.flatnonzero(apart_N <= _REACH)
    weight_N = np.zeros(len(apart_N))
    weight_N[near_X] = np.exp(-0.5 * apart_N[near_X] ** 2)
    return weight_N


def _blend(sum_QI: Float64, share_I: Float64, backoff_events: float) -> Float64:
    """log((sum + b share) / (total + b)), float64 [Q, I]."""
    total_Q1 = sum_QI.sum(axis=1, keepdims=True)
    score_QI: Float64 = np.log((sum_QI + backoff_events * share_I) / (total_Q1 + backoff_events))
    return score_QI


_HALF_LIVES: Final = (None, 90.0, 30.0, 14.0, 7.0, 3.0, 1.0, 0.25)
_HOURS: Final = grid_of(
    HourOfWeekPopularity, (0.05, 0.25, 0.5, 1.0), (0.3, 3.0, 30.0), (1.0, 10.0, 100.0), (1.0, 0.1, 0.0)
)

FAMILIES: Final = (
    Family.counting("popularity", [{}], Popularity),
    Family.counting("recent popularity", grid_of(RecentPopularity, _HALF_LIVES), RecentPopularity),
    Family.counting("popularity by hour of week", _HOURS, HourOfWeekPopularity),
)
