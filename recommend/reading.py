"""What the model reads of a question, piece by piece, with token counts and the fields of each line; and the
history that it uses.

A field is the words of a line that are gone where `prompts.leave_out` names its kind.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from ..arrays import Int32
from ..decode.tokenizer import Tokenizer
from ..histories import Histories
from ..prompts import CONTEXT_KINDS, PromptEncoder
from .recommender import Question
from .versions import CatalogueVersion

Piece = Literal["preamble", "others", "profile", "event", "question"]
Field = Literal["time", "place", "weather", "title", "text"]
_WORDS = re.compile(r"\s+|[^\s,;:()]+|[,;:()]")


@dataclass(frozen=True)
class Read:
    """A piece of a prompt: its kind, its text by fields, and how many tokens it has."""

    kind: Piece
    fields: list[tuple[Field, str]]
    num_tokens: int


def read_pieces(question: Question, tokenizer: Tokenizer) -> list[Read]:
    """The pieces of a prompt in their order; their tokens are all that the model reads before a title."""
    prompt, encoder = question.prompt, question.version.encoder
    query, start_V = prompt.query, prompt.line_start_V.tolist()
    assert query is not None, "a question of a Recommender has one"
    profile_start = start_V[0] - prompt.num_profile_tokens
    ends: list[tuple[Piece, int]] = [
        ("preamble", profile_start - prompt.num_similar_tokens), ("others", profile_start), ("profile", start_V[0]),
    ]  # fmt: skip
    ends += [("event", end) for end in start_V[1:]]
    ends.append(("question", len(prompt.tokens_L)))
    texts = _texts(prompt.tokens_L, [end for _, end in ends], tokenizer)
    contexts = _contexts(encoder, query, len(start_V))
    pieces, begin = [], 0
    for number, ((kind, end), text) in enumerate(zip(ends, texts, strict=True)):
        if end > begin:
            line = number - 3  # behind preamble, others and profile
            plain: list[tuple[Field, str]] = [("text", text)]
            fields = _by_context(text, contexts[line]) if line >= 0 else plain
            pieces.append(Read(kind, fields, end - begin))
        begin = end
    return pieces


def past_rows(question: Question, known: Histories, most: int) -> list[dict[str, Any]]:
    """The last events before the request, earliest first: `item_id`, `title`, local `time` in ISO 8601,
    `utc_offset_minutes`, `latitude`, `longitude`, and `has_line`: whether the prompt has a line of it."""
    prompt, version = question.prompt, question.version
    assert prompt.query is not None, "a question of a Recommender has one"
    events = prompt.query[:-1].tail(most)
    first_line = events.height - prompt.num_lines
    offset_min = (events["local_time"] - events["time"].dt.replace_time_zone(None)).dt.total_minutes()
    shown = events.select(
        pl.col("item_id"), pl.Series("title", _titles(version, known, events["item_idx"].to_list()), pl.String),
        pl.col("local_time").dt.to_string("%Y-%m-%dT%H:%M:%S").alias("time"), offset_min.alias("utc_offset_minutes"),
        pl.col("latitude").cast(pl.Float64), pl.col("longitude").cast(pl.Float64),
        (pl.int_range(pl.len()) >= first_line).alias("has_line"),
    )  # fmt: skip
    return shown.to_dicts()


def _titles(version: CatalogueVersion, known: Histories, items: Sequence[int]) -> list[str]:
    """Titles of items, as prompts count them."""
    own = known.items["title"]
    return [
        str(own[item] if item < len(own) else version.items["title"][int(version.prompt_index_T[item])])
        for item in items
    ]


def _texts(tokens_L: Int32, ends: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """The text up to each end, behind the one before: tokens that make one letter together stay together."""
    whole = [tokenizer.decode(tokens_L[:end].tolist()) for end in ends]
    return [text[len(before) :] for before, text in zip(["", *whole], whole, strict=False)]


def _contexts(encoder: PromptEncoder, query: pl.DataFrame, num_lines: int) -> list[list[tuple[Field, str]]]:
    """For each of the last lines what stands before its title, by fields."""
    rows = query[-(num_lines + 1) :]  # a line may speak of the event before it
    whole = _rendered(encoder, rows)[-num_lines:]
    # A line may say the weather because a day begins: such words are gone without either, and are the weather's.
    without = {kind: _rendered(encoder.without([kind]), rows)[-num_lines:] for kind in reversed(CONTEXT_KINDS)}
    return [_fields(text, {kind: texts[line] for kind, texts in without.items()}) for line, text in enumerate(whole)]


def _rendered(encoder: PromptEncoder, rows: pl.DataFrame) -> list[str]:
    texts, index = encoder.context_texts(rows)
    return [texts[at] for at in index.to_list()]


def _fields(text: str, without: dict[Any, str]) -> list[tuple[Field, str]]:
    """The words of a text, those that are gone without a kind marked with it."""
    words = _WORDS.findall(text)
    kind_W = np.full(len(words), "text", object)
    for kind, rest in without.items():
        matcher = difflib.SequenceMatcher(None, words, _WORDS.findall(rest), autojunk=False)
        for change, start, end, _, _ in matcher.get_opcodes():
            if change in ("delete", "replace"):
                kind_W[start:end] = np.where(kind_W[start:end] == "text", kind, kind_W[start:end])
    fields: list[tuple[Field, str]] = []
    for word, kind in zip(words, kind_W.tolist(), strict=True):
        if fields and fields[-1][0] == kind:
            fields[-1] = (kind, fields[-1][1] + word)
        else:
            fields.append((kind, word))
    return fields


def _by_context(text: str, context: list[tuple[Field, str]]) -> list[tuple[Field, str]]:
    """A line by its fields; where the tokens say something else than the template (a letter the model lacks), whole."""
    said = "".join(words for _, words in context)
    if not text.startswith(said):
        return [("text", text)]
    rest = text[len(said) :]
    return [*context, ("title", rest)] if rest else context
