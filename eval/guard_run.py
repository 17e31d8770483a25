"""`whereupon guard`: which of a run's baselines and prompts see the future, in a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.table import Table

from ..arrays import Int64
from ..catalogue import Trie
from ..console import say, show, tracked
from ..decode.settings import CalibrationName
from ..errors import DataError
from ..files import read_object
from ..histories import Histories, read_histories
from ..histories.questions import caveat_of
from ..prompts import PromptEncoder
from ..rankers.context_prior import ContextPrior, Pasts
from ..rankers.families import FAMILIES, Family, UnfitDataError
from ..rankers.protocol import Dense, Floats
from ..rankers.reweighter import Prior, decode_of
from .guard import NUM_EVENTS, GuardReport, MakeRanker, check
from .protocol import Task, read_task
from .rankings import slug_of

if TYPE_CHECKING:
    from ..config import Config
    from ..histories.candidates import EvaluatedSplit

__all__ = ["guard"]

_SHOWN: Final = 3


def guard(
    config: Config, *, split: EvaluatedSplit, num: int = NUM_EVENTS, baselines_only: bool = False
) -> list[GuardReport]:
    """Check the configured baselines, the prompts, and the prior of a calibration, and print a table.

    The caller looks whether all are `ok`.

    Baselines have the settings that `evaluate` has chosen for this run, else their first ones.

    Raises:
        DataError: nothing to predict. ModelError: no tokenizer, where prompts are checked.
    """
    histories = read_histories(config.run)
    task = read_task(histories, split, config.evaluate, seed=config.seed)
    reports = []
    for name, subject in tracked(list(_subjects(config, task, baselines_only)), "guarding"):
        try:
            reports.append(check(subject, task, num, config.seed, name))
        except UnfitDataError as error:
            say(f"{name} is left out: {error}")
    show(_table(reports, split))
    for report in reports:
        for violation in report.violations[:_SHOWN]:
            say(f"{report.name}: {violation}")
        if len(report.violations) > _SHOWN:
            say(f"{report.name}: and {len(report.violations) - _SHOWN} more")
    if caveat := caveat_of(histories):
        say(caveat)
    return reports


def _subjects(
    config: Config, task: Task, baselines_only: bool
) -> Iterator[tuple[str, PromptEncoder | MakeRanker]]:  # fmt: skip
    for name in config.evaluate.baselines:
        yield name, _maker(FAMILIES[name], _chosen_settings(config, FAMILIES[name]), task, config.seed)
    if not baselines_only:
        from ..decode.models import build_encoder, load_tokenizer

        histories, tokenizer = task.histories, load_tokenizer(config.model)
        encoder = build_encoder(histories.items, histories.location, config.prompts, tokenizer)
        yield "prompts", encoder
        if (calibration := config.decode.calibration) not in ("none", "temperature"):
            trie = encoder.catalogue.trie
            prior = f"prior of calibration {calibration}"
            yield prior, lambda fitted: _PriorAlone.of(calibration, fitted, trie, config)


@dataclass(frozen=True)
class _PriorAlone:
    """Ranks by what a calibrated model looks at beside its prompt: counts of training, and what was before a moment."""

    name: CalibrationName
    fitted: Prior

    @classmethod
    def of(cls, name: CalibrationName, fitted: Histories, trie: Trie, config: Config) -> _PriorAlone:
        return cls(name, Prior.read(fitted, trie, decode_of(config)))

    def on(self, histories: Histories, split: EvaluatedSplit) -> Dense:
        """See `Ranker.on`; what is not fitted is that of these histories."""
        context = ContextPrior.of(histories, self.fitted.settings)
        prior = replace(self.fitted, pasts=Pasts.of(histories), context=context)

        def scores_of(row_Q: Int64) -> Floats:
            masses = prior.of_rows(self.name, row_Q)
            assert masses is not None  # this calibration has a prior
            return np.broadcast_to(masses.of_items(), (len(row_Q), histories.items.height))

        return Dense(scores_of)


def _maker(family: Family, settings: Mapping[str, Any], task: Task, seed: int) -> MakeRanker:
    return lambda histories: family.ranker(histories, task.split, settings, seed, task.candidates.repeats)


def _chosen_settings(config: Config, family: Family) -> Mapping[str, Any]:
    try:
        found = read_object(config.run / "evaluation" / "tuned" / f"{slug_of(family.name)}.json")
        return dict(found["settings"])
    except (DataError, KeyError):
        return family.grid()[0]


def _table(reports: list[GuardReport], split: EvaluatedSplit) -> Table:
    table = Table(title=f"what sees the future, {split} split", title_justify="left", box=None)
    for name in ("ranker", "events", "checks", "events altered", "violations"):
        table.add_column(name, justify="left" if name == "ranker" else "right")
    for one in reports:
        numbers = (one.num_events, one.num_checks, round(one.num_altered), len(one.violations))
        table.add_row(one.name, *(f"{number:,}" for number in numbers), style="" if one.ok else "red")
    return table
