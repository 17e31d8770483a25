"""Subsets by row ranges: by hand, and against slices of the mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.catalogue import Subset, Trie, build_trie
from whereupon.errors import CatalogueError


def _trie(order: list[int]) -> Trie:
    """Titles of one token and a terminator; item i has the token order[i], so its row is order[i]."""
    return build_trie([[token + 1, 0] for token in order])


orders = st.integers(1, 40).flatmap(lambda n: st.permutations(range(n)))


def test_allowed_items_are_counted_in_the_order_of_rows() -> None:
    trie = _trie([2, 0, 3, 1])  # rows hold items 1, 3, 0, 2
    subset = Subset.of(trie, np.array([True, False, False, True]), "by hand")
    assert subset.before.tolist() == [0, 0, 1, 2, 2]
    assert subset.before.dtype == np.int32
    assert (subset.num_allowed, subset.reason) == (2, "by hand")
    assert subset.any_in(np.array([0, 0, 1, 3, 2]), np.array([1, 2, 3, 4, 2])).tolist() == [
        False, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("allowed", [True, False])
def test_catalogue_of_one_item_is_allowed_or_not(allowed: bool) -> None:
    subset = Subset.of(_trie([0]), np.array([allowed]))
    assert subset.num_allowed == allowed
    assert subset.any_in(np.array([0]), np.array([1])).tolist() == [allowed]


@given(orders, st.data())
def test_ranges_lead_somewhere_exactly_where_a_slice_of_the_mask_does(order: list[int], data: st.DataObject) -> None:
    size = len(order)
    allowed = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    ends = data.draw(st.lists(st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted), max_size=12))
    lo, hi = (np.array([pair[side] for pair in ends], np.int64) for side in (0, 1))
    trie = _trie(order)
    subset = Subset.of(trie, np.array(allowed))
    by_row = [allowed[item] for item in trie.item_of_row_I]
    assert subset.any_in(lo, hi).tolist() == [any(by_row[a:b]) for a, b in zip(lo, hi, strict=True)]
    assert subset.num_allowed == sum(allowed)


@pytest.mark.parametrize(
    ("mask", "found"),
    [(np.ones(3, bool), r"bool \[3\]"), (np.ones(2, np.int64), r"int64 \[2\]"), (np.ones((2, 1), bool), r"\[2, 1\]")],
)
def test_mask_of_another_catalogue_is_refused(mask: np.ndarray, found: str) -> None:
    with pytest.raises(
        CatalogueError, match=rf"bool \[2\] or \[Q, 2\], but is .*{found}; make it one of this catalogue\.$"
    ):
        Subset.of(_trie([0, 1]), mask)


@given(orders, st.integers(0, 4), st.data())
def test_subsets_are_a_subset_for_each_question(order: list[int], num: int, data: st.DataObject) -> None:
    trie, size = _trie(order), len(order)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    allowed_QI = random.random((num, size)) < 0.3
    subsets = Subset.of(trie, allowed_QI)
    each = [Subset.of(trie, allowed_I) for allowed_I in allowed_QI]
    assert subsets.num_allowed == max((one.num_allowed for one in each), default=0)
    lo_X, hi_X = np.sort(random.integers(0, size + 1, (2, 20 * num)), axis=0)
    query_X = np.repeat(np.arange(num), 20)
    expected = [bool(each[q].any_in(lo, hi)) for q, lo, hi in zip(query_X, lo_X, hi_X, strict=True)]
    assert subsets.any_in(lo_X, hi_X, query_X).tolist() == expected


def test_subsets_of_another_catalogue_are_refused() -> None:
    with pytest.raises(
        CatalogueError, match=r"bool \[3\] or \[Q, 3\], but is bool \[2, 4\]; make it one of this catalogue"
    ):
        Subset.of(_trie([0, 1, 2]), np.ones((2, 4), bool))
