"""Local time of events, and sums over all events before a time.

Shapes: N = events (rows of the histories), Q = queries, I = items.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Bool, Float64, Int64
from ..histories import Histories
from .cached import cached

DAY_S: Final = 86_400
HOURS_OF_WEEK: Final = 168
_SPAN = 500  # half-lives: 2 ** -500 and 2 ** 500 are far from the limits of float64


def local_hours(histories: Histories) -> Float64:
    """Hours since Monday 00:00 of each event by its local clock, from 0 to below 168: float64 [N]."""
    # Day 0, 1 January 1970, was a Thursday.
    return (local_seconds(histories.events) + 3 * DAY_S) % (7 * DAY_S) / 3600.0


def is_weekend(local_X: Int64) -> Bool:
    weekend_X: Bool = (local_X // DAY_S + 3) % 7 >= 5  # day 0, 1 January 1970, was a Thursday
    return weekend_X


def local_seconds(events: pl.DataFrame) -> Int64:
    """Local wall-clock seconds since 1970-01-01 00:00 of every event: int64 [N].

    Where some events have a day without an hour, all have the begin of their day: an hour beside a missing one says
    which kind of row it is and not when people come.
    """
    local_N = events["local_time"].to_numpy().astype("datetime64[s]").astype(np.int64)
    if "hour_known" in events.columns and not events["hour_known"].fill_null(True).all():
        local_N -= local_N % DAY_S
    return local_N


@dataclass(frozen=True)
class Stream:
    """All shared events of all users in the order of time: what is strictly before a time is a prefix.

    `row_N` int64 is the row of each event in the histories (equal times in the order of rows), `time_N` int64 its time
    in unix seconds, ascending, `item_N` int64 its item.
    """

    row_N: Int64
    time_N: Int64
    item_N: Int64
    num_items: int

    def take(self, chosen_M: Bool) -> "Stream":
        """Some of its events."""
        return Stream(self.row_N[chosen_M], self.time_N[chosen_M], self.item_N[chosen_M], self.num_items)

    @classmethod
    def of(cls, histories: Histories) -> "Stream":
        """The events of all splits that may count for all users: what counts is when."""
        row_N = np.argsort(histories.time_s_N, kind="stable").astype(np.int64)
        row_N = row_N[histories.shared_N[row_N]]
        item_N = histories.item_idx_N[row_N].astype(np.int64)
        return cls(row_N, histories.time_s_N[row_N], item_N, histories.items.height)

    def sums_before(
        self, time_Q: Int64, weight_N: Float64 | None = None, half_life_s: float | None = None
    ) -> Float64:  # fmt: skip
        """Sum per item of the weights of all events strictly earlier than each query.

        float64 [Q, I] for `time_Q` int64 [Q], unix seconds, in any order. `weight_N` float64 is in the order of this
        stream; None: 1 each. Events of weight 0 cost nothing. A weight halves with every `half_life_s` that passes
        until the query; None: it stays. With fractional weights, the other queries of a call may change its last
        digits.
        """
        item_N, time_N = self.item_N, self.time_N
        if weight_N is not None and not weight_N.all():
            item_N, time_N, weight_N = item_N[weight_N != 0], time_N[weight_N != 0], weight_N[weight_N != 0]
        order_Q = np.argsort(time_Q, kind="stable")
        sum_QI = np.zeros((len(time_Q), self.num_items))
        for part_S in _segments(time_Q[order_Q], half_life_s):
            at_S = order_Q[part_S]
            end = np.searchsorted(time_N, time_Q[at_S[-1]])  # the first event that no query of the segment saw
            weight_M = None if weight_N is None else weight_N[:end]
            sum_QI[at_S] = _sums(time_Q[at_S], item_N[:end], time_N[:end], weight_M, self.num_items, half_life_s)
        return sum_QI


stream_of: Final = cached(Stream.of)
"""`Stream.of`, which is kept with the histories."""


def _segments(time_Q: Int64, half_life_s: float | None) -> list[slice]:
    """Slices of ascending times that each span less than `_SPAN` half-lives."""
    if not len(time_Q):
        return []
    if half_life_s is None:
        return [slice(0, len(time_Q))]
    number_Q = ((time_Q - time_Q[0]) / (half_life_s * _SPAN)).astype(np.int64)
    bounds = [0, *(np.flatnonzero(np.diff(number_Q)) + 1).tolist(), len(time_Q)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def _sums(
    time_S: Int64, item_M: Int64, time_M: Int64, weight_M: Float64 | None, num_items: int, half_life_s: float | None
) -> Float64:
    """`Stream.sums_before` for queries in the order of time, of M events before the last of them: float64 [S, I]."""
    if half_life_s is not None:
        # As of the last query first, then as of each: so no weight of the segment overflows.
        faded_M = np.exp2((time_M - time_S[-1]) / half_life_s)
        weight_M = faded_M if weight_M is None else weight_M * faded_M
    first_M = np.searchsorted(time_S, time_M, side="right")  # the first query that is later than the event
    cell_M = first_M * num_items + item_M
    sum_X = np.bincount(cell_M, weights=weight_M, minlength=len(time_S) * num_items).astype(np.float64, copy=False)
    sum_SI = np.cumsum(sum_X.reshape(len(time_S), num_items), axis=0)
    if half_life_s is not None:
        sum_SI *= np.exp2((time_S[-1] - time_S) / half_life_s)[:, None]
    return sum_SI
