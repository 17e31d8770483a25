"""`whereupon tune`: trainings with other settings, judged on the validation split alone, by Optuna.

<run>/tuning/study.sqlite   Optuna's storage: every trial with its settings and validations
<run>/tuning/trials/KEY/    the run folder of the trial that is under way; KEY is of its settings
<run>/tuning/best.yaml      the settings of the best trial so far
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ..console import say
from ..decode.adapter_card import read_card
from ..decode.adapters import current_adapter
from ..errors import ConfigError, DataError, NonFiniteError
from ..files import atomic_path, sha256_text
from ..histories import read_histories
from .adapter import METRIC, only_training
from .settings import Range
from .train import train_adapter

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from ..config import Config

TUNING: Final = "tuning"
_SHARED: Final = ("histories", "examples", "priors")  # what trials of a run have in common


def tune(config: Config) -> Path:
    """Run trials until `tune.trials` are done, those of earlier calls included, and write the best as YAML; the file.

    Each trial is a training of `finetune` with settings of `tune.space`; one that is worse than the median of earlier
    ones at the same validation is stopped. A trial that was killed goes on from its checkpoint. Raises ConfigError
    without Optuna, or under several processes, DataError without validation events or where every trial diverged, and
    what `finetune` raises.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("tune needs Optuna: run `pip install 'whereupon[tune]'`.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("tune runs in one process: leave `accelerate launch` out.")
    histories = read_histories(config.run)
    if not (histories.events["split"] == "valid").any():
        raise DataError("There are no validation events to judge trials by; see histories.split.")
    folder = config.run / TUNING
    folder.mkdir(exist_ok=True)
    with only_training(folder, writes=True):
        study = _open_study(folder, config, histories.data_hash)
        while (left := config.tune.trials - _num_done(study)) > 0:
            say(f"trial {config.tune.trials - left + 1} of {config.tune.trials}")
            study.optimize(lambda trial: _trained(config, trial), n_trials=1, catch=(NonFiniteError,))
            if any(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False)):
                _write_best(folder, study)
    shutil.rmtree(folder / "trials", ignore_errors=True)
    return _write_best(folder, study)


def _open_study(folder: Path, config: Config, data_hash: str) -> Study:
    """The study of these settings and data; a trial that was killed is proposed again."""
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    requested = config.model_dump(mode="json", include={"model", "prompts", "finetune", "priors", "seed"})
    space = {key: _plain(choice) for key, choice in config.tune.space.items()}
    name = sha256_text(json.dumps([requested, space, data_hash], sort_keys=True))[:16]
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.sqlite'}", study_name=name, direction="maximize", load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=config.tune.startup_trials),
    )  # fmt: skip
    # A generator that begins again with the same seed would draw the same settings again.
    study.sampler = optuna.samplers.TPESampler(
        seed=config.seed + len(study.trials), n_startup_trials=config.tune.startup_trials
    )
    if not study.trials:
        study.enqueue_trial(_own(config))
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    for params in _interrupted(study):
        say("a trial was interrupted: it goes on")
        study.enqueue_trial(params)
    return study


def _interrupted(study: Study) -> list[dict[str, Any]]:
    """The settings of trials that were killed or interrupted, and that no other trial has or will have."""
    trials = study.get_trials(deepcopy=False)
    known = [trial.system_attrs.get("fixed_params") for trial in trials if not trial.state.is_finished()]
    known += [trial.params for trial in trials if _counts(trial)]
    found: list[dict[str, Any]] = []
    for trial in trials:
        if trial.state.is_finished() and not _counts(trial) and trial.params not in [*known, *found, {}]:
            found.append(trial.params)
    return found


def _own(config: Config) -> dict[str, Any]:
    """What the configuration itself says, as far as it lies in the space: the first trial."""
    found: dict[str, Any] = {}
    data = config.model_dump(mode="json")
    data["finetune"]["temperature"] = config.temperature
    for key, choice in config.tune.space.items():
        section, name = key.split(".")
        value = data[section][name]
        if choice.low <= value <= choice.high if isinstance(choice, Range) else value in choice:
            found[key] = value
    return found


def _num_done(study: Study) -> int:
    return sum(_counts(trial) for trial in study.get_trials(deepcopy=False))


def _counts(trial: FrozenTrial) -> bool:
    """Whether it need not be run again: it ended, was stopped, or diverged."""
    return trial.state.name in ("COMPLETE", "PRUNED") or "diverged" in trial.user_attrs


def _trained(config: Config, trial: Trial) -> float:
    """Train with the trial's settings; the best validation nDCG@10. Leaves no weights behind."""
    import optuna

    from ..config import configured

    chosen = {key: _suggested(trial, key, choice) for key, choice in config.tune.space.items()}
    say(
        ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in chosen.items()
        )
    )
    key = sha256_text(json.dumps(chosen, sort_keys=True))[:16]
    run = _trial_folder(config.run, key)
    own = configured(config, [f"{name}={json.dumps(value)}" for name, value in chosen.items()])
    number = 0

    def validated(_: int, scores: Mapping[str, float]) -> None:
        nonlocal number
        number += 1
        trial.report(scores[METRIC], number)
        if trial.should_prune():
            shutil.rmtree(run)
            raise optuna.TrialPruned

    try:
        train_adapter(own.model_copy(update={"run": run}), validated=validated)
    except NonFiniteError as error:
        trial.set_user_attr("diverged", str(error))
        shutil.rmtree(run)
        raise
    score: float = read_card(current_adapter(run))["validation"][METRIC]
    shutil.rmtree(run)
    return score


def _suggested(trial: Trial, key: str, choice: Any) -> Any:
    if isinstance(choice, Range):
        return trial.suggest_float(key, choice.low, choice.high, log=choice.log)
    return trial.suggest_categorical(key, choice)


def _trial_folder(run: Path, key: str) -> Path:
    """A run folder with the data of `run`, and the same one for the same settings."""
    folder = run / TUNING / "trials" / key
    folder.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        (run / name).mkdir(exist_ok=True)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(run.absolute() / name, target_is_directory=True)
    return folder


def _write_best(folder: Path, study: Study) -> Path:
    """Raises DataError where no trial has ended."""
    counts = Counter(trial.state.name for trial in study.get_trials(deepcopy=False))
    if not counts["COMPLETE"]:
        raise DataError("No trial has ended well: lower the learning rates of tune.space.")
    best, file = study.best_trial, folder / "best.yaml"
    nested: dict[str, dict[str, Any]] = {}
    for key, value in best.params.items():
        section, name = key.split(".")
        nested.setdefault(section, {})[name] = value
    stopped = f"{counts['COMPLETE']} trials ended, {counts['PRUNED']} were stopped early"
    head = f"# Best of {_num_done(study)} trials ({stopped}): validation {METRIC} {best.value:.4f}.\n"
    with atomic_path(file) as path:
        path.write_text(head + yaml.safe_dump(nested, sort_keys=False), encoding="utf-8")
    say(f"{file}: validation {METRIC} {best.value:.4f}; {stopped}")
    return file


def _plain(choice: Any) -> Any:
    return choice.model_dump() if isinstance(choice, Range) else choice
