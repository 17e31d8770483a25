"""How a title stands in a prompt, and its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from ..console import tracked
from .ragged import Ragged

TERMINATOR = "\n"
BATCH_TITLES = 50_000
BAR_FROM_TITLES = 200_000  # fewer are done before anybody wonders

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Texts to token ids without special tokens, such that the ids of several texts, joined, are those texts joined."""


def encode_titles(titles: pl.Series, encode: Encode) -> Ragged:
    """The tokens of every title as it stands in a prompt: a space after the context's colon, and the terminator.

    In batches, so that no more than one of them is ever held as Python lists; with a bar on stderr for many titles.
    """
    # `+`, for polars 2.1 panics in `format` and `concat_str` where a column has an empty chunk, as edits leave them.
    texts = titles.to_frame("title").select(pl.lit(" ") + pl.col("title") + pl.lit(TERMINATOR))
    batches = tracked(
        texts.iter_slices(BATCH_TITLES), "tokenising titles", total=-(-len(titles) // BATCH_TITLES),
        shown=len(titles) >= BAR_FROM_TITLES,
    )  # fmt: skip
    return Ragged.join([Ragged.of(encode(batch.to_series().to_list())) for batch in batches])
