"""What a person's own past, and everybody's moves, say of the next item: masses that a calibration blends in.

The weights are those of the baseline "context-weighted own events" (see `own`): an own event counts by its
age, by how far its time of day is from the moment's, by the kind of day, and by whether it followed upon the item where
the person is now; all users' moves out of that item are added. Nothing at or after the moment is looked at: of the
person's own events those before the question, of others' moves those that had arrived strictly earlier.

Shapes: M = past events of one person, P = items reached from the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from ..arrays import Float64, Int64
from ..decode import PriorSettings
from ..histories import Histories
from .clock import local_seconds
from .counting import Moves, moves_of
from .own import ContextWeights


@dataclass(frozen=True)
class Past:
    """One person's events before a moment, oldest first, and the moment.

    `item_M` int64 are items by their index in the histories, or as prompts count them; `time_s_M` int64 unix seconds
    UTC, `local_s_M` int64 seconds of the local wall clock since 1970; `time_s` and `local_s` are those of the moment.
    """

    item_M: Int64
    time_s_M: Int64
    local_s_M: Int64
    time_s: int
    local_s: int

    @classmethod
    def nobody(cls) -> Past:
        """Of whom nothing is known, not even the moment."""
        none = np.empty(0, np.int64)
        return cls(none, none, none, 0, 0)

    @classmethod
    def of_question(cls, asked: pl.DataFrame) -> Past:
        """From events with `item_idx`, `time` and `local_time`, the last row being the moment that is asked about."""
        item_N = asked["item_idx"].to_numpy().astype(np.int64)
        time_s_N = asked["time"].dt.epoch("s").to_numpy().astype(np.int64)
        local_s_N = local_seconds(asked)
        return cls(item_N[:-1], time_s_N[:-1], local_s_N[:-1], int(time_s_N[-1]), int(local_s_N[-1]))


@dataclass(frozen=True)
class Pasts:
    """The past of every event of the histories."""

    histories: Histories
    item_N: Int64
    local_s_N: Int64

    @classmethod
    def of(cls, histories: Histories) -> Pasts:
        return cls(histories, histories.item_idx_N.astype(np.int64), local_seconds(histories.events))

    def before(self, row: int) -> Past:
        """What came before the event in a row: its user's earlier rows; nothing is copied."""
        histories = self.histories
        begin = int(histories.offset_U1[histories.user_idx_N[row]])
        time_s_N, local_s_N = histories.time_s_N, self.local_s_N
        past = slice(begin, row)
        return Past(self.item_N[past], time_s_N[past], local_s_N[past], int(time_s_N[row]), int(local_s_N[row]))


@dataclass(frozen=True)
class ContextPrior:
    """Own masses of items for a question, to be added to those of popularity (which sum to 1)."""

    moves: Moves
    settings: PriorSettings

    @classmethod
    def of(cls, histories: Histories, settings: PriorSettings) -> ContextPrior:
        """With the moves of all users of these histories, countable as of any moment."""
        return cls(moves_of(histories), settings)

    def masses(self, past: Past) -> tuple[Int64, Float64]:
        """Items (int64, some of them more than once) and what each adds (float64); nothing for nobody."""
        if not len(past.item_M):
            return np.empty(0, np.int64), np.empty(0)
        to_P, mass_P = self._moved(past)
        return np.concatenate([past.item_M, to_P]), np.concatenate([self._own(past), mass_P])

    def _own(self, past: Past) -> Float64:
        """What each own event adds: float64 [M]."""
        settings = self.settings.context
        weights = ContextWeights(**{one.name: getattr(settings, one.name) for one in fields(ContextWeights)})
        item_M, count = past.item_M, len(past.item_M)
        followed_M = np.concatenate([[False], item_M[:-1] == item_M[-1]])
        # Events of altered histories (an ablation) may be out of order.
        age_s_M = np.maximum(past.time_s_M[-1] - past.time_s_M, 0)
        weight_M = weights.of(age_s_M, np.full(count, past.local_s), past.local_s_M, followed_M)
        return weight_M / settings.own_smoothing

    def _moved(self, past: Past) -> tuple[Int64, Float64]:
        """Items that others reached from the last one, and what each adds: int64 and float64 [P]."""
        settings, last = self.settings.context, past.item_M[-1:]
        if last[0] >= len(self.moves.offset_I1) - 1:  # an item that was added to the catalogue since
            return np.empty(0, np.int64), np.empty(0)
        _, to_P, count_P = self.moves.before_time(np.array([past.time_s]), last)
        return to_P, settings.moves * count_P / (count_P.sum() + settings.moves_smoothing)
