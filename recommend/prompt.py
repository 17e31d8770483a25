"""A question as the model reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ..arrays import Int32, Int64
from ..prompts import PromptEncoder


@dataclass(frozen=True)
class Prompt:
    """Token ids int32 [L], the events that they are made of, and how many of these have a line of their own.

    `num_profile_tokens` stand right before the first of these lines, and `num_similar_tokens` right before them.
    `line_start_V` int64 [V]: where these lines begin among the tokens, and last the open question. `query` are the
    events with the open question as last row, see `context.open_question`; None where nothing is known of the person.
    """

    tokens_L: Int32
    query: pl.DataFrame | None
    num_events: int
    num_lines: int
    num_profile_tokens: int
    num_similar_tokens: int = 0
    line_start_V: Int64 = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of_tokens(cls, tokens: Sequence[int], query: pl.DataFrame | None = None) -> Prompt:
        """A prompt that somebody else made; of its person is known what `query` has."""
        return cls(np.array(tokens, np.int32), query, 0, 0, 0)

    @property
    def item_M(self) -> Int64:
        """int64 [M]: the items of the events, as prompts count them."""
        if self.query is None:
            return np.empty(0, np.int64)
        return self.query["item_idx"].to_numpy()[:-1].astype(np.int64)


def prompt_of(encoder: PromptEncoder, events: pl.DataFrame) -> Prompt:
    """The prompt for the open question in the last row of `events`; see `context.open_question`."""
    text = encoder.text(events, 1)
    last = text.windows.select(text.windows.end_W == events.height)
    window = text.encode_windows(last)[0]
    tokens_L = window.tokens_L[: window.title_start_V[-1]]
    context_V = text.contexts.length[text.context_N[last.start_W[0] :]]
    start_V = window.title_start_V - context_V
    return Prompt(
        tokens_L, events, events.height - 1, len(start_V) - 1, window.num_profile_tokens, window.num_similar_tokens,
        start_V,
    )  # fmt: skip
