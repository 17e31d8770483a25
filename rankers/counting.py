"""Counts of all that happened before an event: popularity, which items a user knew, and who had moved where.

Shapes: N = events (rows of the histories), U = users, I = items, P = distinct pairs, Q = queries (events to predict),
X = entries of a ragged list over queries, flattened. Nothing here is dense in queries x items.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..arrays import Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES, num_previous
from .cached import cached


@cached
def popularity_order(histories: Histories, split: EvaluatedSplit) -> Int64:
    """Place of each item by its number of events in earlier splits, 0 the most popular: int64 [I]; ties by item_idx."""
    earlier_N = histories.split_N < SPLIT_CODES[split]
    count_I = np.bincount(histories.item_idx_N[earlier_N], minlength=histories.items.height)
    place_I = np.empty(len(count_I), dtype=np.int64)
    place_I[np.argsort(-count_I, kind="stable")] = np.arange(len(count_I))
    return place_I


@dataclass(frozen=True)
class Visits:
    """Each user's items, numbered in the order of the first visit.

    The items that user u knew before row r are thus the numbers 0 to `num_known_N[r]` - 1, whatever u. All int64:
    `number_N` numbers each event's item with its user, and `num_known_N` counts the distinct items that the user had
    visited before. `item_P` are items by user and number, each user's from `offset_U1` on. `key_P` is user * num_items
    + item, ascending; `number_P` has the numbers in this order.
    """

    num_items: int
    number_N: Int64
    num_known_N: Int64
    offset_U1: Int64
    item_P: Int64
    key_P: Int64
    number_P: Int64

    @classmethod
    def of(cls, histories: Histories) -> "Visits":
        """Number the visits of all users."""
        num_items = histories.items.height
        user_N, item_N = histories.user_idx_N.astype(np.int64), histories.item_idx_N.astype(np.int64)
        key_P, first_P, pair_N = np.unique(user_N * num_items + item_N, return_index=True, return_inverse=True)
        is_first_N = np.zeros(len(item_N), dtype=bool)
        is_first_N[first_P] = True
        known_before_N = np.cumsum(is_first_N) - is_first_N  # over all users so far; rows are sorted by user
        offset_U1 = np.append(known_before_N, len(key_P))[histories.offset_U1].astype(np.int64)
        num_known_N = (known_before_N - offset_U1[user_N]).astype(np.int64)
        number_P = num_known_N[first_P]
        return cls(num_items, number_P[pair_N], num_known_N, offset_U1, item_N[is_first_N], key_P, number_P)

    def number(self, user_X: Int64, item_X: Int64) -> Int64:
        """Number of each item with each user: int64 [X]; where the user never visits the item, more than any number."""
        key_X = user_X * self.num_items + item_X
        at_X = np.minimum(np.searchsorted(self.key_P, key_X), len(self.key_P) - 1)
        return np.where(self.key_P[at_X] == key_X, self.number_P[at_X], np.iinfo(np.int64).max)


@dataclass(frozen=True)
class Moves:
    """Moves from item to item between consecutive events of a user, countable as of any time.

    All int64. The pairs out of item i are offset_I1[i]:offset_I1[i + 1], and lead to `to_P`. `arrival` [moves] is
    pair * S + time of arrival, ascending; pair p's start at `start_P[p]`. A time is the rank of a second among
    the distinct seconds of all events, `second_S`, ascending.
    """

    offset_I1: Int64
    to_P: Int64
    arrival: Int64
    start_P: Int64
    second_S: Int64

    @classmethod
    def of(cls, histories: Histories) -> "Moves":
        """Collect the moves that may count for all users, of any split: what counts is when, see `before_time`."""
        num_items = histories.items.height
        item_N = histories.item_idx_N.astype(np.int64)
        seconds, moment_N = np.unique(histories.time_s_N, return_inverse=True)
        # Both ends: a move into a shared event would else reveal the event before it, which is not shared.
        shared_N = histories.shared_N & np.roll(histories.shared_N, 1)
        arrival_row = np.flatnonzero((num_previous(histories) > 0) & shared_N)
        key_P, pair = np.unique(item_N[arrival_row - 1] * num_items + item_N[arrival_row], return_inverse=True)
        arrival = np.sort(pair * len(seconds) + moment_N[arrival_row]).astype(np.int64)
        return cls(
            offset_I1=np.searchsorted(key_P // num_items, np.arange(num_items + 1)).astype(np.int64),
            to_P=key_P % num_items,
            arrival=arrival,
            start_P=np.searchsorted(arrival, np.arange(len(key_P)) * len(seconds)).astype(np.int64),
            second_S=seconds.astype(np.int64),
        )

    def degree(self, item_Q: Int64) -> Int64:
        """Number of distinct items that are ever reached from each item: int64 [Q]; from -1, no item, none."""
        return np.where(item_Q >= 0, self.offset_I1[item_Q + 1] - self.offset_I1[item_Q], 0)

    def before_time(self, time_s_Q: Int64, item_Q: Int64) -> tuple[Int64, Int64, Int64]:
        """Moves out of `item_Q` (-1: of none) that had arrived strictly earlier than unix seconds, int64 [Q].

        Returns query, item reached, number of moves (all int64 [X], numbers at least 1).
        """
        query_X, pair_X = ragged(self.offset_I1[item_Q], self.degree(item_Q))
        key_X = pair_X * len(self.second_S) + np.searchsorted(self.second_S, time_s_Q)[query_X]
        count_X = np.searchsorted(self.arrival, key_X) - self.start_P[pair_X]
        some_X = count_X > 0
        return query_X[some_X], self.to_P[pair_X[some_X]], count_X[some_X]


visits_of: Final = cached(Visits.of)
"""`Visits.of`, which is kept with the histories."""

moves_of: Final = cached(Moves.of)
"""`Moves.of`, which is kept with the histories."""
