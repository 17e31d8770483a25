"""`whereupon guard`: a test that each prediction of a run's baselines and prompts uses only earlier events.

For a sample of the events to be predicted, the future is made another one (see `perturbation`): the event's item is
exchanged, and what is not known at that time is once changed and once deleted; under user_cold_start, what other
held-out users did is changed too. Then every ranker ranks again, and its answer must be the same, item by item and
score by score; of a language model, the tokens of its prompt. What is fitted is fitted once more on histories in which
all events but those of earlier splits are changed, and must then answer as before.

Under leave_one_out an earlier split holds what other people did later. Fitting on that is the protocol and no
violation. Columns that the configuration declares to be known before an event are taken at its word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from rich.table import Table

from ..arrays import Int64
from ..console import say, show, tracked
from ..errors import DataError
from ..files import read_object
from ..histories import Histories, read_histories
from ..histories.candidates import Candidates, EvaluatedSplit
from ..histories.questions import SPLIT_CODES, caveat_of, sample_events
from ..prompts import HistoryText, PromptEncoder
from ..rankers.families import FAMILIES, Family, UnfitDataError
from ..rankers.protocol import Ranker
from ..rankers.stack import StackRanker, fit_stack
from .perturbation import VARIANTS, Perturbed, perturbed_after, perturbed_events
from .protocol import Task, read_task
from .ranked import rank
from .rankings import Rankings, slug_of
from .stacking import stack_recipe

if TYPE_CHECKING:
    from ..config import Config

MakeRanker = Callable[[Histories], Ranker]
"""Fits a ranker on histories, for the split of the task that it ranks."""

Answer = TypeVar("Answer")

NUM_EVENTS: Final = 20
_K: Final = 100  # how much of each ranking is compared
_RELATIVE: Final = 1e-6  # scores in float32 agree to about 1e-7 when nothing has changed but the layout of memory
_SHOWN: Final = 3


@dataclass(frozen=True)
class Check:
    """One answer compared: the predicted row, how many events were perturbed and how, and what is different ("")."""

    row: int
    variant: str
    num_changed: int
    what: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.variant}: {self.what}"


@dataclass(frozen=True)
class GuardReport:
    """What the guard found of one ranker or prompt, by its checks of `num_events` predicted events."""

    name: str
    num_events: int
    checks: list[Check]

    @property
    def num_changed(self) -> float:
        """How many events were perturbed, on average of the checks; with 0, nothing was proven."""
        return sum(one.num_changed for one in self.checks) / max(1, len(self.checks))

    @property
    def violations(self) -> list[Check]:
        """Answers that saw the future."""
        return [one for one in self.checks if one.what]


def guard(
    config: Config, *, split: EvaluatedSplit, num: int = NUM_EVENTS, baselines_only: bool = False
) -> list[GuardReport]:
    """Check the configured baselines, the prompts, and the stack of `priors`, and print a table.

    Baselines have the settings that `evaluate` has chosen for this run, else their first ones.

    Raises:
        DataError: nothing to predict. ModelError: no tokenizer, where prompts are checked.
    """
    task = read_task(read_histories(config.run), split, config.evaluate, seed=config.seed)
    reports = []
    for name, subject in tracked(list(_subjects(config, task, baselines_only)), "guarding"):
        try:
            reports.append(check(subject, task, num, config.seed, name))
        except UnfitDataError as error:
            say(f"{name} is left out: {error}")
    table = Table(title=f"what sees the future, {split} split", title_justify="left", box=None)
    for heading in ("ranker", "events", "checks", "events changed", "violations"):
        table.add_column(heading, justify="left" if heading == "ranker" else "right")
    for one in reports:
        numbers = (one.num_events, len(one.checks), round(one.num_changed), len(one.violations))
        table.add_row(one.name, *(f"{number:,}" for number in numbers), style="red" if one.violations else "")
    show(table)
    for one in reports:
        for violation in one.violations[:_SHOWN]:
            say(f"{one.name}: {violation}")
        if len(one.violations) > _SHOWN:
            say(f"{one.name}: and {len(one.violations) - _SHOWN} more")
    if caveat := caveat_of(task.histories):
        say(caveat)
    return reports


def _subjects(
    config: Config, task: Task, baselines_only: bool
) -> Iterator[tuple[str, PromptEncoder | MakeRanker]]:  # fmt: skip
    for name in config.evaluate.baselines:
        yield name, _baseline(config, task, FAMILIES[name])
    if baselines_only:
        return
    from ..decode.models import build_encoder, load_tokenizer

    items, tokenizer = task.histories.items, load_tokenizer(config.model)
    encoder = build_encoder(items, task.histories.events, task.histories.location, config.prompts, tokenizer)
    yield "prompts", encoder
    if config.priors != "none":
        recipe, repeats = stack_recipe(config, task.histories), config.evaluate.repeats
        yield (
            "stack of priors",
            lambda histories: StackRanker(fit_stack(recipe, histories, task.split, config.seed, repeats)),
        )


def _baseline(config: Config, task: Task, family: Family) -> MakeRanker:
    try:
        settings = dict(read_object(config.run / "evaluation" / "tuned" / f"{slug_of(family.name)}.json")["settings"])
    except (DataError, KeyError):
        settings = dict(family.grid()[0])
    return lambda histories: family.ranker(histories, task.split, settings, config.seed, task.candidates.repeats)


def check(
    subject: Ranker | PromptEncoder | MakeRanker, task: Task, num: int = NUM_EVENTS, seed: int = 0, name: str = ""
) -> GuardReport:
    """Check `num` events of a task, or all where there are fewer, drawn by the seed as the perturbed futures are.

    The subject is a ranker as it is (only its ranking is checked), what makes one of histories (its fitting is checked
    too, by one more fit), or what makes the prompts of a language model.

    Raises:
        UnfitDataError: the histories lack what a ranker needs.
    """
    row_S, k = task.row_E[sample_events(len(task.row_E), num, seed)], min(_K, task.histories.items.height)
    if isinstance(subject, PromptEncoder):
        text = _text(subject, task)

        def prompt(other: Task, row: int) -> Int64:
            return _prompt(text if other is task else _text(subject, other), other, row)

        return GuardReport(name, len(row_S), _checked_perturbed(task, row_S, seed, prompt, _other_prompt))
    checks, ranker = [], subject if isinstance(subject, Ranker) else subject(task.histories)
    if not isinstance(subject, Ranker):
        # Codes ascend with time, and history, on which nothing may be fitted, is the last one.
        perturbed = perturbed_events(task.histories, task.histories.split_N >= SPLIT_CODES[task.split], seed)
        before, after = (rank(one, replace(task, row_E=row_S), k) for one in (ranker, subject(perturbed.histories)))
        for i, row in enumerate(row_S.tolist()):
            what = _other_ranking(task, before.take(np.array([i])), after.take(np.array([i])))
            checks.append(Check(row, "fitted on other events", perturbed.num, what))

    def ranking(other: Task, row: int) -> Rankings:
        return rank(ranker, replace(other, row_E=np.array([row], np.int64)), k)

    return GuardReport(name, len(row_S), [*checks, *_checked_perturbed(task, row_S, seed, ranking, _other_ranking)])


def _checked_perturbed(
    task: Task, row_S: Int64, seed: int, answer: Callable[[Task, int], Answer],
    difference: Callable[[Task, Answer, Answer], str],
) -> list[Check]:  # fmt: skip
    """Rank each row in the histories as they are, and with each alteration."""
    checks = []
    for row in row_S.tolist():
        before = answer(task, row)
        for variant, perturbed in _perturbations(task, row, seed):
            row_E = perturbed.row_N[task.row_E]
            candidates = Candidates.of(perturbed.histories, task.candidates.repeats)
            other = replace(task, histories=perturbed.histories, row_E=row_E[row_E >= 0], candidates=candidates)
            what = difference(task, before, answer(other, int(perturbed.row_N[row])))
            checks.append(Check(row, variant, perturbed.num, what))
    return checks


def _perturbations(task: Task, row: int, seed: int) -> Iterator[tuple[str, Perturbed]]:
    """Histories that differ only in what the prediction of a row must not know of."""
    histories = task.histories
    allowed = np.flatnonzero(task.candidates.allowed(np.array([row], np.int64))[0])
    others = allowed[allowed != histories.item_idx_N[row]]
    item = int(np.random.default_rng([seed, row]).choice(others)) if len(others) else int(allowed[0])
    for variant in VARIANTS:
        yield f"later events {variant}", perturbed_after(histories, row, item, variant, seed)
    others_N = ~histories.shared_N & (histories.user_idx_N != histories.user_idx_N[row])
    if others_N.any():
        yield "held-out users changed", perturbed_events(histories, others_N, seed)


def _other_ranking(task: Task, before: Rankings, after: Rankings) -> str:
    """What is different in the rankings of one event; "" where nothing is."""
    moved_K = np.flatnonzero(before.item_EK[0] != after.item_EK[0])
    if len(moved_K):
        at = int(moved_K[0])
        was, now = (task.histories.items["item_id"][int(one.item_EK[0, at])] for one in (before, after))
        return f"rank {at + 1} is of item {now}, not of {was}"
    apart_K = np.flatnonzero(~np.isclose(before.score_EK[0], after.score_EK[0], rtol=_RELATIVE, atol=0))
    if len(apart_K):
        at = int(apart_K[0])
        return f"the score at rank {at + 1} is {after.score_EK[0, at]:.6g}, not {before.score_EK[0, at]:.6g}"
    return ""


def _text(encoder: PromptEncoder, task: Task) -> HistoryText:
    encoder = encoder.with_others(task.histories.events)
    return encoder.text(task.histories.events, len(task.histories.user_ids))


def _prompt(text: HistoryText, task: Task, row: int) -> Int64:
    """Token ids up to the one that is predicted, as `evaluate` makes them: a window serves all its events."""
    from ..decode.windows import encode_queries, windows_with_targets

    wanted_N = np.zeros(len(text.item_idx_N), bool)
    wanted_N[task.row_E] = True
    windows = windows_with_targets(text.windows, wanted_N)
    window = windows.select((windows.target_W <= row) & (row < windows.end_W))
    encoded = encode_queries(text, window)[0]
    tokens_L: Int64 = encoded.tokens_L[: encoded.title_start_V[row - window.start_W[0]]].astype(np.int64)
    return tokens_L


def _other_prompt(task: Task, before: Int64, after: Int64) -> str:
    """What is different in two prompts; "" where nothing is."""
    if len(before) != len(after):
        return f"the prompt has {len(after)} tokens, not {len(before)}"
    differ_L = np.flatnonzero(before != after)
    return f"token {differ_L[0]} of {len(before)} is another one" if len(differ_L) else ""
