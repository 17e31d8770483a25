"""Co-occurrence in blocks, and products with rows that are made when they are needed, against loops."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.histories import Histories
from whereupon.rankers import cooccurrence
from whereupon.rankers.cooccurrence import Choices, spread

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
NUM_ITEMS = 5


def test_choices_are_distinct_and_of_earlier_splits(town: Histories) -> None:
    choices = Choices.of(town, "test")  # Ann A B, Bob B C, Cyd A B C
    assert choices.offset_U1.tolist() == [0, 2, 4, 7, 7]
    assert choices.user_item_P.tolist() == [0, 1, 1, 2, 0, 1, 2]
    assert choices.item_user_P.tolist() == [0, 2, 0, 1, 2, 1, 2]
    assert choices.num_users_I.tolist() == [2, 3, 2, 0, 0]


@given(
    ticks=st.lists(st.tuples(st.integers(0, 4), st.integers(0, NUM_ITEMS - 1), st.integers(0, 20)), min_size=1),
    cells=st.integers(1, 30),
    pairs=st.integers(1, 30),
)
def test_blocks_count_users_of_both_items(build: Build, with_splits: Any, ticks: Any, cells: int, pairs: int) -> None:
    histories = build(with_splits(ticks), NUM_ITEMS)
    sets: dict[int, set[int]] = {}
    for user, item, tick in ticks:
        if tick < 18:
            sets.setdefault(user, set()).add(item)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "_CELLS", cells)
        patch.setattr(cooccurrence, "_PAIRS", pairs)
        blocks = list(Choices.of(histories, "test").counts())
    found = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for item_X, other_X, count_X in blocks:
        assert (count_X > 0).all()
        assert (np.diff(item_X * NUM_ITEMS + other_X) > 0).all()
        found[item_X, other_X] += count_X
    expected = [[sum({i, j} <= s for s in sets.values()) for j in range(NUM_ITEMS)] for i in range(NUM_ITEMS)]
    assert found.tolist() == expected


@pytest.mark.parametrize("cells", [1, 14, 1000])
def test_spread_is_a_matrix_product_and_makes_only_rows_that_occur(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "_CELLS", cells)
    rng = np.random.default_rng(0)
    weight_QI, matrix_II = rng.random((4, 7)), rng.random((7, 7))
    weight_QI[:, [2, 5]] = 0
    asked: list[int] = []

    def rows_of(item_H: Any) -> Any:
        asked.extend(item_H.tolist())
        assert len(item_H) * 7 <= max(cells, 7)
        return matrix_II[item_H]

    assert spread(weight_QI, rows_of) == pytest.approx(weight_QI @ matrix_II)
    assert asked == [0, 1, 3, 4, 6]
    assert spread(np.zeros((2, 7)), rows_of).tolist() == np.zeros((2, 7)).tolist()
