"""Which windows make a step: batches of similar length, dealt out to processes, and the learning rate of each step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Int64
from .continual import replayed
from .settings import FinetuneSettings


def plan_batches(length_W: Int64, batch_tokens: int, generator: np.random.Generator) -> list[Int64]:
    """Group windows of similar length so that rows x longest stays within `batch_tokens`, in random order.

    Every window is in exactly one batch; one longer than `batch_tokens` is a batch of its own.
    """
    # Jitter before sorting: batches differ between epochs, yet hardly any padding is needed.
    order = np.argsort(length_W * generator.uniform(0.85, 1.0, len(length_W)), kind="stable")
    batches: list[list[int]] = []
    longest = 0
    for window in order.tolist():
        longest = max(longest, int(length_W[window]))
        if not batches or longest * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
            longest = int(length_W[window])
        batches[-1].append(window)
    return [np.array(batches[i]) for i in generator.permutation(len(batches))]


@dataclass(frozen=True)
class Schedule:
    """Which batches come when, where validations follow, and the learning rates.

    A step takes `settings.accumulate` batches of each process. All follow from the seed, so that a killed run resumes.
    With `old_W` (bool), of the windows that are old only some are taken in an epoch (see `continual.replayed`).
    """

    length_W: Int64
    settings: FinetuneSettings
    seed: int
    num_processes: int
    old_W: NDArray[np.bool_] | None = None

    @property
    def per_step(self) -> int:
        """Batches of one step, of all processes together."""
        return self.num_processes * self.settings.accumulate

    def batches(self, epoch: int) -> list[Int64]:
        """Batches of one epoch, and as many empty ones as make them a multiple of `per_step`."""
        generator, chosen = np.random.default_rng([self.seed, epoch]), np.arange(len(self.length_W))
        if self.old_W is not None:
            chosen = replayed(self.old_W, self.settings, generator)
        batches = plan_batches(self.length_W[chosen], self.settings.batch_tokens, generator)
        planned = [chosen[batch] for batch in batches]
        return planned + [np.empty(0, np.int64)] * (-len(planned) % self.per_step)

    def padding(self) -> float:
        """Share of padding in the tokens of the first epoch."""
        batches = [batch for batch in self.batches(0) if len(batch)]
        held = sum(len(batch) * int(self.length_W[batch].max()) for batch in batches)
        return 1 - int(self.length_W[np.concatenate(batches)].sum()) / held

    def num_steps(self) -> int:
        whole, part = divmod(self.settings.epochs, 1)
        full = sum(len(self.batches(e)) // self.per_step for e in range(int(whole)))
        return max(1, full + round(part * len(self.batches(int(whole))) / self.per_step))

    def steps(self) -> Iterator[tuple[list[Int64], bool]]:
        """The batches of each step (batch m * `num_processes` + p is the m-th of process p), and whether a validation
        follows."""
        num_steps, step, num, times = self.num_steps(), 0, self.per_step, self.settings.validations_per_epoch
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
            per_epoch = len(there.batches(epoch)) // there.per_step
            if step < per_epoch:
                break
            step, done = step - per_epoch, done + len(self.batches(epoch)) // self.per_step
        return min(done + step * there.per_step // self.per_step, self.num_steps())

    def learning_rate(self, step: int, num_steps: int) -> float:
        """After `step` steps: up in a line, then down (or not) by `settings.schedule` to `settings.floor`."""
        settings, warmup = self.settings, int(self.settings.warmup_fraction * num_steps)
        if step < warmup:
            return settings.learning_rate * (step / warmup)
        done = (step - warmup) / max(1, num_steps - warmup)
        left = _SHAPES[settings.schedule](done, settings.decay_fraction)
        return settings.learning_rate * (settings.floor + (1 - settings.floor) * left)


def micro_batches(batches: list[Int64], num_processes: int, split: int = 1) -> list[list[Int64]]:
    """The batches of a step as rows of one for each process, each batch in `split` parts; rows without any window are
    left out, so that all processes do the same number of passes."""
    parts = [np.array_split(batch, split) if split > 1 else [batch] for batch in batches]
    rows = [
        [parts[first + process][number] for process in range(num_processes)]
        for first in range(0, len(batches), num_processes)
        for number in range(split)
    ]
    return [row for row in rows if any(len(part) for part in row)]


def _wsd(done: float, decay: float) -> float:
    """Warm-up, stable, decay (arXiv 2404.06395), here in a line."""
    return min(1.0, (1 - done) / decay)


_SHAPES: Final[dict[str, Callable[[float, float], float]]] = {
    "cosine": lambda done, _: max(0.0, 0.5 * (1 + math.cos(math.pi * done))),
    "linear": lambda done, _: 1 - done,
    "constant": lambda *_: 1.0,
    "wsd": _wsd,
}
