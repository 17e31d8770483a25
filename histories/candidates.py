"""From which items an event is predicted: all that the catalogue held at that time, repeats among them or not.

Candidates never depend on what the user chose: an event whose true item is no candidate is not evaluated, and
counted. They are the same for every ranker. For a model a filter leaves the probabilities of the others unchanged.

Shapes: N = events (rows of the histories), Q = queries (rows to be predicted), I = items, X = entries of a ragged list.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64, ragged
from .store import Histories

EvaluatedSplit = Literal["valid", "test"]
Repeats = Literal["allowed", "excluded"]


AVAILABLE_FROM: Final = "available_from"
"""Optional column of the items: a UTC time before which the item is no candidate; empty: it was always known."""


@dataclass(frozen=True)
class Candidates:
    """Which items may be ranked for an event of the histories.

    `repeats` "allowed": the user's own past items are candidates as all others; "excluded": none of them is.
    `available_s_I` float64 or int64, unix seconds UTC, to the microsecond, says from when on each item is known: -inf
    where always, None where all always are.
    """

    histories: Histories
    repeats: Repeats = "allowed"
    available_s_I: Float64 | Int64 | None = None

    @classmethod
    def of(cls, histories: Histories, repeats: Repeats = "allowed") -> "Candidates":
        """The candidates of these histories, `available_from` among the items' columns heeded where it is there."""
        if AVAILABLE_FROM not in histories.items.columns or histories.items[AVAILABLE_FROM].is_null().all():
            return cls(histories, repeats)
        return cls(histories, repeats, _seconds(histories.items[AVAILABLE_FROM]))

    @property
    def everything(self) -> bool:
        """Whether every item is a candidate of every event."""
        return self.repeats == "allowed" and self.available_s_I is None

    def allowed(self, row_Q: Int64) -> Bool:
        """bool [Q, I]: the candidates of each of some rows; take few rows at once, as it is dense."""
        histories = self.histories
        allowed_QI = np.ones((len(row_Q), histories.items.height), bool)
        if self.available_s_I is not None:
            allowed_QI &= self.available_s_I <= _seconds(histories.events["time"].gather(row_Q))[:, None]
        if self.repeats == "excluded":
            begin_Q = histories.offset_U1[histories.user_idx_N[row_Q]]
            query_X, past_X = ragged(begin_Q, row_Q - begin_Q)
            allowed_QI[query_X, histories.item_idx_N[past_X]] = False
        return allowed_QI

    def holds(self, row_X: Int64, item_X: NDArray[np.integer]) -> Bool:
        """bool [X]: whether each item is a candidate of the row beside it; the same as `allowed`, and never dense."""
        histories = self.histories
        allowed_X = np.ones(len(row_X), bool)
        if self.available_s_I is not None:
            allowed_X &= self.available_s_I[item_X] <= _seconds(histories.events["time"].gather(row_X))
        if self.repeats == "excluded":
            allowed_X &= self._first_visit(row_X, item_X) >= row_X
        return allowed_X

    def _first_visit(self, row_X: Int64, item_X: NDArray[np.integer]) -> Int64:
        """int64 [X]: the row in which the row's user first chose the item; more than any row where never."""
        histories, num_items = self.histories, self.histories.items.height
        key_N = histories.user_idx_N.astype(np.int64) * num_items + histories.item_idx_N
        key_P, first_P = np.unique(key_N, return_index=True)
        key_X = histories.user_idx_N[row_X].astype(np.int64) * num_items + item_X
        at_X = np.minimum(np.searchsorted(key_P, key_X), len(key_P) - 1)
        return np.where(key_P[at_X] == key_X, first_P[at_X], np.iinfo(np.int64).max)


def _seconds(times: pl.Series) -> Float64:
    """Unix seconds UTC, float64, -inf where empty: equal for times of one microsecond, in their order for others.

    An item's own first event may be where it becomes known, so that neither may be rounded to seconds. Up to the year
    2242 two microseconds are two floats.
    """
    seconds: Float64 = (times.dt.epoch("us") / 1_000_000).fill_null(-np.inf).to_numpy(writable=True)
    return seconds
