"""One long title is cut, which is said; it shortens no prompt."""

import re
from collections.abc import Sequence

import polars as pl
import pytest

from whereupon.catalogue import encode_titles
from whereupon.catalogue.tokens import MAX_TITLE_TOKENS
from whereupon.tests.texts import says


def letters(texts: Sequence[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def test_long_title_keeps_its_begin_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    titles = pl.Series(["Chair", "x" * 70 + " 2", "y" * (MAX_TITLE_TOKENS - 2)])
    lists = encode_titles(titles, letters)
    assert lists.length.tolist() == [7, MAX_TITLE_TOKENS, MAX_TITLE_TOKENS]
    text = "".join(map(chr, lists.tokens.tolist()))
    assert text[:7] == " Chair\n"
    assert text[7 : 7 + MAX_TITLE_TOKENS] == " " + "x" * (MAX_TITLE_TOKENS - 4) + " 2\n"
    capsys.readouterr()


def test_cut_titles_are_counted_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    encode_titles(pl.Series(["Chair", "x" * 300]), letters)
    words = " ".join(capsys.readouterr().err.split())
    assert re.search(says("1 of 2", str(MAX_TITLE_TOKENS), "302"), words)
    encode_titles(pl.Series(["Chair"]), letters)
    assert capsys.readouterr().err == ""
