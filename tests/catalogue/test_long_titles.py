"""One long title is cut, which is said; it takes a few tokens from prompts, however long it is."""

import re
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from whereupon.catalogue import encode_titles
from whereupon.catalogue.tokens import MAX_TITLE_TOKENS
from whereupon.prompts.settings import PromptSettings
from whereupon.prompts.windows import plan_windows
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


def events_shown(*titles: str) -> float:
    """Mean number of earlier events that prompts show of a user who chose only the first of these titles, of which any
    could be the answer."""
    length = encode_titles(pl.Series(titles), letters).length
    context_N, title_N = np.full(200, 13), np.full(200, int(length[0]))
    settings = PromptSettings(budget_tokens=1000, profile_tokens=200)
    windows = plan_windows(context_N, title_N, np.array([0, 200]), int(length.max()), 9, settings)
    num_W = windows.end_W - windows.target_W
    return float(np.average((windows.target_W + windows.end_W - 1) / 2 - windows.start_W, weights=num_W))


def test_one_long_title_takes_no_more_than_its_cut_length_from_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    without, long, longer = events_shown("Chair"), events_shown("Chair", "x" * 100), events_shown("Chair", "x" * 5000)
    assert long == longer
    assert 0 <= without - long <= MAX_TITLE_TOKENS / 20 + 1  # a line is of 20 tokens
    capsys.readouterr()
