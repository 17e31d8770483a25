"""Titles: unique, visible, stable."""

import unicodedata
from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from whereupon.catalogue import CatalogueSettings, unique_titles
from whereupon.errors import CatalogueError


def named(titles: Sequence[str | None], ids: Sequence[str] | None = None, **columns: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"item_id": ids or [f"i{n}" for n in range(len(titles))], "title": titles, **columns},
        schema_overrides={"item_id": pl.String, "title": pl.String},
    )


def titles_of(items: pl.DataFrame, previous: dict[str, str] | None = None, **settings: object) -> list[str]:
    return unique_titles(items, CatalogueSettings.model_validate(settings), previous)[0]


def test_equal_titles_are_numbered_in_order_of_rows() -> None:
    assert titles_of(named(["Bar", "Zoo", "Bar", "Bar"])) == ["Bar", "Zoo", "Bar 2", "Bar 3"]


def test_number_that_is_taken_is_skipped() -> None:
    assert titles_of(named(["Bar", "Bar", "Bar 2", "Bar"])) == ["Bar", "Bar 3", "Bar 2", "Bar 4"]
    assert titles_of(named(["Bar 2", "Bar 2", "Bar", "Bar"])) == ["Bar 2", "Bar 2 2", "Bar", "Bar 3"]


def test_attributes_come_before_numbers() -> None:
    items = named(["Bar", "Bar", "Bar", "Zoo", "Bar"], town=["Ulm", "Bonn", "Ulm", "Ulm", ""])
    expected = ["Bar (Ulm)", "Bar (Bonn)", "Bar (Ulm) 2", "Zoo", "Bar"]
    assert titles_of(items, title_attributes=["town"]) == expected


def test_attribute_that_distinguishes_nothing_is_not_shown() -> None:
    items = named(["Bar", "Bar"], town=["Ulm", "Ulm"], street=["A", "B"])
    assert titles_of(items, title_attributes=["town", "street"]) == ["Bar (A)", "Bar (B)"]


def test_unicode_forms_are_one_title_and_case_is_two() -> None:
    composed, decomposed = "Café", unicodedata.normalize("NFD", "Café")
    items = named([composed, decomposed, "café"])
    titles, counts = unique_titles(items, CatalogueSettings())
    assert titles == ["Café", "Café 2", "café"]
    assert counts["cleaned"] == 1


def test_control_characters_become_spaces_and_are_counted() -> None:
    items = named(["Bar\nRoma", " Zoo\t\x00 ", "Kino\u2028Eins", "x\u00a0y", "fine"])
    titles, counts = unique_titles(items, CatalogueSettings())
    assert titles == ["Bar Roma", "Zoo", "Kino Eins", "x y", "fine"]
    assert counts["cleaned"] == 4


def test_marks_of_direction_become_spaces_and_a_title_in_arabic_stays() -> None:
    items = named(["Bar \u202egpj.exe", "\u2067Zoo\u2069", "\u0645\u0642\u0647\u0649"])
    titles, counts = unique_titles(items, CatalogueSettings())
    assert titles == ["Bar gpj.exe", "Zoo", "\u0645\u0642\u0647\u0649"]
    assert counts["cleaned"] == 2


def test_empty_titles_fall_back_to_the_id_and_are_counted() -> None:
    titles, counts = unique_titles(named(["", None, "\n\u200b", "i0"]), CatalogueSettings())
    assert titles == ["i0", "i1", "i2", "i0 2"]
    assert counts["empty, item_id taken"] == 3


def test_items_without_titles_are_called_by_their_id() -> None:
    assert titles_of(pl.DataFrame({"item_id": ["a", "b"]})) == ["a", "b"]


def test_template_sees_columns_and_empty_cells_as_empty_text() -> None:
    items = pl.DataFrame({"item_id": ["a", "b"], "kind": ["Bar", None], "stars": [3, None]})
    assert titles_of(items, title="{{ kind }} {{ stars }}") == ["Bar 3", "b"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ kind", "is no Jinja template"),
        ("{{ name }}", r"should name columns of the items \(item_id, title\) but 'name' is undefined"),
        ("{{ title / 2 }}", "cannot be rendered"),
        ("{{ title.__class__.__mro__ }}", "unsafe|undefined"),
        ("{% for n in range(10**9) %}x{% endfor %}", "cannot be rendered"),
    ],
)
def test_template_that_fails_is_one_sentence(template: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        titles_of(named(["Bar"]), title=template)


def test_unknown_attribute_is_named() -> None:
    with pytest.raises(CatalogueError, match="title_attributes names 'town', but items have only item_id, title"):
        titles_of(named(["Bar"]), title_attributes=["town"])


def test_earlier_titles_stay_when_items_are_added_before_them() -> None:
    previous = {"a": "Bar", "b": "Bar 2"}
    items = named(["Bar", "Bar", "Bar"], ["new", "b", "a"])
    assert titles_of(items, previous) == ["Bar 3", "Bar 2", "Bar"]


def test_earlier_title_stays_when_an_attribute_could_now_distinguish_it() -> None:
    items = named(["Bar", "Bar"], ["a", "new"], town=["Ulm", "Bonn"])
    assert titles_of(items, {"a": "Bar"}, title_attributes=["town"]) == ["Bar", "Bar (Bonn)"]


def test_corrected_name_replaces_the_earlier_title() -> None:
    titles, counts = unique_titles(named(["Bar"], ["a"]), CatalogueSettings(), {"a": "Brr"})
    assert titles == ["Bar"]
    assert (counts["kept"], counts["renamed"]) == (0, 1)


def test_title_of_a_removed_item_goes_to_no_other() -> None:
    assert titles_of(named(["Bar"], ["new"]), {"gone": "Bar"}) == ["Bar 2"]


NAMES = st.lists(st.sampled_from(["Bar", "Bar 2", "Bar 3", "Bar (x)", "Bar (x) 2", "Zoo", ""]), max_size=12)


@limits(deadline=None)
@given(NAMES, NAMES, st.randoms(use_true_random=False), st.booleans())
def test_titles_are_always_unique_and_additions_rename_no_other(
    old: list[str], new: list[str], random: object, with_attribute: bool
) -> None:
    settings = CatalogueSettings(title_attributes=["town"] if with_attribute else [])
    everything = named(old + new, town=["x" if n % 2 else "y" for n in range(len(old) + len(new))])
    before = everything.head(len(old))
    first, _ = unique_titles(before, settings)
    assert len(set(first)) == len(first)
    previous = dict(zip(before["item_id"], first, strict=True))
    order = list(range(everything.height))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = everything[order]
    second, _ = unique_titles(shuffled, settings, previous)
    assert len(set(second)) == len(second)
    found = dict(zip(shuffled["item_id"], second, strict=True))
    assert {item_id: found[item_id] for item_id in previous} == previous
