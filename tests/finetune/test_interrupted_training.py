"""A training that is stopped goes on where it was; checkpoints of another one are left alone."""

from typing import Any

import pytest
import torch

from whereupon.config import Config
from whereupon.decode.adapters import adapter_versions, current_adapter
from whereupon.errors import ModelError
from whereupon.finetune.adapter import CheckpointManager, only_training
from whereupon.finetune.progress import TrainingProgress
from whereupon.finetune.train import finetune
from whereupon.tests.finetune.short_training import SHORT, Town, interrupted, log_of, weights_of

pytestmark = pytest.mark.slow  # all together


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_interrupted_and_resumed_run_ends_as_an_uninterrupted_one(
    town: Town, capsys: pytest.CaptureFixture[str], dropout: float
) -> None:
    settings = (*SHORT, f"finetune.dropout={dropout}", "finetune.batch_tokens=400")
    whole = finetune(town(*settings, run="whole"))
    last = log_of(whole)[-1]["step"]
    config = town(*settings, run="cut")
    for step in (3, last - 1):
        interrupted(config, step)
    cut = finetune(config)
    said = capsys.readouterr().err
    assert f"resuming at step {last - 2}" in said
    assert log_of(cut) == log_of(whole)
    one, other = weights_of(whole), weights_of(cut)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_checkpoint_of_other_settings_is_not_used_and_stays(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    config, other = town(*SHORT), "finetune.learning_rate=0.01"
    interrupted(config, 2)
    folder = finetune(town(*SHORT, other))
    assert "0001/checkpoint.pt belongs to other settings or data" in capsys.readouterr().err.replace("\n", "")
    assert folder == current_adapter(config.run) == config.run / "adapters" / "0002"
    assert log_of(folder) == log_of(finetune(town(*SHORT, other, run="fresh")))
    assert finetune(config) == config.run / "adapters" / "0001"  # the killed one goes on
    assert "resuming at step 1" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_checkpoint_that_cannot_be_read_is_said_and_left_alone(
    town: Town, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    config = town("finetune.epochs=0.1")
    path = config.run / "adapters" / "0001" / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    torch.save(torch.zeros(3), path) if content is None else path.write_bytes(content)
    assert finetune(config) == config.run / "adapters" / "0002"
    assert "checkpoint.pt cannot be read" in capsys.readouterr().err
    assert path.is_file()


def test_log_is_written_while_training_runs(town: Town) -> None:
    config = town(*SHORT)
    interrupted(config, _last_step(town(*SHORT, run="whole")))
    assert len(log_of(config.run / "adapters" / "0001")) == 1


def _last_step(config: Config) -> int:
    return int(log_of(finetune(config))[-1]["step"])


def test_checkpoints_begin_to_be_due_anew_after_each_validation(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint comes from a validation here, twice: before and after it."""
    written: list[int] = []
    original = CheckpointManager.checkpoint

    def checkpoint(self: CheckpointManager, optimizer: Any) -> None:
        written.append(self.standing.step)
        original(self, optimizer)

    monkeypatch.setattr(CheckpointManager, "checkpoint", checkpoint)
    steps = [entry["step"] for entry in log_of(finetune(town(*SHORT)))]
    assert written == [step for step in steps for _ in range(2)]


def test_training_that_is_killed_at_its_very_end_ends_when_run_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = town("finetune.epochs=0.1")
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "_choose", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)
    with pytest.raises(ModelError, match="whereupon finetune"):
        current_adapter(config.run)
    monkeypatch.setattr(TrainingProgress, "step", lambda *_: pytest.fail("a step was taken again"))
    assert finetune(config) == current_adapter(config.run) == config.run / "adapters" / "0001"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_training_that_was_killed_leaves_the_adapter_in_use_alone(town: Town) -> None:
    config = town(*SHORT, "finetune.batch_tokens=400")
    whole = finetune(config)
    before = weights_of(whole)
    interrupted(config, 3)
    assert current_adapter(config.run) == whole
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(whole).items())
    assert [version.complete for version in adapter_versions(config.run)] == [True, False]


def test_second_training_of_a_run_is_refused_while_one_is_under_way(town: Town) -> None:
    config = town(*SHORT)
    with only_training(config.run, True), pytest.raises(ModelError, match="Another training of"):
        finetune(config)
    assert finetune(config).name == "0001"
