"""Input and targets of sequential models over item ids: GRU4Rec, LSTM and SASRec, each with and without time.

They are trained on the train split alone and stop by the validation split (`sequences_networks`); for each predicted
event they read the same user's last events of any split.

A window is filled from the left, and a causal model never looks to the right, so what stands in the padding is of no
consequence: it repeats row 0, and nothing is predicted there.

Shapes: N = events (rows of the histories), U = users, W = windows, L = length of a window, T = training events,
E = validation events, Q = events of a chunk, I = items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..arrays import Int64, ragged
from ..errors import DataError
from ..histories import Histories
from ..histories.candidates import Candidates, Repeats
from ..histories.questions import evaluated_events, num_previous, sample_stretches
from .clock import local_hours
from .counting import popularity_order
from .protocol import Floats

_STOPPED_BY: Final = 4_000  # validation events at most after each epoch; beyond that they would cost more than training
_STOPPING_SEED: Final = 0  # which of them: the same ones for every seed of the training
_CELLS_PER_CHUNK: Final = 500_000  # events times items
NUM_GAPS: Final = 16
"""Classes of time since the user's previous event: 0 for none; then below 2, 4, 8, ... minutes, the last open."""


@dataclass(frozen=True)
class SequenceSettings:
    """A network and its training; a family's grid names the fields that differ from these defaults.

    Attributes:
        timed: read hour, day of the week and time since the previous event, of each event and of the predicted one.
        layers, heads: blocks of self-attention and their heads; for GRU4Rec and LSTM recurrent layers, heads without
            effect.
        learning_rate, weight_decay: of AdamW.
        length: how many events the network sees at most; a batch has `batch_size` windows of them.
        max_epochs, patience: training ends after so many epochs, or when so many in a row brought nothing better.
        epochs_unwatched: how many epochs where there is no validation event to stop by.
    """

    network: Literal["SASRec", "GRU4Rec", "LSTM"] = "SASRec"
    timed: bool = False
    hidden: int = 64
    layers: int = 2
    heads: int = 1
    dropout: float = 0.3
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    length: int = 50
    batch_size: int = 32
    max_epochs: int = 100
    patience: int = 10
    epochs_unwatched: int = 30


@dataclass(frozen=True)
class Windows:
    """W windows of at most L events; all int64.

    `row_WL` is the row of each event that is read, `next_WL` that of the next one, which is predicted; both are 0 in
    the padding. `length_W` says how many events each window has, at least 1.
    """

    row_WL: Int64
    next_WL: Int64
    length_W: Int64

    @property
    def real_WL(self) -> NDArray[np.bool_]:
        """bool: where there is an event and no padding."""
        return np.arange(self.row_WL.shape[1]) < self.length_W[:, None]

    def take(self, chosen_W: Int64) -> Windows:
        """Some of the windows, cut to the longest of them."""
        longest = int(self.length_W[chosen_W].max(initial=0))
        return Windows(self.row_WL[chosen_W, :longest], self.next_WL[chosen_W, :longest], self.length_W[chosen_W])


def windows_before(histories: Histories, row_Q: Int64, length: int) -> Windows:
    """The last `length` events before each row, of the same user and any split: one window a query, in their order.

    After the last event of each window, the row itself is predicted. Each row must have an event before it.
    """
    length_Q = np.minimum(num_previous(histories)[row_Q], length)
    row_QL = (row_Q - length_Q)[:, None] + np.arange(int(length_Q.max(initial=0)))
    real_QL = row_QL < row_Q[:, None]
    return Windows(np.where(real_QL, row_QL, 0), np.where(real_QL, row_QL + 1, 0), length_Q)


@dataclass(frozen=True)
class Transitions:
    """All steps from a training event to the same user's next one; all int64.

    `row_T` are rows of the training events, ascending, and so user by user; `first_U` is the position there of each
    user's first one (users with a single one are left out), `count_U` how many steps each makes, at least 1.
    """

    row_T: Int64
    first_U: Int64
    count_U: Int64

    @classmethod
    def of(cls, histories: Histories) -> Transitions:
        """The steps of the train split."""
        row_T = np.flatnonzero(histories.split_N == 0).astype(np.int64)
        _, first_U, num_U = np.unique(histories.user_idx_N[row_T], return_index=True, return_counts=True)
        return cls(row_T, first_U[num_U > 1].astype(np.int64), num_U[num_U > 1].astype(np.int64) - 1)

    def windows(self, length: int, generator: np.random.Generator) -> Windows:
        """Cut each user's steps into windows; every step is in exactly one of them.

        Users with more than `length` steps are cut at a random place and then every `length` steps, so that over
        several epochs no step is always the first of its window.
        """
        head_U = np.where(self.count_U > length, generator.integers(1, length + 1, len(self.count_U)), length)
        num_U = 1 + -(-np.maximum(self.count_U - head_U, 0) // length)
        user_W, number_W = ragged(np.zeros_like(num_U), num_U)
        end_W = head_U[user_W] + number_W * length
        begin_W = np.maximum(end_W - length, 0)
        length_W = np.minimum(end_W, self.count_U[user_W]) - begin_W
        real_WL = np.arange(length) < length_W[:, None]
        at_WL = np.where(real_WL, (self.first_U[user_W] + begin_W)[:, None] + np.arange(length), 0)
        row_WL, next_WL = self.row_T[at_WL], self.row_T[np.where(real_WL, at_WL + 1, 0)]
        return Windows(np.where(real_WL, row_WL, 0), np.where(real_WL, next_WL, 0), length_W)

    def known(self, histories: Histories) -> NDArray[np.bool_]:
        """bool [I]: the items of training events."""
        known_I = np.zeros(histories.items.height, bool)
        known_I[histories.item_idx_N[self.row_T]] = True
        return known_I


def time_features(histories: Histories) -> Int64:
    """What is known of each event before it happens, by the clock and by the user's previous event: int64 [N, 3].

    The columns are the hour of the day (local, 0 to 23), the day of the week (local, 0 = Monday) and the class of the
    time since the previous event, see `NUM_GAPS`.
    """
    hour_N = local_hours(histories).astype(np.int64)
    gap_s_N = np.diff(histories.time_s_N, prepend=histories.time_s_N[:1])
    class_N = 1 + np.log2(np.maximum(gap_s_N / 60, 1)).astype(np.int64)
    gap_N = np.where(num_previous(histories) > 0, np.minimum(class_N, NUM_GAPS - 1), 0)
    return np.stack([hour_N % 24, hour_N // 24, gap_N], axis=1)


@dataclass(frozen=True)
class Watched:
    """Validation events that a training stops by: their rows, int64 [E], and the items that may be ranked."""

    row_E: Int64
    candidates: Candidates

    @classmethod
    def of(cls, histories: Histories, repeats: Repeats) -> Watched | None:
        """Some of those whose item is a candidate; None where there are none."""
        try:
            row_E = evaluated_events(histories, "valid")
        except DataError:
            return None
        candidates = Candidates.of(histories, repeats)
        row_E = row_E[candidates.holds(row_E, histories.item_idx_N[row_E])]
        chosen_E = sample_stretches(histories.user_idx_N[row_E], _STOPPED_BY, _STOPPING_SEED)
        return cls(row_E[chosen_E], candidates) if len(row_E) else None

    def ndcg_at_10(self, scores: Callable[[Int64], Floats]) -> float:
        """Mean nDCG@10, one relevant item an event; of equal scores, more popular items stand first."""
        histories = self.candidates.histories
        place_I, rank_E = popularity_order(histories, "valid"), np.empty(len(self.row_E), np.int64)
        size = max(1, _CELLS_PER_CHUNK // len(place_I))
        for start in range(0, len(self.row_E), size):
            row_Q = self.row_E[start : start + size]
            score_QI, truth_Q1 = scores(row_Q), histories.item_idx_N[row_Q, None]
            true_Q1 = np.take_along_axis(score_QI, truth_Q1, axis=1)
            # Written so that NaN scores, of a training that has just diverged, are worth nothing.
            ahead_QI = ~((score_QI < true_Q1) | ((score_QI == true_Q1) & (place_I >= place_I[truth_Q1])))
            if not self.candidates.everything:
                ahead_QI &= self.candidates.allowed(row_Q)
            rank_E[start : start + size] = 1 + ahead_QI.sum(axis=1)
        return float(np.where(rank_E <= 10, 1 / np.log2(rank_E + 1), 0.0).mean())
