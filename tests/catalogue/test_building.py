"""Sorted token lists: as Python sorts them, however many tokens fit into a key."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue.building import common_prefix, places, sort_order
from whereupon.catalogue.tokens import Ragged

Lists = list[list[int]]

# Few tokens tie often; large ones leave space for only two to a key of 64 bits.
few = st.lists(st.integers(0, 2), max_size=9)
large = st.lists(st.sampled_from([0, 1, 2**20, 2**31 - 2, 2**31 - 1]), max_size=6)
token_lists = st.one_of(st.lists(few, max_size=20), st.lists(large, max_size=12))


def _shared(one: list[int], other: list[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@given(token_lists)
@settings(deadline=None)
def test_order_is_that_of_python_and_equal_lists_stay_in_place(lists: Lists) -> None:
    assert sort_order(Ragged.of(lists)).tolist() == sorted(range(len(lists)), key=lists.__getitem__)


def test_lists_that_differ_only_behind_the_first_keys_are_sorted() -> None:
    """Tokens up to 2 take two bits, of which 32 fit into a key."""
    shared = [1] * 32
    lists = [[*shared, *shared, 2], [*shared, 2], [*shared, *shared, 1], shared, [*shared, *shared]]
    assert sort_order(Ragged.of(lists)).tolist() == [3, 4, 2, 0, 1]


@given(st.lists(few, min_size=1), st.lists(few, min_size=1), st.data())
@settings(deadline=None)
def test_common_prefix_is_the_naive_one(one: Lists, other: Lists, data: st.DataObject) -> None:
    pair = st.tuples(st.integers(0, len(one) - 1), st.integers(0, len(other) - 1))
    pairs = data.draw(st.lists(pair, min_size=1, max_size=8))
    first, second = np.array(pairs).T
    found = common_prefix(Ragged.of(one), first, Ragged.of(other), second)
    assert found.tolist() == [_shared(one[a], other[b]) for a, b in pairs]


@given(st.lists(few, max_size=20), st.lists(few, max_size=8))
@settings(deadline=None)
def test_place_is_the_number_of_lists_that_come_before(lists: Lists, wanted: Lists) -> None:
    found = places(Ragged.of(sorted(lists)), Ragged.of(wanted))
    assert found.tolist() == [sum(one < other for one in lists) for other in wanted]


@given(st.lists(few), st.data())
@settings(deadline=None)
def test_kept_and_joined_lists_are_the_lists_themselves(lists: Lists, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(lists), max_size=len(lists)))
    ragged = Ragged.of(lists)
    part = ragged.keep(np.array(kept, bool))
    expected = [one for one, is_kept in zip(lists, kept, strict=True) if is_kept]
    for found, wanted in ((part, expected), (Ragged.join([ragged, part]), lists + expected), (Ragged.join([]), [])):
        assert [found.tokens[a:b].tolist() for a, b in zip(found.ptr[:-1], found.ptr[1:], strict=True)] == wanted
        assert (found.tokens.dtype, found.ptr.dtype, len(found)) == (np.int32, np.int64, len(wanted))
