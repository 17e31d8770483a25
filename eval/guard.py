"""A proof by trial that each prediction saw only the past.

For a sample of the events to be predicted, the future is made another one (see `altered`): the event's item is
exchanged, and what nobody knows of at that moment is once changed and once deleted; under user_cold_start, what other
held-out users did is changed too. Then every ranker is asked again, and its answer must be the same, item by item and
score by score; of a language model, the tokens of its prompt. What is fitted is fitted once more on histories in which
all events but those of earlier splits are changed, and must then answer as before. Both together: what is said of an
event is a function of earlier splits and of what is strictly past.

Under leave_one_out an earlier split holds what other people did later. Fitting on that is the protocol and no
violation; its caveat says so wherever a figure of it is told.

Columns that the configuration declares to be known before an event (weather, context columns) are taken at its word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from ..arrays import Int64
from ..histories import Histories
from ..histories.candidates import Candidates
from ..histories.questions import SPLIT_CODES, sample_events
from ..prompts import HistoryText, PromptEncoder
from ..rankers.protocol import Ranker
from .altered import VARIANTS, Altered, altered_after, altered_events
from .protocol import Task
from .ranked import rank
from .rankings import Rankings

__all__ = ["NUM_EVENTS", "GuardReport", "MakeRanker", "Violation", "check"]

MakeRanker = Callable[[Histories], Ranker]
"""Fits a ranker on histories, for the split of the task that it is asked about."""

Answer = TypeVar("Answer")

NUM_EVENTS: Final = 20
_K: Final = 100  # how much of each ranking is compared
_RELATIVE: Final = 1e-6  # scores in float32 agree to about 1e-7 when nothing has changed but the layout of memory


@dataclass(frozen=True)
class Violation:
    """An answer that another future changed: the predicted row, how the future was altered, and what is different."""

    row: int
    variant: str
    what: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.variant}: {self.what}"


@dataclass(frozen=True)
class GuardReport:
    """What the guard found of one ranker or prompt.

    Attributes:
        name: of what was checked.
        num_events: how many predicted events were checked.
        num_checks: how many answers were compared.
        num_altered: how many events were altered, on average of the checks; with 0, nothing was proven.
        violations: answers that saw the future, in the order of checks.
    """

    name: str
    num_events: int
    num_checks: int
    num_altered: float
    violations: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        return not self.violations


def check(
    subject: Ranker | PromptEncoder | MakeRanker, task: Task, num: int = NUM_EVENTS, seed: int = 0, name: str = ""
) -> GuardReport:
    """Check `num` events of a task, or all where there are fewer.

    Args:
        subject: a ranker as it is (only its ranking is checked), what makes one of histories (its fitting is checked
            too, by one more fit), or what makes the prompts of a language model.
        task: whose events are predicted, in unaltered histories.
        num, seed: of the sample of events, and of the altered futures.
        name: for the report.

    Raises:
        UnfitDataError: the histories lack what a ranker needs.
    """
    row_S = task.row_E[sample_events(len(task.row_E), num, seed)]
    if isinstance(subject, PromptEncoder):
        prompts = _Prompts(subject, task)
        return _report(name, len(row_S), _asked_again(task, row_S, seed, prompts.of, prompts.difference))
    if isinstance(subject, Ranker):
        ranker, fitting = subject, []
    else:
        ranker = subject(task.histories)
        fitting = _fitted_again(subject, ranker, task, row_S, seed)
    ranking = _asked_again(
        task, row_S, seed, lambda task, row: rank(ranker, _only(task, row), _k(task)), _other_ranking
    )
    return _report(name, len(row_S), [*fitting, *ranking])


@dataclass(frozen=True)
class _Compared:
    """One comparison; `what` is "" where the answers agree."""

    row: int
    variant: str
    num_altered: int
    what: str


def _report(name: str, num_events: int, compared: list[_Compared]) -> GuardReport:
    altered = float(np.mean([one.num_altered for one in compared])) if compared else 0.0
    violations = tuple(Violation(one.row, one.variant, one.what) for one in compared if one.what)
    return GuardReport(name, num_events, len(compared), altered, violations)


def _asked_again(
    task: Task,
    row_S: Int64,
    seed: int,
    answer: Callable[[Task, int], Answer],
    difference: Callable[[Task, Answer, Answer], str],
) -> list[_Compared]:
    """Ask about each row in the histories as they are, and with each alteration."""
    compared = []
    for row in row_S.tolist():
        before = answer(task, row)
        for variant, altered in _alterations(task, row, seed):
            row_E = altered.row_N[task.row_E]
            other = _with_histories(task, altered.histories, row_E[row_E >= 0])
            what = difference(task, before, answer(other, int(altered.row_N[row])))
            compared.append(_Compared(row, variant, altered.num, what))
    return compared


def _alterations(task: Task, row: int, seed: int) -> Iterator[tuple[str, Altered]]:
    """Histories that differ only in what the prediction of a row must not know of."""
    histories, item = task.histories, _another_item(task, row, seed)
    for variant in VARIANTS:
        yield f"later events {variant}", altered_after(histories, row, item, variant, seed)
    others_N = ~histories.shared_E & (histories.user_idx_E != histories.user_idx_E[row])
    if others_N.any():
        yield "held-out users changed", altered_events(histories, others_N, seed)


def _fitted_again(make: MakeRanker, ranker: Ranker, task: Task, row_S: Int64, seed: int) -> list[_Compared]:
    """Ask about all rows at once a ranker that was fitted on other events of the predicted split and behind it."""
    # Codes ascend with time, and history, on which nothing may be fitted, is the last one.
    altered = altered_events(task.histories, task.histories.split_E >= SPLIT_CODES[task.split], seed)
    asked = replace(task, row_E=row_S)
    before, after = (rank(one, asked, _k(task)) for one in (ranker, make(altered.histories)))
    return [
        _Compared(row, "fitted on other events", altered.num, _other_ranking(task, _at(before, i), _at(after, i)))
        for i, row in enumerate(row_S.tolist())
    ]


def _k(task: Task) -> int:
    return min(_K, task.histories.items.height)


def _only(task: Task, row: int) -> Task:
    return replace(task, row_E=np.array([row], np.int64))


def _at(rankings: Rankings, index: int) -> Rankings:
    """One event of some."""
    part = slice(index, index + 1)
    return Rankings(*(getattr(rankings, name)[part] for name in ("row_E", "rank_E", "item_EK", "score_EK")))


def _with_histories(task: Task, histories: Histories, row_E: Int64) -> Task:
    candidates = Candidates.of(histories, task.candidates.repeats)
    return replace(task, histories=histories, row_E=row_E, candidates=candidates)


def _another_item(task: Task, row: int, seed: int) -> int:
    """A candidate that was not chosen; the chosen one where there is no other."""
    allowed = np.flatnonzero(task.candidates.allowed(np.array([row], np.int64))[0])
    others = allowed[allowed != task.histories.item_idx_E[row]]
    return int(np.random.default_rng([seed, row]).choice(others)) if len(others) else int(allowed[0])


def _other_ranking(task: Task, before: Rankings, after: Rankings) -> str:
    """What is different in the rankings of one event; "" where nothing is."""
    moved_K = np.flatnonzero(before.item_EK[0] != after.item_EK[0])
    if len(moved_K):
        at = int(moved_K[0])
        was, now = (task.histories.items["item_id"][int(one.item_EK[0, at])] for one in (before, after))
        return f"rank {at + 1} is of item {now}, not of {was}"
    apart_K = ~np.isclose(before.score_EK[0], after.score_EK[0], rtol=_RELATIVE, atol=0)
    if apart_K.any():
        at = int(np.flatnonzero(apart_K)[0])
        return f"the score at rank {at + 1} is {after.score_EK[0, at]:.6g}, not {before.score_EK[0, at]:.6g}"
    return ""


class _Prompts:
    """The prompt of each row as `evaluate` makes it: a window is read once for all events of the task in it."""

    def __init__(self, encoder: PromptEncoder, task: Task) -> None:
        self.encoder = encoder
        self.task = task
        self.text = self._text(task)

    def of(self, task: Task, row: int) -> Int64:
        """Token ids up to the one that is asked for."""
        from ..decode.windows import encode_asked, windows_with_targets

        text = self.text if task is self.task else self._text(task)
        wanted_E = np.zeros(len(text.item_idx_E), bool)
        wanted_E[task.row_E] = True
        windows = windows_with_targets(text.windows, wanted_E)
        window = windows.select((windows.target_W <= row) & (row < windows.end_W))
        encoded = encode_asked(text, window)[0]
        tokens_L: Int64 = encoded.tokens_L[: encoded.title_start_V[row - window.start_W[0]]].astype(np.int64)
        return tokens_L

    def _text(self, task: Task) -> HistoryText:
        return self.encoder.text(task.histories.events, len(task.histories.user_ids))

    @staticmethod
    def difference(task: Task, before: Int64, after: Int64) -> str:
        """What is different in two prompts; "" where nothing is."""
        if np.array_equal(before, after):
            return ""
        if len(before) != len(after):
            return f"the prompt has {len(after)} tokens, not {len(before)}"
        return f"token {np.flatnonzero(before != after)[0]} of {len(before)} is another one"
