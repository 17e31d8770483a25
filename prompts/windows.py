"""Which events a prompt keeps: windows that fill up, then turn over.

A user's history is cut into windows by one rule, so that every event has exactly one prompt, the same in training,
evaluation and serving. A window opens at event `start` with a profile of all before, and grows event by event; when the
next event might not fit into the budget, a new window opens that keeps the most recent part. In between, a prompt only
ever grows at its end, which is what prefix caches are made for. With `prompts.similar_tokens` a window is also closed
after `similar_every` new events: the next one begins where it began, with newer lines of what others did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Int64
from ..errors import PromptError
from .settings import PromptSettings


@dataclass(frozen=True)
class Windows:
    """W windows over event rows: user, `first` event of that user, `start` of the window, its new events
    `target_W[w]:end_W[w]` (those from `start` to `target` were shown by the window before already)."""

    user_W: Int64
    first_W: Int64
    start_W: Int64
    target_W: Int64
    end_W: Int64

    def __len__(self) -> int:
        return len(self.user_W)

    def select(self, mask_W: NDArray[np.bool_]) -> Windows:
        return Windows(*(getattr(self, name)[mask_W] for name in self.__dataclass_fields__))


def plan_windows(
    context_N: Int64, title_N: Int64, offset_U1: Int64, longest_title: int, fixed: int, settings: PromptSettings
) -> Windows:
    """Cut every user's events into windows of at most `settings.budget_tokens`.

    `context_N`, `title_N`: tokens of each event's context and title; `longest_title`: tokens of the catalogue's longest
    title; `fixed`: tokens of the preamble and what is filled up. An event belongs to the window if its context and any
    title would fit. Raises PromptError where a single event does not fit.
    """
    rows: list[tuple[int, int, int, int, int]] = []
    shown_N1 = np.concatenate([[0], np.cumsum(context_N + title_N)])
    question_N = shown_N1[:-1] + context_N + longest_title
    whole = settings.budget_tokens - fixed - settings.similar_tokens
    budgets = [whole, whole - settings.profile_tokens]
    for user in range(len(offset_U1) - 1):
        first, last = int(offset_U1[user]), int(offset_U1[user + 1])
        start = target = first
        while target < last:
            budget = budgets[start > first]
            end = min(last, int(np.searchsorted(question_N[:last], budget + shown_N1[start], side="right")))
            if end <= target:
                need = int(question_N[target] - shown_N1[target])
                parts = f"preamble{', what others did' if settings.similar_tokens else ''} and profile"
                raise PromptError(
                    f"An event of {need} tokens (its context and the longest title, {longest_title} tokens) does not "
                    f"fit into prompts.budget_tokens={settings.budget_tokens} beside {settings.budget_tokens - budget} "
                    f"tokens of {parts}: raise the budget, or shorten titles or template."
                )
            if settings.similar_tokens:
                end = min(end, target + settings.similar_every)
            rows.append((user, first, start, target, end))
            if end < last and question_N[end] > budget + shown_N1[start]:
                # Fewer recent events than set where the next one would not fit beside them.
                kept = max(shown_N1[end] - settings.keep_fraction * budgets[1], question_N[end] - budgets[1])
                start = min(end, max(start + 1, int(np.searchsorted(shown_N1[: end + 1], kept))))
            target = end
    return Windows(*np.array(rows, np.int64).reshape(-1, 5).T)
