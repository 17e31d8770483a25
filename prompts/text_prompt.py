"""A prompt that comes as text, cut into the pieces that the encoder tokenises one by one."""

from __future__ import annotations

import re
from typing import cast

import polars as pl

from ..catalogue import TERMINATOR
from .encoder import PromptEncoder

_LINE = re.compile(f"[^{TERMINATOR}]*{TERMINATOR}|[^{TERMINATOR}]+")


def encode_text(encoder: PromptEncoder, text: str, titles: pl.Series) -> list[int]:
    """Token ids of a text as `whereupon prompt show` prints it: those of the prompt itself, without `encoder.prefix`.

    Each line is cut before the longest of the `titles` that it ends with. The encoder's cut is another one only where
    the end of a context and a title make up another title. A line that ends with no title stays whole.
    """
    tokens: list[int] = []
    if encoder.preamble_text and text.startswith(encoder.preamble_text):
        tokens += encoder.preamble[len(encoder.prefix) :].tolist()
        text = text.removeprefix(encoder.preamble_text)
    most_words = 1 + cast(int, titles.str.count_matches(" ").max() or 0)
    lines = [(line, _ends(line, most_words)) for line in _LINE.findall(text)]
    ends = pl.Series([end[1:-1] for _, ends in lines for end in ends], dtype=pl.String)
    known = {f" {title}{TERMINATOR}" for title in titles.filter(titles.is_in(ends.implode()))}
    pieces = []
    for line, ends_of_line in lines:
        title = next((end for end in ends_of_line if end in known), "")
        pieces += [piece for piece in (line.removesuffix(title), title) if piece]
    for piece, ids in zip(pieces, encoder.encode(pieces), strict=True):
        tokens += [encoder.filler] if piece == TERMINATOR else ids
    return tokens


def _ends(line: str, most_words: int) -> list[str]:
    """What of a finished line could be a title, with the space before it and the terminator, the longest first."""
    if not line.endswith(TERMINATOR):
        return []
    words = line.rsplit(" ", most_words)[1:]
    return [f" {' '.join(words[first:])}" for first in range(len(words))]
