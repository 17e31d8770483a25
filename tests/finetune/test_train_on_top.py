"""A whole training on top of rankers: its files, its losses, and what a killed one goes on with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.errors import DataError
from whereupon.finetune import on_top
from whereupon.finetune.progress import TrainingProgress
from whereupon.finetune.train import finetune

Town = Callable[..., Config]
SHORT = ("finetune.epochs=1", "finetune.validations_per_epoch=2", "finetune.batch_tokens=100", "evaluate.baselines=[]",
         "finetune.log_every=1")  # fmt: skip
PRIORS = "priors=[popularity,own counts]"


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _killed_at(config: Config, step: int) -> None:
    """Stop the training after a step, with a checkpoint of it due."""
    original = TrainingProgress.step

    def stepping(self: TrainingProgress, now: int, *numbers: Any) -> None:
        if now == step:
            raise KeyboardInterrupt
        original(self, now, *numbers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingProgress, "step", stepping)
        patch.setattr("whereupon.finetune.train.CHECKPOINT_EVERY_S", -1.0)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)


def test_killed_training_on_top_goes_on_with_the_prior_that_is_there(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = finetune(town(*SHORT, PRIORS, run="whole"))
    config = town(*SHORT, PRIORS, run="cut")
    _killed_at(config, 3)
    monkeypatch.setattr(on_top, "cross_fitted", None)  # nothing is fitted again
    cut = finetune(config)
    assert "resuming at step 2" in capsys.readouterr().err
    assert _log(cut) == _log(whole)


def test_checkpoint_on_top_of_other_rankers_is_not_gone_on_with(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    _killed_at(town(*SHORT, PRIORS), 3)
    folder = finetune(town(*SHORT, "priors=[popularity]"))
    said = capsys.readouterr().err
    assert "belongs to other settings or data: it stays as it is" in said
    assert "resuming" not in said
    card = json.loads((folder / "whereupon.json").read_text())
    assert card["priors"] != "none"
    assert card["temperature"] == 2.5


def test_without_training_events_there_is_nothing_to_train_on_top_of_anything(town: Town) -> None:
    config = town(PRIORS)
    path = config.run / "histories" / "events.parquet"
    pl.read_parquet(path).with_columns(split=pl.lit("test")).write_parquet(path)
    with pytest.raises(DataError, match=r"^There are no training events"):
        finetune(config)
