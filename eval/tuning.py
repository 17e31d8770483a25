"""Settings of a baseline, chosen on the validation split: each family's whole grid is tried, and every trial is kept.

The best is that of the highest nDCG@10; among equals the one of lower log-loss, where the ranker is a distribution, and
then the first of the grid. It lies in `<run>/evaluation/tuned/<slug>.json`, under a key of all that it depends on; what
is there is not tuned again, and a killed run goes on with the first trial that it had not finished.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..console import say, talk, tracked
from ..errors import DataError
from ..files import read_object, sha256_text, versions, write_json
from ..histories import Histories
from ..rankers.families import Family
from .metrics import summarise
from .protocol import Task, read_task
from .ranked import rank
from .rankings import finite, slug_of
from .settings import EvaluateSettings

SAVE_EVERY_S = 5.0
_SAY_EVERY_S = 60.0  # where no bar shows how far it is
_K = 10  # what nDCG@10 needs


@dataclass(frozen=True)
class Tuned:
    """What was chosen for a family: settings, those of the best trial, or the first of the grid without any trial.

    `trials`, in the order of the grid, hold `settings`, `metrics` (on all `num_events` validation events; None where
    infinite) and `wall_s` (fitting and ranking). `note` says why nothing was tuned; "" where it was.
    """

    settings: Mapping[str, Any]
    trials: list[dict[str, Any]]
    num_events: int
    note: str = ""


def tune(
    family: Family, histories: Histories, settings: EvaluateSettings, seed: int, run: Path, limit: int | None = None
) -> Tuned:  # fmt: skip
    """Choose the settings of a family by the validation events of these histories; see the module's text.

    Of the evaluation's `settings`, only the protocol is heeded. `limit`: a sample of so many events; None: all.

    Raises:
        UnfitDataError: the histories lack what the family needs.
    """
    grid = [dict(one) for one in family.grid()]
    try:
        task = read_task(histories, "valid", settings, limit, seed)
    except DataError:
        return Tuned(grid[0], [], 0, "there are no validation events: its first settings, untuned")
    folder, slug = run / "evaluation" / "tuned", slug_of(family.name)
    # Not the code itself: an editor's keystroke must not cost hours of tuning. Remove the file after changing a ranker.
    key = sha256_text(json.dumps([__version__, family.name, grid, task.hash, seed], sort_keys=True))
    path, partial = folder / f"{slug}.json", folder / f"partial-{slug}.json"
    if (found := _of_key(path, key)) is None:
        trials = _all_trials(family, task, grid, seed, partial, key)
        found = {"key": key, "family": family.name, "settings": min(trials, key=_badness)["settings"],
                 "trials": trials, "num_events": len(task.row_E), "seed": seed, "versions": versions()}  # fmt: skip
        write_json(path, found)
        partial.unlink(missing_ok=True)
    note = "" if len(grid) > 1 else "it has no settings to choose from"
    return Tuned(found["settings"], found["trials"], found["num_events"], note)


def _all_trials(
    family: Family, task: Task, grid: list[dict[str, Any]], seed: int, partial: Path, key: str
) -> list[dict[str, Any]]:
    """Try the settings that `partial` does not hold yet, saving what is done there."""
    trials: list[dict[str, Any]] = (_of_key(partial, key) or {"trials": []})["trials"]
    if trials:
        say(f"{family.name}: {len(trials)} of {len(grid)} settings were tried before")
    saved = said = time.perf_counter()
    quiet = len(grid) == 1 or not talk.is_terminal
    for one in tracked(grid[len(trials) :], f"tuning {family.name}", shown=not quiet):
        began = time.perf_counter()
        rankings = rank(family.ranker(task.histories, task.split, one, seed, task.candidates.repeats), task, _K)
        now = time.perf_counter()
        metrics = summarise(rankings.rank_E, rankings.log_prob_E)
        trials.append({"settings": one, "metrics": finite(metrics), "wall_s": now - began})
        if now - saved > SAVE_EVERY_S and len(trials) < len(grid):
            write_json(partial, {"key": key, "trials": trials})
            saved = now
        if now - said > _SAY_EVERY_S and not talk.is_terminal:
            say(f"{family.name}: {len(trials)} of {len(grid)} settings tried")
            said = now
    return trials


def _badness(trial: dict[str, Any]) -> tuple[float, float]:
    """What is least for the best trial; a log-loss that is missing or infinite is worse than any other."""
    loss = trial["metrics"].get("log-loss")
    return -trial["metrics"]["nDCG@10"], math.inf if loss is None else loss


def _of_key(path: Path, key: str) -> dict[str, Any] | None:
    """What a file holds, if it is there, whole, and of this key."""
    try:
        found = read_object(path)
    except DataError:
        return None
    return found if found.get("key") == key else None
