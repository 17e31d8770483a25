"""Tuning with made-up families, whose rankings are known beforehand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whereupon.eval import EvaluateSettings, tuning
from whereupon.eval.protocol import Task
from whereupon.eval.rankings import Rankings
from whereupon.eval.tuning import Tuned, tune
from whereupon.histories import Histories
from whereupon.histories.candidates import EvaluatedSplit, Repeats
from whereupon.rankers.families import UnfitDataError

SEED = 5


@dataclass
class Made:
    """Ranks every true item where the settings say, with a probability that they say; can be killed or unfit."""

    settings: Sequence[Mapping[str, Any]]
    name: str = "made up"
    dies_at: int | None = None
    unfit: bool = False
    asked: list[Any] = field(default_factory=list)

    def grid(self) -> Sequence[Mapping[str, Any]]:
        return self.settings

    def ranker(
        self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int, repeats: Repeats
    ) -> "MadeRanker":
        if self.unfit:
            raise UnfitDataError("No coordinates.")
        if len(self.asked) == self.dies_at:
            raise KeyboardInterrupt
        self.asked.append((split, settings["rank"], seed))
        return MadeRanker(settings["rank"], settings.get("p"))


@dataclass
class MadeRanker:
    rank_of_truth: int
    probability: float | None

    def rank(self, task: Task, k: int) -> Rankings:
        num = len(task.row_E)
        log_prob_E = None
        if self.probability is not None:
            with np.errstate(divide="ignore"):
                log_prob_E = np.full(num, np.log(self.probability), np.float32)
        nothing_EK = np.full((num, k), -1, np.int32), np.full((num, k), -np.inf)
        return Rankings(task.row_E, np.full(num, self.rank_of_truth), *nothing_EK, log_prob_E)


@pytest.fixture
def valid(build: Any) -> Histories:
    """One person with two validation events."""
    found: Histories = build([(0, 0, 1, "train"), (0, 1, 2, "valid"), (0, 1, 3, "valid"), (0, 0, 4, "test")], 3)
    return found


@pytest.fixture(autouse=True)
def _made_rankings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "rank", lambda ranker, task, k: ranker.rank(task, k))


def tuned(family: Made, histories: Histories, run: Path, **settings: Any) -> Tuned:
    return tune(family, histories, EvaluateSettings(**settings), SEED, run)


def test_best_ndcg_on_validation_is_chosen_and_all_trials_are_kept(valid: Histories, tmp_path: Path) -> None:
    family = Made([{"rank": 3}, {"rank": 1}, {"rank": 2}])
    found = tuned(family, valid, tmp_path)
    assert (found.settings, found.num_events, found.note) == ({"rank": 1}, 2, "")
    assert [trial["settings"] for trial in found.trials] == family.settings
    assert [trial["metrics"]["nDCG@10"] for trial in found.trials] == pytest.approx([0.5, 1, 0.63093], abs=1e-5)
    assert family.asked == [("valid", 3, SEED), ("valid", 1, SEED), ("valid", 2, SEED)]
    written = json.loads((tmp_path / "evaluation" / "tuned" / "made-up.json").read_text())
    assert (written["settings"], written["trials"]) == (found.settings, found.trials)
    assert "numpy" in written["versions"]


@pytest.mark.parametrize(
    ("probabilities", "chosen"),
    [((0.2, 0.4, 0.3), 0.4), ((0.3, 0.3, 0.1), 0.3), ((0.0, 0.1, None), 0.1), ((None, 0.1, 0.1), 0.1)],
)
def test_ties_go_to_the_lower_log_loss(
    valid: Histories, tmp_path: Path, probabilities: Sequence[float | None], chosen: float
) -> None:
    found = tuned(Made([{"rank": 2, "p": p} for p in probabilities]), valid, tmp_path)
    assert found.settings["p"] == chosen


def test_ties_without_a_log_loss_go_to_the_first(valid: Histories, tmp_path: Path) -> None:
    assert tuned(Made([{"rank": 2, "x": x} for x in "abc"]), valid, tmp_path).settings["x"] == "a"


def test_second_tuning_reads_the_first(valid: Histories, tmp_path: Path) -> None:
    grid = [{"rank": 3}, {"rank": 1}]
    first = tuned(Made(grid), valid, tmp_path)
    again = Made(grid)
    assert tuned(again, valid, tmp_path) == first
    assert again.asked == []


@pytest.mark.parametrize("change", ["grid", "seed", "data", "repeats"])
def test_another_question_is_tuned_anew(valid: Histories, tmp_path: Path, build: Any, change: str) -> None:
    tuned(Made([{"rank": 3}, {"rank": 1}]), valid, tmp_path)
    family = Made([{"rank": 3}] if change == "grid" else [{"rank": 3}, {"rank": 1}])
    if change == "data":
        valid = build([(0, 0, 1, "train"), (0, 1, 2, "valid")], 3)
    settings = EvaluateSettings(repeats="excluded" if change == "repeats" else "allowed")
    found = tune(family, valid, settings, SEED + (change == "seed"), tmp_path)
    assert len(family.asked) == len(family.settings)
    assert found.num_events == (1 if change in ("data", "repeats") else 2)


def test_killed_tuning_goes_on_with_the_trial_that_was_not_finished(
    valid: Histories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "SAVE_EVERY_S", -1.0)
    grid = [{"rank": rank} for rank in (4, 1, 3, 2)]
    with pytest.raises(KeyboardInterrupt):
        tuned(Made(grid, dies_at=2), valid, tmp_path)
    again = Made(grid)
    found = tuned(again, valid, tmp_path)
    assert [rank for _, rank, _ in again.asked] == [3, 2]
    assert ([trial["settings"] for trial in found.trials], found.settings) == (grid, {"rank": 1})
    assert "made up: 2 of 4 settings were tried before" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "evaluation" / "tuned").iterdir()] == ["made-up.json"]


def test_partial_trials_of_another_grid_are_not_gone_on_with(
    valid: Histories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "SAVE_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        tuned(Made([{"rank": 4}, {"rank": 1}, {"rank": 2}], dies_at=2), valid, tmp_path)
    again = Made([{"rank": 4}, {"rank": 1}])
    tuned(again, valid, tmp_path)
    assert len(again.asked) == 2


def test_without_validation_events_the_first_settings_are_taken_and_it_is_said(town: Histories, tmp_path: Path) -> None:
    family = Made([{"rank": 4}, {"rank": 1}])
    found = tuned(family, town, tmp_path)
    assert (found.settings, found.trials, found.num_events, family.asked) == ({"rank": 4}, [], 0, [])
    assert found.note == "there are no validation events: its first settings, untuned"


def test_family_without_a_choice_is_tried_once_for_its_validation_metrics(valid: Histories, tmp_path: Path) -> None:
    found = tuned(Made([{"rank": 4}]), valid, tmp_path)
    assert ([trial["settings"] for trial in found.trials], found.note) == (
        [{"rank": 4}],
        "it has no settings to choose from",
    )


def test_family_that_does_not_fit_says_so_itself(valid: Histories, tmp_path: Path) -> None:
    with pytest.raises(UnfitDataError, match="No coordinates"):
        tuned(Made([{"rank": 4}], unfit=True), valid, tmp_path)
