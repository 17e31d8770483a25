"""Events that are surprising for their user: by what was chosen and where, by the hour, or by the rate.

Each event gets a log-likelihood ratio in nats: how much likelier it is as an event of any user than as one of this
user, at its time. It is a sum, as the factors of a probability are:

    item   what was chosen, given the hour and the last place
    hour   the hour of the day by the local clock
    gap    the pause since the last event, in powers of two of seconds

"Any user" is half what all users did before, half uniform, so that what no user does is surprising too. Of hour and gap
only what is above `CHANCE_NATS` counts: below, they differ by chance, and would hide what the item says. A speed
between two places above that of an airliner adds the logarithm of how many times faster it is.

The user's probability of an item is that of the stack which `whereupon priors` chose, where it did, for validation and
test events. For training events, which a stack was fitted on, and without a stack it is counted: the ranker
"context-weighted own events", mixed with what all users choose at this hour with the weight d / (n + d) after n events
on d distinct items (escape method C of Moffat, "Implementing the PPM data compression scheme", IEEE Transactions on
Communications 38(11), 1990), times exp(-distance / the user's mean distance so far) from the last place.

Shapes: N = events, Q = rows of queries, I = items, B = bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ..arrays import Float64, Int64, ragged
from ..histories import Histories
from ..histories.distance import PlacesOnSphere, distance_km, has_coordinates, points_of
from ..histories.questions import num_previous
from ..rankers.clock import DAY_S, Stream, local_seconds, stream_of
from ..rankers.counting import Visits
from ..rankers.own import ContextWeights, MoveWeights, OwnEvents
from ..rankers.protocol import Dense
from ..rankers.user_history import last_items, parts_of

AIRLINER_KMH: Final = 1_000.0
CHANCE_NATS: Final = 2.0
"""Of hour and gap: log-likelihood ratios up to this say nothing."""
_CELLS: Final = 2_000_000  # questions times items, or past events, held at once
_HOUR_SIGMA: Final = 1.0  # standard deviation in hours of the Gaussian between times of day
_ANY_HOUR: Final = 10.0  # events of any hour beside those of this one
_POPULATION: Final = 3.0  # events of all users beside the user's own
_GAP_BINS: Final = 32
_LEAST_GAP_S: Final = 60.0
_JOURNEY_S: Final = 12 * 3600  # after a longer pause the last place says little
_FAR: Final = 0.05  # what is left of an item's probability far from the last place


def item_ratio(histories: Histories, row_Q: Int64, dense: Dense | None = None) -> tuple[Float64, Float64]:
    """Log-likelihood ratios of the chosen items, and their probability for the user: float64 [Q] both.

    `dense` gives log-probabilities of all items; None counts.
    """
    counting = _Counting(histories)
    hour_Q = counting.hour_N[row_Q]
    order_Q = np.argsort(hour_Q, kind="stable")  # so that a part has few hours
    ratio_Q, prob_Q = np.empty(len(row_Q)), np.empty(len(row_Q))
    num_items = histories.items.height
    for part in parts_of(np.full(len(row_Q), num_items), _CELLS):
        at = order_Q[part]
        rows = row_Q[at]
        popular_QI = counting.popular(rows)
        prob_QI = np.exp(dense.scores(rows)) if dense else counting.probs(rows, popular_QI)
        taken = np.arange(len(rows)), histories.item_idx_N[rows]
        prob_Q[at] = prob_QI[taken]
        ratio_Q[at] = np.log((popular_QI[taken] + 1 / num_items) / 2) - np.log(prob_Q[at])
    return ratio_Q, prob_Q


class _Counting:
    """Probabilities of all items at a time, by counting alone."""

    def __init__(self, histories: Histories) -> None:
        self.hour_N = hours(histories)
        self._histories, self._num_known_N = histories, Visits.of(histories).num_known_N
        self._own = OwnEvents(ContextWeights(), MoveWeights(known=0.1, new=0.03)).on(histories, "test")
        stream = stream_of(histories)
        self._stream, self._stream_hour_N = stream, self.hour_N[stream.row_N]
        has_places = histories.location == "outcome" and has_coordinates(histories.items)
        self._point_I3 = points_of(histories.items) if has_places else None
        self._gap_s_N, self._reach_km_N = gaps_s(histories), _mean_so_far(histories, moves_km(histories))

    def popular(self, row_Q: Int64) -> Float64:
        """What all users choose at such an hour: float64 [Q, I], rows add up to 1."""
        time_Q, hour_Q = self._histories.time_s_N[row_Q], self.hour_N[row_Q]
        any_QI = 1 + self._stream.sums_before(time_Q)
        popular_QI = _ANY_HOUR * any_QI / any_QI.sum(axis=1, keepdims=True)
        for hour in np.unique(hour_Q):
            at = np.flatnonzero(hour_Q == hour)
            popular_QI[at] += self._stream.sums_before(time_Q[at], _nearness(self._stream_hour_N, int(hour)))
        return _shares(popular_QI)

    def probs(self, row_Q: Int64, popular_QI: Float64) -> Float64:
        """What the user chooses: float64 [Q, I], rows add up to 1."""
        scored = self._own.scores(row_Q)
        own_QI = np.zeros_like(popular_QI)
        own_QI[scored.query_C, scored.item_C] = scored.score_C
        num_Q, distinct_Q = num_previous(self._histories)[row_Q], self._num_known_N[row_Q]
        new_Q1 = np.where(num_Q > 0, distinct_Q / np.maximum(num_Q + distinct_Q, 1), 1.0)[:, None]
        prob_QI = (1 - new_Q1) * _shares(own_QI) + new_Q1 * popular_QI
        return _shares(prob_QI * self._near(row_Q)) if self._point_I3 is not None else prob_QI

    def _near(self, row_Q: Int64) -> Float64:
        """What the distance from the last place leaves of each item: float64 [Q, I], 1 where nothing is known."""
        assert self._point_I3 is not None
        distance_QI = distance_km(self._point_I3[last_items(self._histories, row_Q)][:, None], self._point_I3)
        near_QI = np.exp(-distance_QI / self._reach_km_N[row_Q][:, None]) + _FAR
        applies_Q = self._gap_s_N[row_Q] < _JOURNEY_S  # false at a first event
        return np.where(np.isnan(near_QI) | ~applies_Q[:, None], 1.0, near_QI)


def hour_ratio(histories: Histories, row_Q: Int64) -> Float64:
    """Log-likelihood ratios of the local hours: float64 [Q]."""
    hours_B = np.arange(24)
    kernel_BB = np.stack([_nearness(hours_B, hour) for hour in range(24)])
    return _bin_ratio(histories, row_Q, hours(histories), _shares(kernel_BB))


def gap_ratio(histories: Histories, row_Q: Int64) -> Float64:
    """Log-likelihood ratios of the pauses since the last event: float64 [Q], 0 at a first event."""
    gap_N = gaps_s(histories)
    bin_N = np.log2(1 + np.nan_to_num(gap_N)).astype(np.int64).clip(0, _GAP_BINS - 1)
    ratio_Q = _bin_ratio(histories, row_Q, bin_N, np.eye(_GAP_BINS))
    return np.where(np.isnan(gap_N[row_Q]), 0.0, ratio_Q)


def _bin_ratio(histories: Histories, row_Q: Int64, bin_N: Int64, kernel_BB: Float64) -> Float64:
    """Log-likelihood ratios of bins, counts of which are spread by a kernel."""
    num_bins, stream = len(kernel_BB), stream_of(histories)
    binned = Stream(stream.row_N, stream.time_N, bin_N[stream.row_N], num_bins)
    any_QB = _shares(1 + binned.sums_before(histories.time_s_N[row_Q])) @ kernel_BB
    ratio_Q = np.empty(len(row_Q))
    for part, query_X, past_X in _pasts(histories, row_Q):
        num = part.stop - part.start
        cell_X = num_bins * query_X + bin_N[past_X]
        own_QB = np.bincount(cell_X, minlength=num_bins * num).reshape(num, num_bins) @ kernel_BB
        taken = np.arange(num), bin_N[row_Q[part]]
        own_Q = _shares(own_QB + _POPULATION * any_QB[part])[taken]
        ratio_Q[part] = np.log((any_QB[part][taken] + 1 / num_bins) / 2) - np.log(own_Q)
    return ratio_Q


def hours(histories: Histories) -> Int64:
    """Hour of the day of each event by the local clock: int64 [N]."""
    hour_N: Int64 = local_seconds(histories.events) % DAY_S // 3600
    return hour_N


def moves_km(histories: Histories) -> Float64:
    """Distance from the user's event before: float64 [N], NaN where it is not known."""
    if not has_coordinates(histories.events):
        return np.full(len(histories.item_idx_N), np.nan)
    number_N = np.arange(len(histories.item_idx_N))
    moves_N: Float64 = PlacesOnSphere.of(histories.events).km(
        number_N, np.where(num_previous(histories) > 0, number_N - 1, -1)
    )
    return moves_N


def gaps_s(histories: Histories) -> Float64:
    """Seconds since the user's event before: float64 [N], NaN at a first event."""
    gap_N = np.diff(histories.time_s_N, prepend=0).astype(np.float64)
    gap_N[num_previous(histories) == 0] = np.nan
    return gap_N


def speeds_kmh(histories: Histories) -> Float64:
    """Speed from the user's event before, as if at least a minute had passed: float64 [N], NaN where not known."""
    speed_N: Float64 = moves_km(histories) / (np.maximum(gaps_s(histories), _LEAST_GAP_S) / 3600)
    return speed_N


def speed_excess(speed_N: Float64) -> Float64:
    """Logarithm of how many times faster than an airliner: float64 [N], 0 where slower or not known."""
    excess_N: Float64 = np.log(np.maximum(np.nan_to_num(speed_N), AIRLINER_KMH) / AIRLINER_KMH)
    return excess_N


def _mean_so_far(histories: Histories, value_N: Float64) -> Float64:
    """Mean of the user's earlier values that are above 0; where there is none, 1: float64 [N]."""
    counts_N = np.nan_to_num(value_N) > 0
    start_N = histories.offset_U1[histories.user_idx_N]

    def before(each_N: Float64) -> Float64:
        sum_N1 = np.append(0.0, np.cumsum(each_N))
        before_N: Float64 = sum_N1[:-1] - sum_N1[start_N]
        return before_N

    num_N = before(counts_N.astype(np.float64))
    total_N = before(np.where(counts_N, value_N, 0.0))
    return np.where((num_N > 0) & (total_N > 1e-6), total_N / np.maximum(num_N, 1), 1.0)


def _nearness(hour_N: Int64, hour: int) -> Float64:
    """Weights of hours for one hour, 0 from four standard deviations on."""
    apart_N = np.abs(hour_N - hour)
    apart_N = np.minimum(apart_N, 24 - apart_N) / _HOUR_SIGMA
    return np.where(apart_N < 4, np.exp(-0.5 * apart_N**2), 0.0)


def _shares(weight_XB: Float64) -> Float64:
    share_XB: Float64 = weight_XB / np.maximum(weight_XB.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return share_XB


def _pasts(histories: Histories, row_Q: Int64) -> Iterator[tuple[slice, Int64, Int64]]:
    """Rows in parts: a slice of them, and question and row of each earlier event of its user, int64 [X]."""
    length_Q = num_previous(histories)[row_Q]
    for part in parts_of(length_Q, _CELLS):
        query_X, past_X = ragged(row_Q[part] - length_Q[part], length_Q[part])
        yield part, query_X, past_X
