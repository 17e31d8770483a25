"""FPMC: its slopes against finite differences, its sampling, and what was never learnt."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.rankers import factors
from whereupon.rankers.factors import FactorSettings, fit_factors

NUM_USERS, NUM_ITEMS, RANK = 3, 5, 2


class Recorder:
    """A table that notes the slope of each number instead of going down."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.slope = np.zeros_like(value)

    def descend(self, row_X: Any, slope_XR: Any) -> None:
        np.add.at(self.slope, row_X, slope_XR)


def naive_loss(tables: list[Any], moves: Any, wrong: list[int], penalty: float) -> float:
    """Cross-entropy against the right item and the wrong ones, and half the squares of what each move's score used."""
    user, last, item, bias = tables
    loss = 0.0
    for u, at, to in moves:
        query = np.concatenate([user[u], last[at]])
        score_I = [float(query @ numbers + bias[i, 0]) for i, numbers in enumerate(item)]
        others = [i for i in wrong if i != to]
        stand_for = (NUM_ITEMS - 1) / len(others)
        total = math.exp(score_I[to]) + stand_for * sum(math.exp(score_I[i]) for i in others)
        loss += math.log(total) - score_I[to]
        used = [user[u], last[at], item[to], bias[to]]
        loss += penalty / 2 * float(sum((numbers**2).sum() for numbers in used))
    return loss


@given(
    moves=st.lists(
        st.tuples(st.integers(0, NUM_USERS - 1), st.integers(0, NUM_ITEMS - 1), st.integers(0, NUM_ITEMS - 1)),
        min_size=1,
        max_size=6,
    ),
    wrong=st.sets(st.integers(0, NUM_ITEMS - 1), min_size=2),
    penalty=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=25, deadline=None)
def test_slopes_equal_finite_differences(moves: list[tuple[int, int, int]], wrong: set[int], penalty: float) -> None:
    rng = np.random.default_rng(len(moves))
    shapes = [(NUM_USERS, RANK), (NUM_ITEMS, RANK), (NUM_ITEMS, 2 * RANK), (NUM_ITEMS, 1)]
    tables = [Recorder(rng.normal(size=shape)) for shape in shapes]
    model = factors._Model(tables, FactorSettings(RANK, penalty, 1))  # type: ignore[arg-type]
    user_B, last_B, item_B = np.array(moves).T
    model.learn(user_B, last_B, item_B, np.array(sorted(wrong)))
    values = [table.value for table in tables]
    for table in tables:
        for at in np.ndindex(table.value.shape):
            middle, losses = table.value[at], []
            for offset in (-1e-5, 1e-5):
                table.value[at] = middle + offset
                losses.append(naive_loss(values, moves, sorted(wrong), penalty))
            table.value[at] = middle
            # Which wrong items stand for the others is written in float32.
            assert table.slope[at] == pytest.approx((losses[1] - losses[0]) / 2e-5, rel=1e-4, abs=1e-5)


def test_rows_named_twice_go_down_by_the_sum_of_their_slopes() -> None:
    table = factors._Table(np.zeros((3, 1)))
    table.descend(np.array([2, 0, 2]), np.array([[1.0], [-4.0], [2.0]], np.float32))
    assert table.value.ravel().tolist() == pytest.approx([0.1, 0, -0.1], rel=1e-5)  # Adagrad: first steps are alike
    table.descend(np.array([2]), np.array([[4.0]], np.float32))
    assert table.value[2, 0] == pytest.approx(-0.1 - 0.1 * 4 / 5, rel=1e-5)


def test_sampled_items_lead_to_about_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    last_M = rng.integers(0, 12, 3000)
    item_M = np.where(rng.random(3000) < 0.7, (last_M + 1) % 12, rng.integers(0, 12, 3000))
    user_M, query = np.zeros(3000, np.int64), (np.zeros(12, np.int64), np.arange(12))
    whole = fit_factors(user_M, last_M, item_M, (1, 12), FactorSettings(6, 0.0, 12), seed=1).log_probs(*query)
    monkeypatch.setattr(factors, "_WRONG", 5)
    sampled = fit_factors(user_M, last_M, item_M, (1, 12), FactorSettings(6, 0.0, 12), seed=1).log_probs(*query)
    assert (whole.argmax(axis=1) == (np.arange(12) + 1) % 12).all()
    assert (sampled.argmax(axis=1) == (np.arange(12) + 1) % 12).all()
    assert np.exp(whole).max(axis=1) == pytest.approx(0.725, abs=0.1)  # 0.7 + 0.3 / 12
    assert np.exp(sampled).max(axis=1) == pytest.approx(0.725, abs=0.15)


def test_the_same_seed_gives_the_same_model_and_another_one_another() -> None:
    moves = np.arange(20) % 3, np.arange(20) % 5, (np.arange(20) + 1) % 5
    fits = [fit_factors(*moves, (3, 5), FactorSettings(4, 0.01, 2), seed=seed) for seed in (1, 1, 2)]
    assert (fits[0].item_I2R == fits[1].item_I2R).all()
    assert (fits[0].item_I2R != fits[2].item_I2R).any()


def test_users_and_items_without_a_move_say_nothing() -> None:
    found = fit_factors(np.array([0]), np.array([1]), np.array([2]), (3, 4), FactorSettings(4, 0.01, 5), seed=1)
    assert (found.user_UR[1:] == 0).all()
    assert (found.last_IR[[0, 2, 3]] == 0).all()
    unknown = found.log_probs(np.array([1, 2]), np.array([0, 3]))
    assert (unknown[0] == unknown[1]).all()
    assert np.exp(unknown).sum(axis=1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("num_items", [1, 4])
def test_without_moves_all_items_are_nearly_alike(num_items: int) -> None:
    nothing = np.zeros(0, np.int64)
    found = fit_factors(nothing, nothing, nothing, (2, num_items), FactorSettings(4, 0.01, 3), seed=1)
    assert np.exp(found.log_probs(np.array([1]), np.array([0]))) == pytest.approx(1 / num_items)


def test_catalogue_of_one_item_is_learnt_without_a_wrong_one() -> None:
    one = np.zeros(3, np.int64)
    found = fit_factors(one, one, one, (1, 1), FactorSettings(2, 0.1, 2), seed=1)
    assert found.log_probs(np.array([0]), np.array([0])).tolist() == [[0.0]]
