"""Titles on their way to tokens: in batches, with a bar where it takes a while."""

from collections.abc import Sequence

import polars as pl
import pytest

from whereupon import console
from whereupon.catalogue import tokens
from whereupon.catalogue.tokens import encode_titles


def _letters(texts: Sequence[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def test_titles_are_encoded_as_they_stand_in_a_prompt() -> None:
    found = encode_titles(pl.Series(["Bar", "{}"]), _letters)
    assert found.tokens.tolist() == [ord(letter) for letter in " Bar\n {}\n"]
    assert found.ptr.tolist() == [0, 5, 9]


def test_batches_are_joined_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    titles, sizes = pl.Series([f"{n}" * (n % 3) for n in range(11)]), []

    def encode(texts: Sequence[str]) -> list[list[int]]:
        sizes.append(len(texts))
        return _letters(texts)

    whole = encode_titles(titles, _letters)
    monkeypatch.setattr(tokens, "BATCH_TITLES", 4)
    parts = encode_titles(titles, encode)
    assert sizes == [4, 4, 3]
    assert (parts.tokens.tolist(), parts.ptr.tolist()) == (whole.tokens.tolist(), whole.ptr.tolist())


def test_no_titles_are_no_tokens() -> None:
    found = encode_titles(pl.Series([], dtype=pl.String), _letters)
    assert (found.tokens.tolist(), found.ptr.tolist()) == ([], [0])


def test_columns_with_empty_chunks_are_encoded() -> None:
    """Edits leave such columns, and polars 2.1 panics at some of what one would do with them."""
    filtered = pl.concat([pl.Series(["Bar"]), pl.Series(["Zoo"])]).filter(pl.Series([True, False]))
    titles = pl.concat([filtered, pl.Series(["Park"])])
    assert [len(chunk) for chunk in titles.get_chunks()] == [1, 0, 1]
    assert encode_titles(titles, _letters).ptr.tolist() == [0, 5, 11]


def test_bar_is_shown_for_many_titles_only_and_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode_titles(pl.Series(["Bar"] * 9), _letters)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(tokens, "BAR_FROM_TITLES", 9)
    monkeypatch.setattr(console.talk, "_force_terminal", True)
    encode_titles(pl.Series(["Bar"] * 9), _letters)
    out, err = capsys.readouterr()
    assert out == ""
    assert "tokenising titles" in err
