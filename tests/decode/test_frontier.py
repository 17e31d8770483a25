"""What a frontier holds: the bound of its reserve, and what it takes for the next round."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from whereupon.decode.entries import LOWEST
from whereupon.decode.frontier import top_k_bound, worth_expanding


@given(st.lists(st.lists(st.integers(-50, 0), min_size=9, max_size=90), min_size=1, max_size=4), st.integers(1, 2))
def test_bound_of_every_stretch_is_a_value_of_its_own_with_enough_above(values: list[list[int]], num: int) -> None:
    """Whatever lies between the stretches."""
    parts = [np.array([0, *own, 0], np.float32) for own in values]
    end_S = np.cumsum([len(part) for part in parts]) - 1
    begin_S = end_S - [len(own) for own in values]
    bound_S = top_k_bound(np.concatenate(parts), begin_S, end_S, num)
    for own, bound in zip(values, bound_S.tolist(), strict=True):
        assert bound in own
        assert (np.array(own) >= bound).sum() >= num


@given(st.lists(st.integers(-50, 0), min_size=9, max_size=90), st.integers(1, 2))
def test_bound_of_the_last_stretch_is_that_of_any_other(values: list[int], num: int) -> None:
    twice, size = np.array([*values, *values], np.float32), len(values)
    bound_S = top_k_bound(twice, np.array([0, size]), np.array([size, 2 * size]), num)
    assert bound_S[0] == bound_S[1]


def test_bound_of_many_values_is_close_above_which_lie_few() -> None:
    value_J = np.random.default_rng(0).normal(0, 3, 25_000).astype(np.float32)
    (bound,) = top_k_bound(value_J, np.array([0]), np.array([25_000]), 64)
    assert 64 <= (value_J >= bound).sum() <= 96


def test_values_that_do_not_count_give_no_bound() -> None:
    assert top_k_bound(np.full(1000, -np.inf, np.float32), np.array([0]), np.array([1000]), 3).tolist() == [LOWEST]


def test_next_round_takes_the_best_and_what_is_close_behind_them() -> None:
    value_A = np.array([-1, -2, -2.3, -2.6, -2.7], np.float32)
    needed = worth_expanding(np.arange(5), value_A, np.full(5, -2, np.float32), k=2, slack=0.65)
    assert needed.tolist() == [True, True, True, True, False]
    only_best = worth_expanding(np.arange(5), value_A, np.full(5, -2, np.float32), k=2, slack=-np.inf)
    assert only_best.tolist() == [True, True, False, False, False]


def test_next_round_takes_three_times_as_many_as_are_wanted_at_most() -> None:
    needed = worth_expanding(np.arange(9), np.zeros(9, np.float32), np.zeros(9, np.float32), k=2, slack=1.0)
    assert needed.tolist() == [True] * 6 + [False] * 3
