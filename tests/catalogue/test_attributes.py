"""Attributes: one kind of value in each column, whichever way items come."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from whereupon.catalogue import Catalogue, items_table
from whereupon.errors import CatalogueError


def letters(texts: Sequence[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def holding(name: str, values: Sequence[Any], dtype: Any = None) -> Catalogue:
    """A catalogue of as many items as values in one column."""
    ids = [f"i{n}" for n in range(len(values))]
    items = pl.DataFrame({"item_id": ids, "title": ids, name: pl.Series(values, dtype=dtype)})
    return Catalogue.build(items, letters)


def added(catalogue: Catalogue, *values: Any, name: str = "flag", is_text: bool = False) -> pl.Series:
    rows = [{"item_id": f"x{n}", "title": f"X{n}", name: value} for n, value in enumerate(values)]
    after = catalogue.add(items_table(rows), letters, is_text=is_text)
    return after.items[name] if name in after.items.columns else pl.Series(name, [], dtype=pl.Null)


def refused(catalogue: Catalogue, *values: Any, name: str = "flag", is_text: bool = False) -> str:
    with pytest.raises(CatalogueError) as caught:
        added(catalogue, *values, name=name, is_text=is_text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


KINDS = {"true or false": True, "text": "red", "numbers": 1.5, "times": datetime(2024, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize("held", KINDS)
@pytest.mark.parametrize("sent", KINDS)
def test_value_of_another_kind_is_refused_and_named(held: str, sent: str) -> None:
    catalogue = holding("flag", [KINDS[held]])
    if held == sent:
        assert added(catalogue, KINDS[sent]).to_list() == [KINDS[held], KINDS[sent]]
        return
    said = refused(catalogue, None, KINDS[sent])
    assert f"'flag' holds {held} in the catalogue" in said
    assert "item 'x1'" in said
    with pytest.raises(CatalogueError, match=r"'flag' holds"):
        catalogue.replace(items_table([{"item_id": "i0", "flag": KINDS[sent]}]), letters)


@pytest.mark.parametrize("held", KINDS)
@pytest.mark.parametrize("sent", KINDS)
def test_two_kinds_in_one_request_are_refused(held: str, sent: str) -> None:
    if held == sent:
        return
    said = refused(holding("other", [1]), KINDS[held], KINDS[sent])
    assert f"'flag' begins with {held}" in said
    assert "item 'x1'" in said


def test_column_keeps_the_kind_of_its_first_value() -> None:
    one = holding("other", [1]).add(items_table([{"item_id": "x", "title": "X", "flag": "x"}]), letters)
    assert "holds text" in refused(one.remove(["i0"]).rebuild(one.items, letters), True, name="flag")


def test_column_without_a_value_so_far_takes_the_kind_of_the_first() -> None:
    for dtype in (pl.String, pl.Null):
        nothing = holding("flag", [None, None], dtype)
        assert added(nothing, True).to_list() == [None, None, True]
        assert added(nothing, 1.5, None).to_list() == [None, None, 1.5, None]
        after = nothing.replace(items_table([{"item_id": "i1", "flag": True}]), letters)
        assert after.items["flag"].to_list() == [None, True]


def test_no_value_fits_any_column_and_makes_no_new_one() -> None:
    assert added(holding("flag", [True]), None).to_list() == [True, None]
    assert added(holding("other", [True]), None).to_list() == []


def test_whole_number_fits_fractions_and_a_fraction_without_remainder_whole_numbers() -> None:
    assert added(holding("flag", [1.5]), 2).to_list() == [1.5, 2.0]
    whole = added(holding("flag", [1]), 2.0)
    assert (whole.to_list(), whole.dtype) == ([1, 2], pl.Int64)
    assert "item 'x1' has the number 2.5; give it whole numbers" in refused(holding("flag", [1]), 2.0, 2.5)
    for beyond in (2.0**63, -(2.0**80), float("nan"), float("inf")):
        assert "holds whole numbers" in refused(holding("flag", [1]), beyond)
    assert "holds whole numbers" in refused(holding("flag", [1], pl.UInt8), -1.0)


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_column_without_a_name_is_refused(name: str) -> None:
    for value in ("x", True, None):
        row = {"item_id": "x", "title": "X", name: value}
        for edit in (holding("other", [1]).add, holding("other", [1]).rebuild):
            with pytest.raises(CatalogueError, match="has no name"):
                edit(items_table([row]), letters)


@pytest.mark.parametrize(
    ("held", "text", "read"),
    [
        ([True], " False ", False),
        ([3], "4", 4),
        ([3], "4.0", 4),
        ([3], str(2**62 + 1), 2**62 + 1),
        ([1.5], "2", 2.0),
        (["red"], "7", "7"),
        ([datetime(2024, 1, 1, tzinfo=UTC)], "2024-02-01T00:00:00Z", datetime(2024, 2, 1, tzinfo=UTC)),
        ([datetime(2024, 1, 1)], "2024-02-01", datetime(2024, 2, 1)),
        ([datetime(2024, 1, 1).date()], "2024-02-01", datetime(2024, 2, 1).date()),
    ],
)
def test_text_of_a_file_is_read_as_what_the_column_holds(held: list[Any], text: str, read: Any) -> None:
    catalogue = holding("flag", held)
    found = added(catalogue, None, text, is_text=True)
    assert (found.to_list(), found.dtype) == ([*held, None, read], catalogue.items["flag"].dtype)
    if not isinstance(held[0], str):
        assert "the text 'abc'" in refused(catalogue, text, "abc", is_text=True)
        assert "item 'x0'" in refused(catalogue, text, is_text=False), "text is another kind where cells have kinds"


def test_column_of_lists_takes_no_text() -> None:
    assert "holds List in the catalogue" in refused(holding("flag", [["a"]]), "a")
