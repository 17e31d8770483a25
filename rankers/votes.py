"""Earlier events that resemble the query, counted for each item: timetables, moves by the clock, the user's history.

Only events that are strictly earlier count, and of the query's user those before the row.

Shapes: see `arrays`; X = earlier events of all questions, flattened; G = grouped events.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..arrays import Float64, Int64, ragged
from ..histories import Histories
from ..histories.questions import num_previous
from .cached import cached
from .clock import DAY_S, stream_of
from .popular import places_known
from .returns import EventData, event_data, sums

_LONGEST = 1_000  # the last events of a group that are looked at
_NEVER = 300.0  # days

OF_HOURS: Final = (
    "hour 1 day", "hour 7 days", "hour 28 days", "hour and weekday", "hour yesterday", "hour last week",
    "hour last time", "today",
)  # fmt: skip
OF_MOVES: Final = (
    "moves here", "moves by clock", "moves by clock 7 days", "moves of order 2", "moves after like gap",
)  # fmt: skip
OF_OWN: Final = (
    "own events", "own days", "own events since", "own by clock", "own by clock and weekday", "own moves",
    "own attention",
)  # fmt: skip


@dataclass(frozen=True)
class Grouped:
    """Shared events by a key, within these in the order of time.

    All int64: `place_G` ascends and holds key and time in one number; `key_K` are the keys and `start_K1` where each
    begins; `second_S` the distinct seconds; `row_G` the rows of the histories.
    """

    place_G: Int64
    key_K: Int64
    start_K1: Int64
    second_S: Int64
    row_G: Int64

    @classmethod
    def of(cls, key_G: Int64, time_G: Int64, row_G: Int64) -> "Grouped":
        key_K, rank_G = np.unique(key_G, return_inverse=True)
        second_S, moment_G = np.unique(time_G, return_inverse=True)
        order_G = np.lexsort((row_G, moment_G, rank_G))
        start_K1 = np.searchsorted(rank_G[order_G], np.arange(len(key_K) + 1)).astype(np.int64)
        place_G = (rank_G * (len(second_S) + 1) + moment_G)[order_G]
        return cls(place_G.astype(np.int64), key_K, start_K1, second_S, row_G[order_G])

    def before(self, key_Q: Int64, time_Q: Int64, since_Q: Int64 | None = None) -> tuple[Int64, Int64]:
        """Question and row, int64 [X], of the last `_LONGEST` events of each key that are strictly earlier, and not
        before `since_Q`."""
        if not len(self.key_K):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        at_Q = np.minimum(np.searchsorted(self.key_K, key_Q), len(self.key_K) - 1)
        moment_Q = np.searchsorted(self.second_S, time_Q)
        end_Q = np.searchsorted(self.place_G, at_Q * (len(self.second_S) + 1) + moment_Q)
        start_Q = np.maximum(self.start_K1[at_Q], end_Q - _LONGEST)
        if since_Q is not None:
            since_Q = np.searchsorted(self.second_S, since_Q)
            start_Q = np.maximum(start_Q, np.searchsorted(self.place_G, at_Q * (len(self.second_S) + 1) + since_Q))
        length_Q = np.where(self.key_K[at_Q] == key_Q, np.maximum(end_Q - start_Q, 0), 0)
        query_X, at_X = ragged(start_Q, length_Q)
        return query_X, self.row_G[at_X]


@dataclass(frozen=True)
class Known:
    """What all users did, ready to be counted: by place and hour of the day, by place and day, and by last item."""

    data: EventData
    place_N: Int64
    by_hour: Grouped
    by_day: Grouped
    by_move: Grouped

    @classmethod
    def of(cls, known: Histories) -> "Known":
        data, place_N = event_data(known), places_known(known, known)
        row_N, time_N, shared_N = stream_of(known).row_N, known.time_s_N, known.shared_N
        row_M = np.flatnonzero((num_previous(known) > 0) & shared_N & np.roll(shared_N, 1))
        return cls(
            data,
            place_N,
            Grouped.of(hour_keys(data.local_N, place_N)[row_N], time_N[row_N], row_N),
            Grouped.of(day_keys(data.local_N, place_N)[row_N], time_N[row_N], row_N),
            Grouped.of(data.from_N[row_M], time_N[row_M], row_M),
        )


def hour_keys(local_N: Int64, place_N: Int64) -> Int64:
    return place_N * 24 + local_N % DAY_S // 3600


def day_keys(local_N: Int64, place_N: Int64) -> Int64:
    return place_N * 100_000 + local_N // DAY_S


known_of: Final = cached(Known.of)


def apart_hours(local_X: Int64, other_X: Int64) -> Float64:
    """Hours between two times of day: float64 [X], at most 12."""
    apart_X = np.abs(local_X % DAY_S - other_X % DAY_S) / 3600
    nearer_X: Float64 = np.minimum(apart_X, 24 - apart_X)
    return nearer_X


@dataclass(frozen=True)
class Votes:
    """Sums over earlier events for rows of some histories; `place_N` int64 are places that are known beforehand."""

    data: EventData
    place_N: Int64
    known: Known

    @classmethod
    def of(cls, histories: Histories, known: Histories) -> "Votes":
        return cls(event_data(histories, known), places_known(histories, known), known_of(known))

    @property
    def num_items(self) -> int:
        return self.data.num_items

    def of_hours(self, row_Q: Int64) -> Iterator[Float64]:
        """Those of `OF_HOURS`: what is chosen at this place and hour of the day, each float64 [Q, I]."""
        local_Q, time_Q = self.data.local_N[row_Q], self.data.time_N[row_Q]
        place_Q, past = self.place_N[row_Q], self.known.data
        query_X, row_X = self.known.by_hour.before(hour_keys(local_Q, place_Q), time_Q)
        days_X = (time_Q[query_X] - past.time_N[row_X]) / DAY_S
        calendar_X = local_Q[query_X] // DAY_S - past.local_N[row_X] // DAY_S
        item_X, shape = past.item_N[row_X], len(row_Q)
        for half_life in (1, 7, 28):
            yield np.log(self._sums(query_X, item_X, np.exp2(-days_X / half_life), shape) + 0.01)
        yield np.log(self._sums(query_X, item_X, (calendar_X % 7 == 0) * np.exp2(-days_X / 28), shape) + 0.01)
        for day in (1, 7):
            yield self._sums(query_X, item_X, (calendar_X == day).astype(np.float64), shape)
        yield self._latest(query_X, item_X, days_X, shape)
        query_X, row_X = self.known.by_day.before(day_keys(local_Q, place_Q), time_Q)
        yield self._sums(query_X, past.item_N[row_X], np.ones(len(row_X)), shape)

    def of_moves(self, row_Q: Int64) -> Iterator[Float64]:
        """Those of `OF_MOVES`: where people went from the user's last item, each float64 [Q, I]."""
        local_Q, time_Q = self.data.local_N[row_Q], self.data.time_N[row_Q]
        past, shape = self.known.data, len(row_Q)
        query_X, to_X = self.known.by_move.before(self.data.from_N[row_Q], time_Q)
        item_X, weight_X = (
            past.item_N[to_X],
            np.where(self.place_N[row_Q][query_X] == self.known.place_N[to_X], 1.0, 0.1),
        )
        yield np.log(self._sums(query_X, item_X, weight_X, shape) + 0.1)
        now_X = apart_hours(local_Q[query_X], past.local_N[to_X])
        from_X = apart_hours(self.data.local_N[row_Q - 1][query_X], past.local_N[to_X - 1])
        clock_X = weight_X * np.exp(-0.5 * (now_X**2 + from_X**2))
        days_X = (time_Q[query_X] - past.time_N[to_X]) / DAY_S
        yield np.log(self._sums(query_X, item_X, clock_X, shape) + 0.01)
        yield np.log(self._sums(query_X, item_X, clock_X * np.exp2(-days_X / 7), shape) + 0.01)
        order2_X = weight_X * (past.before_N[to_X] == self.data.before_N[row_Q][query_X])
        yield np.log(self._sums(query_X, item_X, order2_X, shape) + 0.1)
        like_X = np.abs(self.data.log_gap_N[row_Q][query_X] - past.log_gap_N[to_X]) < 0.3
        yield np.log(self._sums(query_X, item_X, weight_X * like_X, shape) + 0.1)

    def of_own(self, row_Q: Int64, share_X: Float64) -> Iterator[Float64]:
        """Those of `OF_OWN`: by the user's history, each float64 [Q, I]. `share_X` is the attention of its events, in
        the order of `EventData.pairs`."""
        query_X, past_X = self.data.pairs(row_Q)
        item_X, shape, row_X = self.data.item_N[past_X], len(row_Q), row_Q[query_X]
        time_N, local_N = self.data.time_N, self.data.local_N
        yield self._sums(query_X, item_X, np.ones(len(item_X)), shape)
        yield self._latest(query_X, item_X, (time_N[row_X] - time_N[past_X]) / DAY_S, shape)
        yield self._latest(query_X, item_X, (row_X - past_X).astype(np.float64), shape)
        near_X = np.exp(-0.5 * apart_hours(local_N[row_X], local_N[past_X]) ** 2)
        yield self._sums(query_X, item_X, near_X, shape)
        weekday_X = (local_N[row_X] // DAY_S - local_N[past_X] // DAY_S) % 7 == 0
        yield self._sums(query_X, item_X, near_X * weekday_X, shape)
        followed_X = self.data.from_N[past_X] == self.data.from_N[row_X]
        yield self._sums(query_X, item_X, followed_X.astype(np.float64), shape)
        yield np.log(self._sums(query_X, item_X, share_X, shape) + 1e-4)

    def _sums(self, query_X: Int64, item_X: Int64, weight_X: Float64, num: int) -> Float64:
        return sums(query_X * self.num_items + item_X, weight_X, num * self.num_items).reshape(num, -1)

    def _latest(self, query_X: Int64, item_X: Int64, ago_X: Float64, num: int) -> Float64:
        """How long ago an item was last chosen, `_NEVER` where never; later events come later."""
        ago_QI = np.full((num, self.num_items), _NEVER)
        ago_QI[query_X, item_X] = ago_X
        return ago_QI
