"""A prompt in groups that can be left out, and the same question in other wordings.

The groups are the time, the place and the weather of the request, the last events, the older events, and the profile.
Older events are those that have a line of their own. The profile holds all events before these lines. A context group
is left out of the line of the question as `prompts.leave_out` does it; the lines of past events stay as they are.
Events that are left out are also not seen by the rankers of the stack, which know the time of the request in every
wording.

Shapes: L = tokens, V = lines, Q = wordings of one batch, X = rows of events.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Final, Literal

import numpy as np
import polars as pl

from ..arrays import Int32, Int64
from ..catalogue import Selection, Subset, Trie
from ..decode import Change, Searching, searching
from ..decode.search import SLACK
from ..prompts import CONTEXT_KINDS, ContextKind
from .recommender import Question

Group = Literal["time", "place", "weather", "recent events", "older events", "profile"]
EVENT_GROUPS: Final[tuple[Group, ...]] = ("recent events", "older events", "profile")
RECENT: Final = 5
"""How many of the last events are recent."""
LATER: Final = timedelta(hours=1)


@dataclass(frozen=True, eq=False)
class Wordings:
    """Q wordings of one question, as texts (int32 each): of each, the `k` best items of a selection are requested.

    `change` is what becomes of the model's distribution, for these Q questions.
    """

    texts: Sequence[Int32]
    change: Change
    selection: Selection
    k: int

    def search(self, trie: Trie, budget: int | None = None, slack: float = SLACK) -> Searching:
        """The one search that answers them all, without a model. No `budget` where all that may answer is scored:
        there are few nodes then, and without one of them a value would be wrong."""
        chosen = self.selection
        subset = Subset.of(trie, chosen.allowed_I, chosen.reason) if chosen.reason else None
        most = None if self.k >= chosen.num_allowed else budget
        return searching(trie, len(self.texts), self.k, most, subset=subset, reweighting=self.change, slack=slack)


def subsets(groups: Sequence[Group]) -> list[frozenset[Group]]:
    """All sets of some groups, the smallest first."""
    sizes = range(len(groups) + 1)
    return [frozenset(some) for size in sizes for some in itertools.combinations(groups, size)]


@dataclass(frozen=True, eq=False)
class Worded:
    """A question whose prompt can be made without some of its groups."""

    question: Question

    @property
    def query(self) -> pl.DataFrame:
        """The events, with the open question as last row."""
        query = self.question.prompt.query
        assert query is not None, "a question of a Recommender has one"
        return query

    @property
    def num_shown(self) -> int:
        """Events with a line of their own."""
        return self.question.prompt.num_lines

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Those that the prompt has, in a fixed order: context that its last line names, and events."""
        whole_L = self.last_line(())
        context = [kind for kind in CONTEXT_KINDS if not np.array_equal(self.last_line([kind]), whole_L)]
        return (*context, *(group for group in EVENT_GROUPS if len(self._rows(group))))

    @cached_property
    def context_groups(self) -> tuple[Group, ...]:
        """Those of the groups that are context of the request."""
        return tuple(group for group in self.groups if group not in EVENT_GROUPS)

    @cached_property
    def event_groups(self) -> tuple[Group, ...]:
        """Those of the groups that are events."""
        return tuple(group for group in self.groups if group in EVENT_GROUPS)

    def past_without(self, left_out: Collection[Group]) -> tuple[Int32, pl.DataFrame]:
        """The text up to the question, and the events for the rankers, without some groups of events."""
        prompt = self.question.prompt
        start_V, first_line = prompt.line_start_V, self.query.height - len(prompt.line_start_V)
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

    def last_line(self, left_out: Collection[Group]) -> Int32:
        """The line of the question without some groups of context."""
        return self._rendered[0][frozenset(left_out)]

    @cached_property
    def later(self) -> tuple[Int32, pl.DataFrame]:
        """The line of the question and the events, if the request were an hour later."""
        return self._rendered[1], pl.concat([self.query[:-1], self._moved])

    def without_event(self, back: int) -> tuple[Int32, pl.DataFrame]:
        """The text and the events without the event `back` lines before the question (1: the last one)."""
        prompt, line = self.question.prompt, self.num_shown - back
        start, end = prompt.line_start_V[line : line + 2]
        text_L = np.concatenate([prompt.tokens_L[:start], prompt.tokens_L[end:]])
        return text_L, self._without_rows(np.array([self.query.height - 1 - back]))

    def _rows(self, group: Group) -> Int64:
        last = self.query.height - 1
        first_recent, first_line = last - min(RECENT, self.num_shown), last - self.num_shown
        bounds: dict[Group, tuple[int, int]] = {"profile": (0, first_line), "older events": (first_line, first_recent)}
        return np.arange(*bounds.get(group, (first_recent, last)))

    def _without_rows(self, row_X: Int64) -> pl.DataFrame:
        return self.query[np.delete(np.arange(self.query.height), row_X)] if len(row_X) else self.query

    @cached_property
    def _moved(self) -> pl.DataFrame:
        return self.query[-1].with_columns(pl.col("local_time") + LATER, pl.col("time") + LATER)

    @cached_property
    def _rendered(self) -> tuple[dict[frozenset[Group], Int32], Int32]:
        """The question's line without any set of kinds of context, and whole an hour later; all rendered at once."""
        kinds_S: list[tuple[ContextKind, ...]] = [
            some for size in range(len(CONTEXT_KINDS) + 1) for some in itertools.combinations(CONTEXT_KINDS, size)
        ]
        # What a line says is made of its row and of the one before; the later request is that of another user.
        now, later = self.query[-2:], pl.concat([self.query[-2:-1], self._moved])
        events = pl.concat([now, later.with_columns(user_idx=pl.col("user_idx") + 1)])
        row_S = [*[now.height - 1] * len(kinds_S), events.height - 1]
        lines = self.question.version.encoder.contexts_without(events, row_S, [*kinds_S, ()])
        line_of: dict[frozenset[Group], Int32] = {}
        for kinds, line in zip(kinds_S, lines, strict=False):
            line_of[frozenset(kinds)] = line
        return line_of, lines[-1]
