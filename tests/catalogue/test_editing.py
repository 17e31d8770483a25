"""Edits: equal to a catalogue built from nothing, without tokenising or sorting what was there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue import Catalogue, CatalogueSettings, Trie, build_trie, unique_titles
from whereupon.catalogue.building import edit_trie
from whereupon.catalogue.tokens import Ragged
from whereupon.errors import CatalogueError

Titles = list[list[int]]
NONE = np.array([], np.int64)


def letters(texts: Sequence[str]) -> list[list[int]]:
    """A token a letter, whatever its case."""
    return [[ord(letter) for letter in text.lower()] for text in texts]


def items_of(titles: Sequence[str], ids: Sequence[str] | None = None, **columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"item_id": ids or [f"i{n}" for n in range(len(titles))], "title": titles, **columns})


def town() -> Catalogue:
    return Catalogue.build(items_of(["Bar", "Park", "Zoo"], stars=[3, 4, 5]), letters)


def assert_equal(found: Trie, expected: Trie) -> None:
    for name in expected.__dataclass_fields__:
        one, other = getattr(found, name), getattr(expected, name)
        assert (one.tolist(), one.dtype) == (other.tolist(), other.dtype), name


def assert_as_built(found: Catalogue) -> None:
    built = Catalogue.build(found.items, letters)
    assert_equal(found.trie, built.trie)
    assert found.fingerprint == built.fingerprint


# The trie

# One token ends every title, and few others make many share much.
titles_of_tokens = st.lists(
    st.lists(st.integers(1, 3), max_size=6).map(lambda title: (*title, 0)), min_size=1, max_size=24, unique=True
)


@given(titles_of_tokens, st.data())
@settings(deadline=None)
def test_edited_trie_equals_one_built_from_nothing(titles: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Any titles before and after, and any order of items after."""
    titles = data.draw(st.permutations(titles))
    before = data.draw(st.integers(1, len(titles)))
    old, new = [list(title) for title in titles[:before]], [list(title) for title in titles[before:]]
    kept = data.draw(st.lists(st.booleans(), min_size=before, max_size=before))
    stay = [item for item in range(before) if kept[item]]
    if not stay and not new:
        return
    # Titles that go may come back.
    new += [old[item] for item in range(before) if not kept[item] and data.draw(st.booleans())]
    index = data.draw(st.permutations(range(len(stay) + len(new))))
    index_I, index_M = np.full(before, -1), np.array(index[len(stay) :], np.int64)
    index_I[stay] = index[: len(stay)]
    after: Titles = [[] for _ in index]
    for item, tokens in zip(index, [old[item] for item in stay] + new, strict=True):
        after[item] = tokens
    assert_equal(edit_trie(build_trie(old), index_I, Ragged.of(new), index_M), build_trie(after))


@given(titles_of_tokens, st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), max_size=6))
@settings(deadline=None)
def test_edit_is_refused_exactly_where_building_is(old: list[tuple[int, ...]], new: Titles) -> None:
    def outcome(make: Callable[[], Trie]) -> str:
        try:
            make()
        except CatalogueError:
            return "refused"
        return "made"

    trie, everything = build_trie(old), [*map(list, old), *new]
    index_I, index_M = np.arange(len(old)), np.arange(len(old), len(everything))
    edited = outcome(lambda: edit_trie(trie, index_I, Ragged.of(new), index_M))
    assert edited == outcome(lambda: build_trie(everything))


def test_trie_without_any_item_is_refused() -> None:
    with pytest.raises(CatalogueError, match="The catalogue is empty"):
        edit_trie(build_trie([[1, 0]]), np.array([-1]), Ragged.of([]), NONE)


def test_new_title_without_tokens_is_refused_by_name() -> None:
    with pytest.raises(CatalogueError, match=r"^The title 'Bar' has no tokens"):
        edit_trie(build_trie([[1, 0]]), np.array([0]), Ragged.of([[]]), np.array([1]), ["Cafe", "Bar"])


# The catalogue


def test_added_items_come_last_and_get_titles_of_their_own() -> None:
    before = town()
    after = before.add(items_of(["Bar", "Cinema"], ["x", "y"]), letters)
    assert after.item_ids.to_list() == ["i0", "i1", "i2", "x", "y"]
    assert after.titles.to_list() == ["Bar", "Park", "Zoo", "Bar 2", "Cinema"]
    assert after.items["stars"].to_list() == [3, 4, 5, None, None]
    assert before.titles.to_list() == ["Bar", "Park", "Zoo"], "the catalogue itself does not change"
    assert_as_built(after)


def test_added_items_are_named_by_template_and_attributes() -> None:
    made = CatalogueSettings(title="{{ kind }}", title_attributes=["street"])
    new = pl.DataFrame({"item_id": ["x", "y"], "kind": ["Bar", "Bar"], "street": ["A", "B"]})
    after = town().add(new, letters, made)
    assert after.titles.to_list()[3:] == ["Bar (A)", "Bar (B)"]
    assert after.items["kind"].to_list() == [None, None, None, "Bar", "Bar"]


def test_only_new_titles_are_tokenised() -> None:
    seen: list[str] = []

    def encode(texts: Sequence[str]) -> list[list[int]]:
        seen.extend(texts)
        return letters(texts)

    after = town().add(items_of(["Cinema"], ["x"]), encode).remove(["i0"])
    after.replace(items_of(["Pub", "Zoo"], ["i1", "i2"]), encode)
    assert seen == [" Cinema\n", " Pub\n"]


def test_removed_items_are_gone_and_the_rest_moves_up() -> None:
    after = town().remove(["i1"])
    assert after.items.rows() == [("i0", "Bar", 3), ("i2", "Zoo", 5)]
    assert_as_built(after)
    assert_as_built(after.remove(pl.Series(["i2"])))


def test_replaced_items_stay_where_they_are_with_their_other_columns() -> None:
    after = town().replace(items_of(["Museum", "Bar"], ["i2", "i1"]), letters)
    assert after.items.rows() == [("i0", "Bar", 3), ("i1", "Bar 2", 4), ("i2", "Museum", 5)]
    assert_as_built(after)


def test_replaced_attribute_leaves_the_trie_as_it_is() -> None:
    after = town().replace(pl.DataFrame({"item_id": ["i1"], "stars": [1]}), letters)
    assert after.items.rows() == [("i0", "Bar", 3), ("i1", "Park", 1), ("i2", "Zoo", 5)]
    assert_as_built(after)


def test_replaced_title_may_be_the_number_it_already_has() -> None:
    catalogue = town().add(items_of(["Bar"], ["x"]), letters)
    assert catalogue.replace(items_of(["Bar"], ["x"]), letters).titles.to_list() == ["Bar", "Park", "Zoo", "Bar 2"]


def test_nothing_to_add_remove_or_replace_changes_nothing() -> None:
    none = items_of([], []).cast({"item_id": pl.String, "title": pl.String})
    for after in (town().add(none, letters), town().replace(none, letters), town().remove([])):
        assert after.items.rows() == town().items.rows()
        assert_as_built(after)


numbered = st.sampled_from(["Bar", "Bar 2", "Bar 3", "Bar 2 2", "Zoo", "2", "x Bar", "Bar (x)", "Bar (x) 2"])


@given(st.lists(numbered, min_size=1, max_size=8), st.lists(numbered, max_size=6), st.booleans())
@settings(deadline=None)
def test_titles_of_new_items_are_those_distinguished_from_all_others(
    old: list[str], new: list[str], with_attribute: bool
) -> None:
    made = CatalogueSettings(title_attributes=["town"] if with_attribute else [])
    towns = ["x" if n % 2 else "y" for n in range(len(new))]
    items = items_of(old).with_columns(pl.Series("title", unique_titles(items_of(old), CatalogueSettings())[0]))
    more = (
        items_of(new, [f"n{n}" for n in range(len(new))], town=towns)
        if new
        else items.head(0).with_columns(town="title")
    )
    after = Catalogue.build(items, letters).add(more, letters, made)
    expected, _ = unique_titles(more, made, dict(items.select("item_id", "title").iter_rows()))
    assert after.titles.to_list() == [*items["title"], *expected]


names = st.sampled_from(["Bar", "Park", "Zoo", "Pub", "Inn", "Spa"])


@given(st.lists(st.tuples(st.sampled_from("arx"), st.lists(names, max_size=4), st.integers(0, 99)), max_size=5))
@settings(deadline=None)
def test_any_edits_leave_what_would_be_built_and_rename_no_other(edits: list[tuple[str, list[str], int]]) -> None:
    catalogue, fresh = town(), iter(range(100))
    for kind, titles, seed in edits:
        before = dict(zip(catalogue.item_ids, catalogue.titles, strict=True))
        some = np.random.default_rng(seed).permutation(len(before))[: min(len(titles), len(before) - 1)]
        ids = catalogue.item_ids[some].to_list()
        if kind == "a":
            ids = [f"n{next(fresh)}" for _ in titles]
            catalogue = catalogue.add(items_of(titles, ids), letters) if titles else catalogue
        elif kind == "r":
            catalogue = catalogue.replace(items_of(titles[: len(ids)], ids), letters) if ids else catalogue
        else:
            catalogue = catalogue.remove(ids)
        others = catalogue.items.filter(~pl.col("item_id").is_in(ids))
        old = others.filter(pl.col("item_id").is_in(list(before)))
        assert all(before[item_id] == title for item_id, title in old.select("item_id", "title").iter_rows())
        assert catalogue.titles.n_unique() == len(catalogue.titles)
    assert_as_built(catalogue)


# Refusals


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c.remove(["i1", "?"]), r"^Item '\?' is not in the catalogue of 3 items; correct the ids\.$"),
        (lambda c: c.remove(list("abcde")), r"^Items 'a', 'b', 'c' and 2 more are not in the catalogue of 3 items"),
        (lambda c: c.remove(["i1", "i1"]), r"^Item 'i1' is given more than once; give every item an id of its own\.$"),
        (lambda c: c.remove(c.item_ids), r"^Taking out all 3 items would leave an empty catalogue, .* at least one"),
        (lambda c: c.replace(items_of(["A"], ["?"]), letters), r"^Item '\?' is not in the catalogue"),
        (lambda c: c.replace(items_of(["A", "B"], ["i1", "i1"]), letters), r"^Item 'i1' is given more than once"),
        (lambda c: c.add(items_of(["A", "B"], ["x", "x"]), letters), r"^Item 'x' is given more than once"),
        (lambda c: c.add(items_of(["A"], ["i1"]), letters), r"^Item 'i1' is in the catalogue already; replace them"),
        (lambda c: c.add(items_of(["BAR"], ["x"]), letters), r"^The titles 'Bar' and 'BAR' have the same tokens"),
        (lambda c: c.replace(items_of(["BAR"], ["i2"]), letters), r"^The titles 'Bar' and 'BAR' have the same tokens"),
        (lambda c: c.add(items_of(["A"], ["x"], stars=["x"]), letters), r"^The column 'stars' holds whole n"),
        (lambda c: c.add(pl.DataFrame({"title": ["A"]}), letters), r"^Expected an item_id for every item, as text"),
        (lambda c: Catalogue.build(items_of(["A", "B"], ["x", "x"]), letters), r"^Item 'x' is given more than once"),
        (lambda c: Catalogue.build(items_of(["A", "A"]), letters), r"^The titles 'A' and 'A' have the same tokens"),
        (lambda c: Catalogue.build(items_of(["A", None]), letters), r"^Expected a title for every item, as text"),  # type: ignore[list-item]
    ],
)  # fmt: skip
def test_edit_that_cannot_be_is_refused_in_one_sentence(edit: Callable[[Catalogue], Catalogue], said: str) -> None:
    with pytest.raises(CatalogueError, match=said):
        edit(town())


def test_fingerprint_is_the_hash_of_ids_and_titles_in_order() -> None:
    """Adapters remember it: it must never change for the same items."""
    assert town().fingerprint == "a4592dcd55fbcadfd0a9ce0194b88637874188e454f84af32652e0d286264c3a"


# Given titles, and titles that are made

BY_KIND = CatalogueSettings(title="{{ kind }}", title_attributes=["street"])


def shops() -> Catalogue:
    items = pl.DataFrame({"item_id": ["i0", "i1"], "title": ["Bar (A)", "Bar (B)"], "kind": ["Bar"] * 2,
                          "street": ["A", "B"]})  # fmt: skip
    return Catalogue.build(items, letters)


def test_given_title_wins_and_the_template_makes_the_others() -> None:
    new = pl.DataFrame({"item_id": ["x", "y", "z"], "title": ["Mill", None, " "], "kind": ["Pub", "Inn", "Spa"]})
    for after in (shops().add(new, letters, BY_KIND), shops().rebuild(new, letters, BY_KIND)):
        assert after.titles.to_list()[-3:] == ["Mill", "Inn", "Spa"]
        assert_as_built(after)


def test_item_without_title_and_columns_is_refused_and_with_a_title_needs_none() -> None:
    with pytest.raises(CatalogueError, match="should name columns of the items"):
        shops().add(pl.DataFrame({"item_id": ["x"]}), letters, BY_KIND)
    assert shops().add(items_of(["Bar"], ["x"]), letters, BY_KIND).titles.to_list() == ["Bar (A)", "Bar (B)", "Bar"]


def test_given_titles_are_distinguished_by_attributes_as_made_ones() -> None:
    new = items_of(["Pub", "Pub"], ["x", "y"], street=["A", "B"])
    assert shops().add(new, letters, BY_KIND).titles.to_list()[2:] == ["Pub (A)", "Pub (B)"]


def test_replaced_item_keeps_a_given_title_until_what_the_template_names_changes() -> None:
    with_given = shops().add(items_of(["Mill"], ["x"], kind=["Pub"]), letters, BY_KIND)
    moved = with_given.replace(pl.DataFrame({"item_id": ["x"], "street": ["C"]}), letters, BY_KIND)
    assert moved.titles.to_list()[2] == "Mill"
    same = with_given.replace(pl.DataFrame({"item_id": ["x"], "kind": ["Pub"]}), letters, BY_KIND)
    assert same.titles.to_list()[2] == "Mill"
    new = with_given.replace(pl.DataFrame({"item_id": ["x"], "kind": ["Spa"]}), letters, BY_KIND)
    assert new.titles.to_list()[2] == "Spa"
    both = with_given.replace(items_of(["Old Mill", None], ["x", "i0"], kind=["Spa", "Bar"]), letters, BY_KIND)  # type: ignore[list-item]
    assert both.titles.to_list() == ["Bar (A)", "Bar (B)", "Old Mill"]
    assert_as_built(both)


def test_title_that_the_template_names_is_a_column_like_any_other() -> None:
    made = CatalogueSettings(title="{{ title }} ({{ year }})")
    films = Catalogue.build(items_of(["Heat (1995)"], year=[1995]), letters)
    assert films.add(items_of(["Ran"], ["x"], year=[1985]), letters, made).titles.to_list()[1] == "Ran (1985)"
    kept = films.replace(pl.DataFrame({"item_id": ["i0"], "stars": [5]}), letters, made)
    assert kept.titles.to_list() == ["Heat (1995)"]
    assert films.replace(films.items, letters, made).titles.to_list() == ["Heat (1995)"]
    new = films.replace(items_of(["Heat"], year=[1996]), letters, made)
    assert new.titles.to_list() == ["Heat (1996)"]
    with pytest.raises(CatalogueError, match=r"title of the histories is needed too; add it for item 'i0'\.$"):
        films.replace(pl.DataFrame({"item_id": ["i0"], "year": [1996]}), letters, made)
