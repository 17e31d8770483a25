"""Windows as lessons, and their order: every title of a window is a target where the catalogue branches.

Shape legend: R windows of a batch, L padded length, P branching decisions of all titles in it, J their edges.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays import Int64, ragged
from ..catalogue import Trie
from ..prompts import EncodedWindow
from .on_top import TrainingPrior
from .settings import FinetuneSettings


@dataclass(frozen=True)
class Lesson:
    """One window: its tokens, and P branching decisions (position of the predicting token, node, edge) of V titles.

    `decision_P` int64 says which decisions of the prior they are (see `on_top`); None without a prior.
    """

    tokens_L: NDArray[np.int32]
    position_P: Int64
    node_P: Int64
    edge_P: Int64
    num_titles: int
    decision_P: Int64 | None = None


@dataclass(frozen=True)
class PriorBatch:
    """The prior at the decisions of a batch: for each of J edges its number, the decision it belongs to (int64,
    ascending) and the logarithm of the prior mass below (float32); `taken_P` int64 is where in J the edge taken is."""

    edge_J: Tensor
    row_J: Tensor
    log_mass_J: Tensor
    taken_P: Tensor


@dataclass(frozen=True)
class Batch:
    """Lessons as int64 tensors: `tokens_RL` padded on the right, the decisions at flat positions r * L + position."""

    tokens_RL: Tensor
    position_P: Tensor
    node_P: Tensor
    edge_P: Tensor
    num_titles: int
    prior: PriorBatch | None = None


def lesson_of(
    window: EncodedWindow, item_idx_V: Int64, trie: Trie, prior: TrainingPrior | None = None,
    row_V: Int64 | None = None,
) -> Lesson:  # fmt: skip
    """The lesson of a window whose V events, in the rows `row_V` of the prior, chose the items `item_idx_V`."""
    if prior is not None and row_V is not None:
        decision_P, position_P = prior.of_titles(row_V, window.title_start_V)
        none_P = np.zeros(len(decision_P), np.int64)
        return Lesson(window.tokens_L, position_P, none_P, none_P, len(item_idx_V), decision_P)
    owner_P, node_P, edge_P = trie.decisions(item_idx_V)
    position_P = window.title_start_V[owner_P] - 1 + trie.depth_B[node_P]
    return Lesson(window.tokens_L, position_P, node_P, edge_P, len(item_idx_V))


def collate(
    lessons: Sequence[Lesson], pad: int = 0, device: torch.device | str = "cpu", prior: TrainingPrior | None = None
) -> Batch:
    """Pad on the right: with causal attention no position sees the padding."""

    def flat(parts: Iterable[Int64]) -> Tensor:
        return torch.from_numpy(np.concatenate(list(parts))).to(device)

    length = np.array([len(lesson.tokens_L) for lesson in lessons])
    width = int(length.max())
    tokens_RL = np.full((len(lessons), width), pad, np.int64)
    tokens_RL[np.arange(width) < length[:, None]] = np.concatenate([lesson.tokens_L for lesson in lessons])
    decisions = [lesson.decision_P for lesson in lessons if lesson.decision_P is not None]
    return Batch(
        torch.from_numpy(tokens_RL).to(device),
        flat(row * width + lesson.position_P for row, lesson in enumerate(lessons)),
        flat(lesson.node_P for lesson in lessons),
        flat(lesson.edge_P for lesson in lessons),
        sum(lesson.num_titles for lesson in lessons),
        None if prior is None else _prior_batch(prior, np.concatenate(decisions), device),
    )


def _prior_batch(prior: TrainingPrior, decision_P: Int64, device: torch.device | str) -> PriorBatch:
    count_P = prior.count_D[decision_P]
    row_J, at_J = ragged(prior.begin_D[decision_P], count_P)
    taken_P = np.cumsum(count_P) - count_P + prior.taken_D[decision_P]
    arrays = (prior.edge_J[at_J].astype(np.int64), row_J, prior.log_mass_J[at_J], taken_P)
    return PriorBatch(*(torch.from_numpy(array).to(device) for array in arrays))


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
    """Which batch comes when, where validations follow, and the learning rates.

    The batches of a step follow from the seed, so that a killed run resumes.
    """

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
