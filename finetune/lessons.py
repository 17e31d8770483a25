"""Windows as lessons: every title of a window is a target, at the positions where the catalogue branches.

Shape legend: R windows of a batch, L padded length, P branching decisions of all titles in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays import Int64
from ..catalogue import Trie
from ..prompts import EncodedWindow


@dataclass(frozen=True)
class Lesson:
    """One window: its tokens, and P branching decisions (position of the predicting token, node, edge) of V titles."""

    tokens_L: NDArray[np.int32]
    position_P: Int64
    node_P: Int64
    edge_P: Int64
    num_titles: int


@dataclass(frozen=True)
class Batch:
    """Lessons as int64 tensors: `tokens_RL` padded on the right, the decisions at flat positions r * L + position."""

    tokens_RL: Tensor
    position_P: Tensor
    node_P: Tensor
    edge_P: Tensor
    num_titles: int
    num_tokens: int

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.tokens_RL.to(device), self.position_P.to(device), self.node_P.to(device), self.edge_P.to(device),
            self.num_titles, self.num_tokens,
        )  # fmt: skip


def lesson_of(window: EncodedWindow, item_idx_V: Int64, trie: Trie) -> Lesson:
    """The lesson of a window whose V events chose the items `item_idx_V`."""
    owner_P, node_P, edge_P = trie.decisions(item_idx_V)
    position_P = window.title_start_V[owner_P] - 1 + trie.depth_B[node_P]
    return Lesson(window.tokens_L, position_P, node_P, edge_P, len(item_idx_V))


def collate(lessons: Sequence[Lesson], pad: int = 0) -> Batch:
    """Pad on the right: with causal attention no position sees the padding."""
    length = np.array([len(lesson.tokens_L) for lesson in lessons])
    width = int(length.max())
    tokens_RL = np.full((len(lessons), width), pad, np.int64)
    tokens_RL[np.arange(width) < length[:, None]] = np.concatenate([lesson.tokens_L for lesson in lessons])
    return Batch(
        torch.from_numpy(tokens_RL),
        _flat(row * width + lesson.position_P for row, lesson in enumerate(lessons)),
        _flat(lesson.node_P for lesson in lessons),
        _flat(lesson.edge_P for lesson in lessons),
        sum(lesson.num_titles for lesson in lessons),
        int(length.sum()),
    )


def _flat(parts: Iterable[Int64]) -> Tensor:
    return torch.from_numpy(np.concatenate(list(parts)))


def plan_batches(length_W: Int64, batch_tokens: int, generator: np.random.Generator) -> list[Int64]:
    """Group windows of similar length so that rows x longest stays within `batch_tokens`, in random order.

    Every window is in exactly one batch; one longer than `batch_tokens` is a batch of its own.
    """
    # Jitter before sorting: batches differ between epochs, yet hardly any padding is needed.
    order = np.argsort(length_W * generator.uniform(0.85, 1.0, len(length_W)), kind="stable")
    batches: list[Int64] = []
    current: list[int] = []
    longest = 0
    for window in order:
        longest_with = max(longest, int(length_W[window]))
        if current and longest_with * (len(current) + 1) > batch_tokens:
            batches.append(np.array(current))
            current, longest_with = [], int(length_W[window])
        current.append(int(window))
        longest = longest_with
    if current:
        batches.append(np.array(current))
    return [batches[i] for i in generator.permutation(len(batches))]
