"""A prompt in parts that can be left out: groups of what it says, and the same question in other wordings.

The groups are the time, the place and the weather of the moment that is asked about, the last events, the older ones
that have a line of their own, and the profile (all events before those lines). A context group is left out of the line
of the question as `prompts.leave_out` does it; the lines of past events stay as they are. Events that are left out are
also not seen by the rankers of the stack, which know the time of the moment in every wording.

Shapes: L = tokens, V = lines, Q = wordings that are asked together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Final, Literal

import numpy as np
import polars as pl

from ..arrays import Int32, Int64
from ..catalogue import Selection
from ..decode import Change
from ..prompts import CONTEXT_KINDS
from .prompt import Prompt
from .recommender import Question

Group = Literal["time", "place", "weather", "recent events", "older events", "profile"]
EVENT_GROUPS: Final[tuple[Group, ...]] = ("recent events", "older events", "profile")
RECENT: Final = 5
"""How many of the last events are recent."""


@dataclass(frozen=True, eq=False)
class Wordings:
    """Q wordings of one question, all with the same past: for each the `k` best items of a selection are wanted.

    Wording q is `text_L` up to `position_Q[q]`, and then `own_Q[q]`; int32 all. `change` is what becomes of the model's
    distribution.
    """

    text_L: Int32
    position_Q: Int64
    own_Q: Sequence[Int32]
    change: Change
    selection: Selection
    k: int

    def questions(self, asked: Question) -> list[Question]:
        """The wordings one by one, for a model that reads each by itself."""
        version = replace(asked.version, change_of=lambda _: self.change)
        texts = [
            np.concatenate([self.text_L[: end + 1], own])
            for end, own in zip(self.position_Q.tolist(), self.own_Q, strict=True)
        ]
        return [Question(version, Prompt.of_tokens(text.tolist()), self.selection) for text in texts]


@dataclass(frozen=True, eq=False)
class Worded:
    """A question whose prompt can be said without some of its groups."""

    question: Question

    @property
    def asked(self) -> pl.DataFrame:
        """The events, with the open question as last row."""
        asked = self.question.prompt.asked
        assert asked is not None, "a question of a Recommender has one"
        return asked

    @cached_property
    def _known_lines(self) -> dict[frozenset[Group], Int32]:
        return {}

    @property
    def num_shown(self) -> int:
        """Events with a line of their own."""
        return self.question.prompt.num_lines

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Those that the prompt has, in a fixed order: context that its last line names, and events."""
        context = [kind for kind in CONTEXT_KINDS if not np.array_equal(self._last_line([kind]), self._last_line([]))]
        return (*context, *(group for group in EVENT_GROUPS if len(self._rows(group))))

    @cached_property
    def context_groups(self) -> tuple[Group, ...]:
        """Those of the groups that are context of the moment."""
        return tuple(group for group in self.groups if group not in EVENT_GROUPS)

    def past_without(self, left_out: Collection[Group]) -> tuple[Int32, pl.DataFrame]:
        """The text up to the question, and the events for the rankers, without some groups of events."""
        prompt = self.question.prompt
        start_V, first_line = prompt.line_start_V, self.asked.height - len(prompt.line_start_V)
        begins = int(start_V[0])
        pieces = [prompt.tokens_L[: begins - prompt.num_profile_tokens]]
        if "profile" not in left_out:
            pieces.append(prompt.tokens_L[begins - prompt.num_profile_tokens : begins])
        in_order: tuple[Group, ...] = ("older events", "recent events")
        for group in in_order:
            rows = self._rows(group)
            if group not in left_out and len(rows):
                lines = rows - first_line
                pieces.append(prompt.tokens_L[start_V[lines[0]] : start_V[lines[-1] + 1]])
        gone = [self._rows(group) for group in EVENT_GROUPS if group in left_out]
        return np.concatenate(pieces), self._without_rows(np.concatenate([np.zeros(0, np.int64), *gone]))

    def last_lines(self, left_out: Sequence[Collection[Group]]) -> list[Int32]:
        """The line of the question without some groups of context, for each of several choices."""
        return [self._last_line(kinds) for kinds in left_out]

    def later(self, by: timedelta) -> tuple[Int32, pl.DataFrame]:
        """The line of the question and the events, if it were asked later."""
        moved = self.asked[-1].with_columns(pl.col("local_time") + by, pl.col("time") + by)
        asked = pl.concat([self.asked[:-1], moved])
        return self._line(asked, []), asked

    def without_event(self, back: int) -> tuple[int, Int32, pl.DataFrame]:
        """Without the event `back` lines before the question (1: the last one): how many tokens of the prompt stay,
        the tokens that follow, and the events."""
        prompt = self.question.prompt
        line = self.num_shown - back
        rest_L = prompt.tokens_L[prompt.line_start_V[line + 1] :]
        return int(prompt.line_start_V[line]), rest_L, self._without_rows(np.array([self.asked.height - 1 - back]))

    def _rows(self, group: Group) -> Int64:
        last = self.asked.height - 1
        first_recent, first_line = last - min(RECENT, self.num_shown), last - self.num_shown
        bounds: dict[Group, tuple[int, int]] = {"profile": (0, first_line), "older events": (first_line, first_recent)}
        return np.arange(*bounds.get(group, (first_recent, last)))

    def _without_rows(self, row_X: Int64) -> pl.DataFrame:
        return self.asked.filter(~pl.int_range(pl.len()).is_in(row_X.tolist()))

    def _last_line(self, left_out: Collection[Group]) -> Int32:
        kinds = frozenset(left_out)
        if kinds not in self._known_lines:
            prompt = self.question.prompt
            whole_L = prompt.tokens_L[prompt.line_start_V[-1] :]
            self._known_lines[kinds] = self._line(self.asked, kinds) if kinds else whole_L
        return self._known_lines[kinds]

    def _line(self, asked: pl.DataFrame, left_out: Collection[Group]) -> Int32:
        """Tokens of the last row; what it says is made of it and the row before."""
        encoder = self.question.version.encoder.without([kind for kind in CONTEXT_KINDS if kind in left_out])
        text = encoder.text(asked[-2:], 1)
        return text.contexts.gather(text.context_N[-1:]).tokens
