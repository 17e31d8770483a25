"""Token lists in two flat arrays, and how a title becomes one: its text in a prompt, and its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl

from ..arrays import Bool, Int32, Int64
from ..console import say, tracked

MAX_TITLE_TOKENS = 64
"""A prompt reserves tokens for the longest title that may be its answer: 800 tokens would shorten every prompt."""
_TAIL = 8  # with the terminator, and the number that makes equal titles different
TERMINATOR = "\n"
BATCH_TITLES = 50_000
BAR_FROM_TITLES = 200_000  # fewer are done before anybody wonders

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Texts to token ids without special tokens, such that the ids of several texts, joined, are those texts joined."""


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
    def of_arrays(cls, arrays: Sequence[Int32]) -> Ragged:
        """The same of lists that are arrays already."""
        ptr = pointers(np.fromiter(map(len, arrays), np.int64, len(arrays)))
        return cls(np.concatenate([np.empty(0, np.int32), *arrays]), ptr)

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


def encode_titles(titles: pl.Series, encode: Encode) -> Ragged:
    """The tokens of every title as it stands in a prompt: a space after the context's colon, and the terminator.

    Of more than MAX_TITLE_TOKENS tokens, the first and the last few are kept; how many titles are cut is said. In
    batches, so that no more than one of them is ever held as Python lists; with a bar on stderr for many titles.
    """
    # `+`, for polars 2.1 panics in `format` and `concat_str` where a column has an empty chunk, as edits leave them.
    texts = titles.to_frame("title").select(pl.lit(" ") + pl.col("title") + pl.lit(TERMINATOR))
    batches = tracked(
        texts.iter_slices(BATCH_TITLES), "tokenising titles", total=-(-len(titles) // BATCH_TITLES),
        shown=len(titles) >= BAR_FROM_TITLES,
    )  # fmt: skip
    lists = Ragged.join([Ragged.of(encode(batch.to_series().to_list())) for batch in batches])
    return _cut(lists, titles)


def _cut(lists: Ragged, titles: pl.Series) -> Ragged:
    """Token lists of at most MAX_TITLE_TOKENS: without their middle where they are longer."""
    length = lists.length
    long = np.flatnonzero(length > MAX_TITLE_TOKENS)
    if not len(long):
        return lists
    say(
        f"{len(long):,} of {len(length):,} titles have more than {MAX_TITLE_TOKENS} tokens and are cut in prompts and "
        f"answers, such as {titles[int(long[0])][:60]!r} with {length[long[0]]:,}"
    )
    place = np.arange(len(lists.tokens)) - np.repeat(lists.ptr[:-1], length)
    from_end = np.repeat(length, length) - place
    kept = (place < MAX_TITLE_TOKENS - _TAIL) | (from_end <= _TAIL) | np.repeat(length <= MAX_TITLE_TOKENS, length)
    return Ragged(lists.tokens[kept], pointers(np.minimum(length, MAX_TITLE_TOKENS)))
