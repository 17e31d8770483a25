"""What the user's history says of each item in it: how recently, at which times of day, and after which gaps.

These stand beside `boosted_features`, whose features exist for all items of the catalogue. All are as of the query's
time; of the history, the last `returns.LONGEST` events count.

Shapes: see `arrays`; C = own items of all questions, flattened; X = past events of all questions; L = features.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..arrays import Bool, Float32, Float64, Int64
from ..histories.distance import distance_km
from .clock import DAY_S, is_weekend
from .returns import EventData, sums
from .votes import apart_hours

NAMES: Final = (
    "own 3 days", "own 14 days", "own by clock 3 days", "own by clock 60 days", "own by clock and weekday lately",
    "own by clock of kind", "own by clock and gap", "share by clock of kind", "share by clock narrow",
    "days since last", "days since third last", "overdue", "category by clock", "km per hour",
)  # fmt: skip
"""Features. Sums over events of the item, faded by a half-life in days, or by how near the time of day is; shares are
of the sums of all own items. "overdue" is the time since the item's last event, in mean gaps between its events."""

_WIDE_H, _MIDDLE_H, _NARROW_H = 2.0, 1.0, 0.33  # scales of differences of the time of day
_OTHER_KIND = 0.3  # weight of an event on a weekend for a weekday, and the other way round
_LIKE_GAP = 0.5  # difference of the logarithms of two gaps
_NEVER, _OVERDUE = 300.0, 50.0  # days, and the most that counts
_PRIOR = 0.02  # events that each own item has in a share
_LEAST_H = 0.02  # hours since the last event, at least


def own_features(data: EventData, kind_I: Int64 | None, row_Q: Int64, query_C: Int64, item_C: Int64) -> Float32:
    """Those of `NAMES`, float32 [C, L]; NaN where a category or a place is unknown.

    Args:
        kind_I: int64 [I], a category of each item; None without categories.
        query_C: int64 [C], indices into `row_Q`, with `item_C` ascending: all items of the last events of each.
    """
    past = _Own.of(data, row_Q, query_C, item_C)
    days_X, apart_X = past.days_X, past.apart_X
    wide_X, middle_X, narrow_X = (np.exp(-0.5 * (apart_X / hours) ** 2) for hours in (_WIDE_H, _MIDDLE_H, _NARROW_H))
    kind_X = np.where(past.same_kind_X, 1.0, _OTHER_KIND)
    lately_X = np.exp2(-days_X / 60)
    of_kind_C, by_clock_C = past.total(wide_X * past.same_kind_X), past.total(lately_X * middle_X * kind_X)
    last_C, third_C, overdue_C = past.ages()
    columns = [
        past.total(np.exp2(-days_X / 3)), past.total(np.exp2(-days_X / 14)),
        past.total(np.exp2(-days_X / 3) * middle_X * kind_X), by_clock_C,
        past.total(lately_X * middle_X * past.same_weekday_X), of_kind_C, past.total(past.like_gap_X * middle_X),
        past.share(of_kind_C), past.share(past.total(narrow_X)), last_C, third_C, overdue_C,
        past.category(by_clock_C, kind_I), past.speed(),
    ]  # fmt: skip
    return np.round(np.stack(columns, axis=1), 3).astype(np.float32)


@dataclass(frozen=True)
class _Own:
    """Past events X of questions, `entry_X` is each one's C; differences from the question are of time and clock."""

    data: EventData
    row_Q: Int64
    query_C: Int64
    item_C: Int64
    entry_X: Int64
    past_X: Int64
    days_X: Float64
    apart_X: Float64
    same_kind_X: Bool
    same_weekday_X: Bool
    like_gap_X: Bool

    @classmethod
    def of(cls, data: EventData, row_Q: Int64, query_C: Int64, item_C: Int64) -> "_Own":
        query_X, past_X = data.pairs(row_Q)
        key_X, row_X = query_X * data.num_items + data.item_N[past_X], row_Q[query_X]
        day_N, time_N = data.local_N // DAY_S, data.time_N
        weekend_N = is_weekend(data.local_N)
        return cls(
            data, row_Q, query_C, item_C,
            np.searchsorted(query_C * data.num_items + item_C, key_X).astype(np.int64), past_X,
            (time_N[row_X] - time_N[past_X]) / DAY_S, apart_hours(data.local_N[row_X], data.local_N[past_X]),
            weekend_N[row_X] == weekend_N[past_X], (day_N[row_X] - day_N[past_X]) % 7 == 0,
            np.abs(data.log_gap_N[row_X] - data.log_gap_N[past_X]) < _LIKE_GAP,
        )  # fmt: skip

    def total(self, weight_X: Float64 | Bool) -> Float64:
        """Sum of the weights of each item's events: float64 [C]."""
        return sums(self.entry_X, weight_X, len(self.item_C))

    def share(self, value_C: Float64) -> Float64:
        """Each one's share in its question."""
        smooth_C, num = value_C + _PRIOR, len(self.row_Q)
        share_C: Float64 = smooth_C / sums(self.query_C, smooth_C, num)[self.query_C]
        return share_C

    def ages(self) -> tuple[Float64, Float64, Float64]:
        """Days since the last event of the item and since the last but two, `_NEVER` without one; and "overdue", -1
        where there is one event only."""
        order_X = np.lexsort((-self.past_X, self.entry_X))
        start_C = np.searchsorted(self.entry_X[order_X], np.arange(len(self.item_C)))
        number_C = np.bincount(self.entry_X, minlength=len(self.item_C))
        days_X = self.days_X[order_X]

        def nth(number: int) -> Float64:
            has_C = number_C > number
            days_C = np.full(len(number_C), _NEVER)
            days_C[has_C] = days_X[start_C[has_C] + number]
            return days_C

        first_C, last_C = days_X[start_C + number_C - 1], nth(0)
        gap_C = np.maximum((first_C - last_C) / np.maximum(number_C - 1, 1), 0.1)
        return last_C, nth(2), np.where(number_C > 1, np.minimum(last_C / gap_C, _OVERDUE), -1.0)

    def category(self, by_clock_C: Float64, kind_I: Int64 | None) -> Float64:
        """What all own items of the category have together, as a share of all."""
        if kind_I is None:
            return np.full(len(self.item_C), np.nan)
        key_C = self.query_C * (kind_I.max() + 1) + kind_I[self.item_C]
        _, entry_C = np.unique(key_C, return_inverse=True)
        of_all_Q = sums(self.query_C, by_clock_C, len(self.row_Q))
        share_C: Float64 = sums(entry_C, by_clock_C, len(key_C))[entry_C] / np.maximum(of_all_Q[self.query_C], 1e-9)
        return share_C

    def speed(self) -> Float64:
        """How fast the user would have to travel, in a straight line, since the last event: km/h."""
        data = self.data
        if data.here_N3 is None or data.place_I3 is None:
            return np.full(len(self.item_C), np.nan)
        hours_Q = np.maximum((data.time_N[self.row_Q] - data.time_N[self.row_Q - 1]) / 3600, _LEAST_H)
        km_C = distance_km(data.here_N3[self.row_Q][self.query_C], data.place_I3[self.item_C])
        speed_C: Float64 = km_C / hours_Q[self.query_C]
        return speed_C
