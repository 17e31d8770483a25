"""Settings are searched on the validation split; what was killed goes on, and the best is written as YAML."""

from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
import yaml

from whereupon.config import Config
from whereupon.errors import ConfigError, DataError, NonFiniteError
from whereupon.finetune import train, tuning
from whereupon.finetune.adapter import METRIC

Town = Callable[..., Config]
RATES = "tune.space={finetune.learning_rate: [0.001, 0.002, 0.004, 0.008]}"


def _trials(config: Config) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{config.run / 'tuning' / 'study.sqlite'}"
    [name] = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def _states(config: Config) -> list[str]:
    return [trial.state.name for trial in _trials(config)]


class Killed(BaseException):
    """What nothing catches, as nothing catches a kill."""


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_killed_tuning_goes_on_from_its_checkpoint_and_writes_the_best(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town(
        "prompts.budget_tokens=110", "finetune.epochs=1", "finetune.validations_per_epoch=2",
        "finetune.validation_events=8", "tune.trials=3", "tune.startup_trials=3",
        "tune.space={finetune.rank: [2, 4], finetune.learning_rate: {low: 0.001, high: 0.01, log: true}}",
    )  # fmt: skip
    original, taken = train._Training._validate, list[str]()

    def validate(training: Any, step: int, journal: Any) -> None:
        original(training, step, journal)
        taken.append(training.config.run.name)
        if len(taken) == 3:  # the first one of the second trial
            raise Killed

    monkeypatch.setattr(train._Training, "_validate", validate)
    with pytest.raises(Killed):
        tuning.tune(config)
    assert _states(config) == ["COMPLETE", "RUNNING"]
    assert [path.name for path in (config.run / "tuning" / "trials").iterdir()] == [taken[-1]]
    capsys.readouterr()
    best = tuning.tune(config)
    said = capsys.readouterr().err
    assert "it goes on" in said
    assert "resuming at step" in said
    trials = _trials(config)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[2].params == trials[1].params
    ended = [trial for trial in trials if trial.state.name == "COMPLETE"]
    winner = max(ended, key=lambda trial: trial.value or 0.0)
    found = yaml.safe_load(best.read_text())["finetune"]
    assert {f"finetune.{name}": value for name, value in found.items()} == winner.params
    assert f"{winner.value:.4f}" in best.read_text()
    assert sorted(path.name for path in (config.run / "tuning").iterdir() if path.is_dir()) == ["adapters"]
    assert not (config.run / "evaluation").exists()
    num_validations = len(taken)
    tuning.tune(config)  # all are done
    assert len(taken) == num_validations


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> dict[float, list[float]]:
    """Trainings that cost nothing: the validations of each learning rate, to be filled in; none: it diverges."""
    curves: dict[float, list[float]] = {}
    last: list[float] = []

    def trained(config: Config, validated: Callable[[int, Mapping[str, float]], None]) -> None:
        if not curves[config.finetune.learning_rate]:
            raise NonFiniteError("diverged")
        for step, value in enumerate(curves[config.finetune.learning_rate]):
            last[:] = [value]
            validated(step, {METRIC: value})

    monkeypatch.setattr(tuning, "train_adapter", trained)
    monkeypatch.setattr(tuning, "current_adapter", lambda run: run)
    monkeypatch.setattr(tuning, "read_card", lambda _: {"validation": {METRIC: last[0]}})
    return curves


def test_trial_below_the_median_is_stopped_and_one_that_diverges_does_not_end_the_search(
    town: Town, curves: dict[float, list[float]]
) -> None:
    curves.update({0.001: [0.5, 0.6], 0.002: [0.1, 0.9], 0.004: [], 0.008: [0.7, 0.8]})
    config = town("finetune.learning_rate=0.001", "tune.trials=12", "tune.startup_trials=1", RATES)
    best = tuning.tune(config)
    states = {trial.params["finetune.learning_rate"]: trial.state.name for trial in _trials(config)}
    assert states == {0.001: states[0.001], 0.002: "PRUNED", 0.004: "FAIL", 0.008: "COMPLETE"}
    assert yaml.safe_load(best.read_text()) == {"finetune": {"learning_rate": 0.008}}
    assert _trials(config)[0].params["finetune.learning_rate"] == 0.001  # what the configuration says, first
    assert len(_trials(config)) == 12


def test_search_without_any_trial_that_ends_says_so(town: Town, curves: dict[float, list[float]]) -> None:
    curves.update({rate: [] for rate in (0.001, 0.002, 0.004, 0.008)})
    with pytest.raises(DataError, match="No trial has ended well"):
        tuning.tune(town("tune.trials=2", RATES))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("{seed: [1, 2]}", "should name settings such as finetune.learning_rate"),
        ("{finetune.rank: []}", "a value for each"),
        ("{finetune.learning_rate: {low: 0.0, high: 1.0, log: true}}", "both above 0"),
    ],
)
def test_space_that_cannot_be_searched_is_refused(town: Town, space: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        town(f"tune.space={space}")


def test_without_optuna_the_extra_is_named(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"whereupon\[tune\]"):
        tuning.tune(town())
