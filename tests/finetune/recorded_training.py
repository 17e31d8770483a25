"""Run as a script: train, write the loss of each step to a file, and stop by SIGKILL where requested.

Arguments are one JSON object: `config`, `overrides`, `losses` (the file), `start` (an adapter to go on from), `student`
(its run folder and number of layers), `together` (one process takes the batches of two), `sharded` (FSDP2), `kill`
("before", "inside" or "after" a validation, or when it is done and "unwritten") with `at`, its step.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin, PartialState
from torch.distributed.fsdp import FSDPModule

from whereupon.arrays import Int64
from whereupon.config import Config, load_config
from whereupon.finetune import preference, train
from whereupon.finetune.adapter import CheckpointManager
from whereupon.finetune.progress import TrainingProgress
from whereupon.finetune.schedule import Schedule
from whereupon.finetune.student import student
from whereupon.finetune.train import finetune
from whereupon.finetune.validation import Validator


def _batches_of_two(self: Schedule, epoch: int, original: Any = Schedule.batches) -> list[Int64]:
    two = original(dataclasses.replace(self, num_processes=2), epoch)
    return [np.concatenate(two[i : i + 2]) for i in range(0, len(two), 2)]


def _kill_at(when: str, at: int) -> None:
    def die(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    validate, answer, keep, resume = (
        Validator.validate,
        Validator._answer,
        CheckpointManager.keep,
        CheckpointManager.resume,
    )
    keepers: list[CheckpointManager] = []

    def resuming(self: CheckpointManager, optimizer: Any) -> int:
        keepers.append(self)
        return resume(self, optimizer)

    def validating(self: Validator, *arguments: Any) -> dict[str, float]:
        if when == "before":
            die(keepers[0].standing.step)
        return validate(self, *arguments)

    def answering(self: Validator, *arguments: Any) -> Any:
        found = answer(self, *arguments)
        if when == "inside":
            die(keepers[0].standing.step)
        return found

    def keeping(self: CheckpointManager, *arguments: Any) -> None:
        if when == "unwritten":
            die(self.standing.step)
        keep(self, *arguments)
        if when == "after":
            die(self.standing.step)

    Validator.validate, Validator._answer = validating, answering  # type: ignore[method-assign]
    CheckpointManager.keep, CheckpointManager.resume = keeping, resuming  # type: ignore[method-assign]


def _spread_weights() -> None:
    """FSDP2 by accelerate itself, though on CPUs, where accelerate passes over what the launcher requested."""

    def accelerator_of(config: Config, original: Any = train.accelerator_of) -> Accelerator:
        accelerator = original(config)
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", reshard_after_forward=True,
            cpu_ram_efficient_loading=False,
        )  # fmt: skip
        accelerator.state.distributed_type = DistributedType.FSDP
        PartialState().distributed_type = DistributedType.FSDP  # what each later AcceleratorState() copies
        return accelerator

    def running(self: train._Training, original: Any = train._Training.run) -> None:
        assert isinstance(self.module, FSDPModule)
        original(self)

    train.accelerator_of = accelerator_of
    train._Training.run = running  # type: ignore[method-assign, assignment]


def _same_orders(log_prob_EG: torch.Tensor, num: int) -> torch.Tensor:
    """As `drawn_orders`, of the same noise for every event: processes draw numbers of their own else."""
    noise_SG = torch.rand(num, log_prob_EG.shape[1], generator=torch.Generator().manual_seed(1))
    return (log_prob_EG[:, None] - (-noise_SG.log()).log()).argsort(-1, descending=True)


def _train(asked: dict[str, Any]) -> None:
    config = load_config(Path(asked["config"]), asked["overrides"])
    if found := asked.get("student"):
        student(config, found["layers"], Path(found["run"]), asked["start"])
    else:
        finetune(config, asked.get("start"))


def main(asked: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    losses: list[float] = []

    def step(self: TrainingProgress, now: int, loss: float, *rest: Any, original: Any = TrainingProgress.step) -> None:
        losses.append(loss)
        original(self, now, loss, *rest)

    TrainingProgress.step = step  # type: ignore[method-assign, assignment]
    if asked.get("sharded"):
        _spread_weights()
    if asked.get("together"):
        Schedule.batches = _batches_of_two  # type: ignore[method-assign, assignment]
    if asked.get("kill"):
        _kill_at(asked["kill"], asked["at"])
    preference.drawn_orders = _same_orders
    _train(asked)
    if os.environ.get("RANK", "0") == "0":
        Path(asked["losses"]).write_text(json.dumps(losses), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
