"""A prompt's text is read as the very tokens that it was made of, also where every cut matters."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.catalogue import Catalogue
from whereupon.histories import Histories
from whereupon.prompts import PromptEncoder, PromptSettings, encode_text

TITLES = ["Bar", "Old Bar", "Bar: Old", "x"]


class Triples:
    """A tokenizer of three letters each, counted from the start of a piece: each cut at another place shows."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        parts = ([text[at : at + 3] for at in range(0, len(text), 3)] for text in texts)
        return [[self.ids.setdefault(part, len(self.ids)) for part in each] for each in parts]

    def text(self, ids: Sequence[int]) -> str:
        known = list(self.ids)
        return "".join(known[i] for i in ids)


@pytest.mark.parametrize("template", ["plain", "checkins", "movies"])
@pytest.mark.parametrize("align_tokens", [1, 32])
def test_text_of_every_prompt_is_read_as_its_tokens(
    make_histories: Callable[..., Histories], template: str, align_tokens: int
) -> None:
    rng, start = np.random.default_rng(1), datetime(2024, 1, 1)
    rows: list[dict[str, Any]] = [
        {"user": "Ada", "at": (start + timedelta(hours=7 * n)).isoformat(), "item": int(rng.integers(4))}
        for n in range(60)
    ]
    histories, triples = make_histories(rows, 4), Triples()
    items = histories.items.with_columns(pl.Series("title", TITLES))
    settings = PromptSettings(
        template=template, budget_tokens=300, profile_tokens=80, align_tokens=align_tokens
    )  # fmt: skip
    encoder = PromptEncoder.build(settings, Catalogue.build(items, triples), triples, histories.location)
    text = encoder.text(histories.events, 1)
    seen = 0
    for window in text.encode_windows(text.windows):
        for end in window.title_start_V:
            tokens = window.tokens_L[:end].tolist()
            assert encode_text(encoder, triples.text(tokens), items["title"]) == tokens
            seen += 1
    assert seen >= len(rows)


@pytest.mark.parametrize("text", ["", "\n", "day", "day\n", " ", "a  b \n\n", "What one person chose"])
def test_other_text_is_read_too(make_histories: Callable[..., Histories], text: str) -> None:
    histories, triples = make_histories([{"user": "Ada", "at": "2024-01-01T10:00", "item": 0}], 1), Triples()
    catalogue = Catalogue.build(histories.items, triples)
    encoder = PromptEncoder.build(PromptSettings(), catalogue, triples, histories.location)
    assert triples.text(encode_text(encoder, text, catalogue.titles)) == text
