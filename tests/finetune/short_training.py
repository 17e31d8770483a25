"""Short trainings of the tiny town, what they leave, and how they are interrupted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from whereupon.config import Config
from whereupon.finetune import train
from whereupon.finetune.progress import TrainingProgress
from whereupon.finetune.train import finetune

Town = Callable[..., Config]
SHORT = ("finetune.epochs=2", "finetune.validations_per_epoch=1", "finetune.log_every=1")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Stop training, as Ctrl-C would, in that step; every step before it has left a checkpoint."""
    original = TrainingProgress.step

    def stepping(self: TrainingProgress, now: int, *numbers: Any) -> None:
        if now == step:
            raise KeyboardInterrupt
        original(self, now, *numbers)

    monkeypatch.setattr(TrainingProgress, "step", stepping)
    monkeypatch.setattr(train, "CHECKPOINT_EVERY_S", -1.0)


def interrupted(config: Config, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)
