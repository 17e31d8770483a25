"""Token lists of different lengths in two flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ..arrays import Bool, Int32, Int64


@dataclass(frozen=True)
class Ragged:
    """Token lists end to end: list i is `tokens[ptr[i]:ptr[i + 1]]`; `tokens` int32, `ptr` int64, one longer."""

    tokens: Int32
    ptr: Int64

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> Ragged:
        ptr = pointers(np.fromiter(map(len, lists), np.int64, len(lists)))
        return cls(np.fromiter(chain.from_iterable(lists), np.int32, int(ptr[-1])), ptr)

    @classmethod
    def join(cls, parts: Sequence[Ragged]) -> Ragged:
        """All lists of all parts, one part after the other."""
        tokens = np.concatenate([np.empty(0, np.int32), *(part.tokens for part in parts)])
        return cls(tokens, pointers(np.concatenate([np.empty(0, np.int64), *(part.length for part in parts)])))

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def length(self) -> Int64:
        return np.diff(self.ptr)

    def gather(self, which: Int64 | Int32) -> Ragged:
        """The lists `which`, in that order, repetitions allowed; no Python loop."""
        length = self.length[which]
        ptr = pointers(length)
        source = np.arange(ptr[-1]) + np.repeat(self.ptr[:-1][which] - ptr[:-1], length)
        return Ragged(self.tokens[source], ptr)

    def keep(self, kept: Bool) -> Ragged:
        """The lists where `kept` (one truth value a list) holds, in order: `gather` with no index of every token."""
        length = self.length
        return Ragged(self.tokens[np.repeat(kept, length)], pointers(length[kept]))


def pointers(length: Int64) -> Int64:
    """int64, one longer than `length`: where each list begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(length, dtype=np.int64)])
