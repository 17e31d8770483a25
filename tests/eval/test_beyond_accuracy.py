import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval.beyond_accuracy import coverage, earlier_counts, gini, list_metrics, list_metrics_per_event
from whereupon.eval.rankings import Rankings
from whereupon.histories import Histories
from whereupon.histories.distance import EARTH_RADIUS_KM

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
A, B, C, D, E = range(5)
KM = 180 / math.pi / EARTH_RADIUS_KM  # degrees of a kilometre on a meridian


def _rankings(rows: list[int], items: list[list[int]]) -> Rankings:
    k = max(len(one) for one in items)
    item_EK = np.array([[*one, *[-1] * (k - len(one))] for one in items], np.int32)
    score_EK = np.where(item_EK < 0, -np.inf, -np.arange(k, dtype=np.float64))
    return Rankings(np.array(rows), np.zeros(len(rows), np.int64), item_EK, score_EK)


def _located(histories: Histories, **columns: list[object]) -> Histories:
    return replace(histories, items=histories.items.with_columns(pl.Series(name, one) for name, one in columns.items()))


def test_counts_of_earlier_splits_leave_test_events_out(town: Histories) -> None:
    assert earlier_counts(town, "test").tolist() == [3, 3, 2, 0, 0]


def test_novelty_of_hand_derived_lists_is_in_bits(town: Histories) -> None:
    """8 events and one more for each of 5 items: A has 4 of 13, E 1 of 13."""
    found = list_metrics(_rankings([3, 6], [[A, E], [A]]), town, "test", k=2)
    each = list_metrics_per_event(_rankings([3, 6], [[A, E], [A]]), town, "test", k=2)
    a, e = math.log2(13 / 4), math.log2(13 / 1)
    assert each["novelty@2"] == pytest.approx([(a + e) / 2, a])
    assert found["novelty@2"] == pytest.approx(((a + e) / 2 + a) / 2)
    assert each["popularity@2"] == pytest.approx([1.5, 3])


def test_only_the_first_k_items_count(town: Histories) -> None:
    long, short = (_rankings([3], [items]) for items in ([A, B, C, D], [A, B]))
    assert list_metrics(long, town, "test", k=2) == list_metrics(short, town, "test", k=2)


@pytest.mark.parametrize("k", [0, 3])
def test_cutoff_that_the_lists_do_not_hold_is_refused(town: Histories, k: int) -> None:
    with pytest.raises(ValueError, match="k should be from 1 to the 2 items"):
        list_metrics(_rankings([3], [[A, B]]), town, "test", k=k)


def test_items_without_category_and_coordinates_have_no_such_metrics(town: Histories) -> None:
    found = list_metrics(_rankings([3], [[A, B]]), town, "test", k=2)
    each = list_metrics_per_event(_rankings([3], [[A, B]]), town, "test", k=2)
    assert set(each) == {"novelty@2", "popularity@2"}
    assert set(found) == {"novelty@2", "popularity@2", "coverage@2", "Gini@2", "popularity-lift@2"}
    empty = _located(town, category=[None] * 5, latitude=[None] * 5, longitude=[1.0] * 5)
    assert set(list_metrics(_rankings([3], [[A, B]]), empty, "test", k=2)) == set(found)


def test_category_diversity_is_the_share_of_pairs_that_differ(town: Histories) -> None:
    shops = _located(town, category=["bar", "bar", "gym", None, ""])
    found = list_metrics(_rankings([3, 6, 9], [[A, B, C], [A, C, D], [A, D, E]]), shops, "test", k=3)
    each = list_metrics_per_event(_rankings([3, 6, 9], [[A, B, C], [A, C, D], [A, D, E]]), shops, "test", k=3)
    assert each["category-diversity@3"] == pytest.approx([2 / 3, 1, math.nan], nan_ok=True)
    assert found["category-diversity@3"] == pytest.approx(5 / 6), "the list without a known pair does not count"


def test_distances_of_hand_derived_places(town: Histories) -> None:
    """A, B, C stand 1 and 3 km north of each other; D's place is not known. Row 3 is Ann's visit of B, 6 Bob's of C."""
    places = _located(town, latitude=[0.0, 1 * KM, 4 * KM, None, 0.0], longitude=[0.0] * 4 + [180.0])
    rankings = _rankings([3, 6, 10, 12], [[A, B, C], [C, D], [C], [D, A]])  # Cyd's visit of D, Dan's second, of A
    assert [places.events["item_id"][row] for row in (3, 6, 10, 12)] == ["item-1", "item-2", "item-3", "item-0"]
    found = list_metrics(rankings, places, "test", k=3)
    each = list_metrics_per_event(rankings, places, "test", k=3)
    assert each["km-diversity@3"] == pytest.approx([(1 + 4 + 3) / 3, *[math.nan] * 3], nan_ok=True)
    assert each["mean-km"] == pytest.approx([1, 0, math.nan, math.nan], nan_ok=True, abs=1e-9)
    assert found["mean-km"] == pytest.approx(0.5)
    assert found["median-km"] == pytest.approx(0.5)


def test_share_within_a_kilometre_leaves_unknown_distances_out(town: Histories) -> None:
    places = _located(town, latitude=[0.0, 0.9 * KM, 1.1 * KM, None, 0.0], longitude=[0.0] * 5)
    found = list_metrics(_rankings([3, 6, 12], [[A], [A], [D]]), places, "test", k=1)  # 0.9 km, 1.1 km, unknown
    each = list_metrics_per_event(_rankings([3, 6, 12], [[A], [A], [D]]), places, "test", k=1)
    assert each["within-1km"] == pytest.approx([1, 0, math.nan], nan_ok=True)
    assert found["within-1km"] == pytest.approx(0.5)


def test_event_without_a_list_is_unknown_throughout(town: Histories) -> None:
    places = _located(town, category=["bar"] * 5, latitude=[0.0] * 5, longitude=[0.0] * 5)
    found = list_metrics(_rankings([3, 6], [[], [A, B]]), places, "test", k=2)
    assert not any(math.isnan(value) for value in found.values())


def test_no_events_give_no_values_quietly(town: Histories) -> None:
    nothing = Rankings(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2), np.int32), np.empty((0, 2)))
    places = _located(town, category=["bar"] * 5, latitude=[0.0] * 5, longitude=[0.0] * 5)
    found = list_metrics(nothing, places, "test", k=2)
    assert found.pop("coverage@2") == 0
    assert all(math.isnan(value) for value in found.values())


def test_coverage_is_the_share_of_items_that_are_ever_listed() -> None:
    assert coverage(np.array([[0, 1], [1, -1]], np.int32), 4) == 0.5
    assert math.isnan(coverage(np.empty((0, 2), np.int32), 0))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([[0], [1], [2], [3]], 0.0),  # each once
        ([[2], [2]], 3 / 4),  # one of four takes all
        ([[0, 1], [0, -1]], (-3 * 0 - 1 * 0 + 1 * 1 + 3 * 2) / (4 * 3)),  # counts 0, 0, 1, 2
    ],
)
def test_gini_of_hand_derived_counts(items: list[list[int]], expected: float) -> None:
    assert gini(np.array(items, np.int32), 4) == pytest.approx(expected)


def test_popularity_lift_of_hand_derived_lists(build: Build) -> None:
    """Ann's past is A A B (popularity 3, 3, 1), Bob's A: they are shown items of popularity 1 and 3 on average."""
    train = [(0, A, 1, "train"), (0, A, 2, "train"), (0, B, 3, "train"), (1, A, 4, "train")]
    histories = build([*train, (0, C, 9, "test"), (0, C, 10, "test"), (1, C, 9, "test"), (2, C, 9, "test")], 3)
    rankings = _rankings([3, 4, 6, 7], [[B], [B], [A], [A]])
    ann, bob = (7 / 3 + 7 / 4) / 2, 3.0  # before her second event, Ann's past has C, too, which no user had in train
    found = list_metrics(rankings, histories, "test", k=1)["popularity-lift@1"]
    assert found == pytest.approx(((1 + 3) / 2) / ((ann + bob) / 2) - 1), "user 2 has no past to compare with"


def test_popularity_lift_of_histories_that_no_user_shared_is_nan(build: Build) -> None:
    histories = build([(0, A, 1, "train"), (1, B, 8, "test"), (1, C, 9, "test")], 3)
    assert math.isnan(list_metrics(_rankings([2], [[A]]), histories, "test", k=1)["popularity-lift@1"])


@settings(deadline=None)
@given(st.data())
def test_pairs_equal_going_through_each_list(build: Build, data: st.DataObject) -> None:
    num_items, k = 6, 4
    names = data.draw(st.lists(st.sampled_from(["bar", "gym", None]), min_size=num_items, max_size=num_items))
    lists = data.draw(st.lists(st.lists(st.integers(0, 5), max_size=k, unique=True), min_size=1, max_size=5))
    lists[0] = (lists[0] + [i for i in range(num_items) if i not in lists[0]])[:k]  # one at least is as long as can be
    rows = [(0, 0, time, "train" if time == 0 else "test") for time in range(len(lists) + 1)]
    histories = _located(build(rows, num_items), category=names)
    found = list_metrics(_rankings(list(range(1, len(lists) + 1)), lists), histories, "test", k=k)
    each = list_metrics_per_event(_rankings(list(range(1, len(lists) + 1)), lists), histories, "test", k=k)
    if not any(names):
        assert "category-diversity@4" not in found
        return
    expected = []
    for items in lists:
        pairs = [(names[i], names[j]) for i, j in combinations(items, 2) if names[i] and names[j]]
        expected.append(sum(a != b for a, b in pairs) / len(pairs) if pairs else math.nan)
    assert each["category-diversity@4"] == pytest.approx(expected, nan_ok=True)
