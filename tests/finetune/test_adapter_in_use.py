"""Which adapter a run uses after a training."""

import json
import shutil
from pathlib import Path

import pytest

from whereupon.decode.adapters import current_adapter
from whereupon.finetune.train import finetune
from whereupon.finetune.validation import Validator
from whereupon.tests.finetune.short_training import SHORT, Town

pytestmark = pytest.mark.slow  # all together


def _scored(monkeypatch: pytest.MonkeyPatch, score: float) -> None:
    monkeypatch.setattr(Validator, "validate", lambda *_: {"nDCG@10": score})


def test_worse_adapter_does_not_replace_a_better_one(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town("finetune.epochs=0.1")
    _scored(monkeypatch, 0.72)
    best = finetune(config)
    _scored(monkeypatch, 0.01)
    worse = finetune(town("finetune.epochs=0.1", "finetune.learning_rate=0.5"))
    assert current_adapter(config.run) == best != worse
    said = " ".join(capsys.readouterr().err.split())
    assert "0001 stays in use" in said
    assert "0.7200" in said
    assert "0.0100" in said
    assert "--use 0002" in said
    _scored(monkeypatch, 0.72)
    assert current_adapter(config.run) != finetune(config) == current_adapter(config.run)  # as good: the new one


def test_adapter_of_other_validation_events_is_not_compared(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town("finetune.epochs=0.1")
    _scored(monkeypatch, 0.5)
    best = finetune(config)
    monkeypatch.setattr(Validator, "hash", "another")
    _scored(monkeypatch, 0.9)
    finetune(config)
    assert current_adapter(config.run) == best
    assert "not validated on the same events" in " ".join(capsys.readouterr().err.split())


def test_adapter_that_does_not_fit_the_run_any_more_is_replaced(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _scored(monkeypatch, 0.9)
    config = town("finetune.epochs=0.1")
    finetune(config)
    _scored(monkeypatch, 0.1)
    newer = finetune(town("finetune.epochs=0.1", "prompts.budget_tokens=150"))
    assert current_adapter(config.run) == newer
    assert "0001 was trained for other data, prompts or another base model" in " ".join(capsys.readouterr().err.split())


def test_worse_adapter_of_a_model_in_another_folder_does_not_replace_a_better_one(town: Town, tmp_path: Path) -> None:
    config = town(*SHORT)
    first = finetune(config)
    card = json.loads((first / "whereupon.json").read_text())
    card["validation"] = card["validation"] | {"nDCG@10": 2.0}
    (first / "whereupon.json").write_text(json.dumps(card))
    shutil.copytree(config.model.base, tmp_path / "moved")
    moved = config.model_copy(update={"model": config.model.model_copy(update={"base": str(tmp_path / "moved")})})
    assert finetune(moved).name == "0002"
    assert current_adapter(config.run) == first
