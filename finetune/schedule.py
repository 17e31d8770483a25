"""Which windows are trained on in which step, when a validation follows, and with which learning rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Int64
from .lessons import plan_batches
from .settings import FinetuneSettings


@dataclass(frozen=True)
class Schedule:
    """Which batch comes when: the batches of a step follow from the seed, so that a killed run resumes."""

    length_W: Int64
    settings: FinetuneSettings
    seed: int
    num_processes: int

    def batches(self, epoch: int) -> list[Int64]:
        """Batches of one epoch, and as many empty ones as make them a multiple of the number of processes."""
        planned = plan_batches(self.length_W, self.settings.batch_tokens, np.random.default_rng([self.seed, epoch]))
        return planned + [np.empty(0, np.int64)] * (-len(planned) % self.num_processes)

    def num_steps(self) -> int:
        whole, part = divmod(self.settings.epochs, 1)
        full = sum(len(self.batches(e)) // self.num_processes for e in range(int(whole)))
        return max(1, full + round(part * len(self.batches(int(whole))) / self.num_processes))

    def steps(self) -> Iterator[tuple[list[Int64], bool]]:
        """The batches of each step, one for each process, and whether a validation follows."""
        num_steps, step, num, times = self.num_steps(), 0, self.num_processes, self.settings.validations_per_epoch
        for epoch in itertools.count():
            batches = self.batches(epoch)
            marks = {round(len(batches) // num * (i + 1) / times) for i in range(times)}
            for index in range(len(batches) // num):
                step += 1
                yield batches[index * num : (index + 1) * num], index + 1 in marks or step == num_steps
                if step == num_steps:
                    return

    def step_after(self, step: int, num_processes: int) -> int:
        """The step here before which no more batches are done than after `step` steps of so many processes."""
        there, done = replace(self, num_processes=num_processes), 0
        for epoch in itertools.count():
            per_epoch = len(there.batches(epoch)) // num_processes
            if step < per_epoch:
                break
            step, done = step - per_epoch, done + len(self.batches(epoch)) // self.num_processes
        return min(done + step * num_processes // self.num_processes, self.num_steps())

    def learning_rate(self, step: int, num_steps: int) -> float:
        """After `step` steps: up in a line, then down in half a cosine."""
        warmup = int(self.settings.warmup_fraction * num_steps)
        if step < warmup:
            return self.settings.learning_rate * (step / warmup)
        done = (step - warmup) / max(1, num_steps - warmup)
        return self.settings.learning_rate * max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
