import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval.intervals import UserSums
from whereupon.eval.significance import compare, holm, sign_flip

NAN = math.nan


def _p(per_user: list[float], num_flips: int = 4_000) -> float:
    sums = UserSums.of([np.array(per_user, np.float64)], np.arange(len(per_user)))
    return float(sign_flip(sums, seed=0, num_flips=num_flips)[0])


def test_p_value_of_three_users_in_agreement_is_a_quarter() -> None:
    """Of the 8 ways to toss three signs, only all heads and all tails give a sum as far from 0 as 1 + 2 + 4."""
    assert _p([1, 2, 4]) == pytest.approx(2 / 8, abs=0.03)


def test_no_difference_at_all_has_p_value_one() -> None:
    assert _p([0, 0, 0]) == 1
    assert _p([1, -1]) == 1


def test_p_value_is_never_zero() -> None:
    assert _p([1.0] * 100, num_flips=99) == 1 / 100


def test_p_value_ignores_round_off() -> None:
    """0.1 + 0.2 + 0.3 in another order is not the same float64; every toss of equal signs must count all the same."""
    assert _p([0.1, 0.2, -0.3], num_flips=500) == 1


def test_one_user_or_an_infinite_difference_is_not_tested() -> None:
    sums = UserSums.of([np.array([1.0, 1.0]), np.array([NAN, 1.0])], [5, 5])
    assert np.isnan(sign_flip(sums, seed=0)).all()
    assert math.isnan(_p([math.inf, 1.0]))


def test_p_values_of_equal_rankers_are_uniform() -> None:
    """1,000 simulated comparisons of two rankers who are equally good, more so with some users than with others."""
    rng = np.random.default_rng(0)
    count_UM = rng.integers(5, 41, (60, 1_000)).astype(np.float64)
    ours_UM, theirs_UM = count_UM * rng.beta(1, 2, (2, *count_UM.shape))
    p_M = np.sort(sign_flip(UserSums(ours_UM - theirs_UM, count_UM), seed=0, num_flips=999))
    far = np.abs(np.arange(1, 1_001) / 1_000 - p_M).max()
    assert far < 1.63 / math.sqrt(1_000)  # Kolmogorov's bound at 1 %
    assert np.mean(p_M <= 0.05) == pytest.approx(0.05, abs=0.021)  # three standard errors


def test_equal_rankers_who_hit_or_miss_are_not_held_different_more_often_than_said() -> None:
    """Sums of hits are often equal, which makes p-values a little larger than uniform ones: never smaller."""
    rng = np.random.default_rng(0)
    count_UM = rng.integers(5, 41, (60, 1_000))
    share_UM = rng.beta(1, 2, count_UM.shape)
    difference_UM = rng.binomial(count_UM, share_UM) - rng.binomial(count_UM, share_UM)
    p_M = sign_flip(UserSums(difference_UM.astype(float), count_UM.astype(float)), seed=0, num_flips=999)
    assert 0.02 <= np.mean(p_M <= 0.05) <= 0.071


def test_planted_difference_is_found() -> None:
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(100), 10)
    share = rng.beta(1, 2, 100)[users]
    values = {
        name: {"recall@1": (rng.random(1_000) < np.minimum(share + add, 1)).astype(float)}
        for name, add in (("popularity", 0.0), ("same", 0.0), ("better", 0.15))
    }
    table = compare(values, users, baseline="popularity", seed=0, num_resamples=2_000)
    same, better = table.rows(named=True)
    assert better["p_holm"] < 0.01
    assert better["low"] > 0
    assert better["low"] < 0.15 < better["high"]
    assert better["is_better"]
    assert same["p_holm"] > 0.05
    assert same["low"] < 0 < same["high"]


def test_correction_of_hand_derived_p_values_keeps_their_order() -> None:
    """0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not fall below the one before."""
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])


def test_correction_passes_over_what_was_not_tested_and_ends_at_one() -> None:
    assert holm(np.array([0.6, NAN, 0.7])) == pytest.approx([1.0, NAN, 1.0], nan_ok=True)
    assert not holm(np.empty(0)).size


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.999))
def test_correction_rejects_what_stepping_down_rejects(p_values: list[float], level: float) -> None:
    """As Holm describes it: go through the p-values in ascending order and stop at the first that is too large."""
    rejected = [False] * len(p_values)
    for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (len(p_values) - step) > level:
            break
        rejected[place] = True
    assert (holm(np.array(p_values)) <= level).tolist() == rejected


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=6))
def test_p_value_equals_going_through_all_signs(per_user: list[int]) -> None:
    sums = [
        sum(s * d for s, d in zip(signs, per_user, strict=True)) for signs in product((1, -1), repeat=len(per_user))
    ]
    exact = sum(abs(s) >= abs(sum(per_user)) for s in sums) / len(sums)
    assert _p([float(d) for d in per_user]) == pytest.approx(exact, abs=0.04)  # five standard errors


HITS = {
    "a": {"recall@1": np.array([1.0, 1, 0, 0]), "log-loss": np.array([1.0, 1, 1, 1])},
    "b": {"recall@1": np.array([1.0, 0, 0, 0]), "log-loss": np.array([0.5, 1, 1, 1])},
    "model": {"recall@1": np.array([1.0, 1, 1, 0]), "log-loss": np.array([0.5, 0.5, 1, 1])},
}
USERS = np.array([0, 0, 1, 2])


def test_every_ranker_is_compared_on_each_metric_that_both_have() -> None:
    values = {**HITS, "model": {"recall@1": HITS["model"]["recall@1"]}}
    table = compare(values, USERS, baseline="a", seed=0, num_resamples=50)
    assert table.select("ranker", "baseline", "metric").rows() == [
        ("b", "a", "recall@1"), ("model", "a", "recall@1"), ("b", "a", "log-loss"),
    ]  # fmt: skip
    assert table["difference"].to_list() == pytest.approx([-1 / 4, 1 / 4, -1 / 8])
    assert table["mean"].to_list() == pytest.approx([1 / 4, 3 / 4, 7 / 8])
    assert table["baseline_mean"].to_list() == pytest.approx([1 / 2, 1 / 2, 1])
    assert table["is_better"].to_list() == [False, True, True], "a lower loss is the better one"
    assert table["num_users"].to_list() == [3] * 3


def test_only_events_that_both_know_are_compared() -> None:
    values = {"base": {"km": np.array([1.0, NAN, 3.0, 9.0])}, "model": {"km": np.array([0.0, 5.0, 1.0, NAN])}}
    row = compare(values, [0, 0, 1, 2], baseline="base", seed=0, num_resamples=50).row(0, named=True)
    assert (row["mean"], row["baseline_mean"], row["difference"]) == (0.5, 2.0, -1.5)
    assert (row["num_events"], row["num_users"]) == (2, 2)


def test_infinite_losses_give_a_difference_but_no_interval_and_no_p_value() -> None:
    inf = math.inf
    values = {
        "base": {"log-loss": np.array([inf, 1.0, 2.0])},
        "finite": {"log-loss": np.array([1.0, 1.0, 1.0])},
        "both": {"log-loss": np.array([inf, 1.0, 1.0])},
    }
    finite, both = compare(values, [0, 1, 2], baseline="base", seed=0, num_resamples=50).rows(named=True)
    assert finite["difference"] == -inf
    assert finite["is_better"]
    assert math.isnan(both["difference"])
    assert not both["is_better"]
    assert all(math.isnan(row[name]) for row in (finite, both) for name in ("low", "high", "p", "p_holm"))


def test_correction_is_over_all_rows_of_the_table() -> None:
    rng = np.random.default_rng(0)
    values = {name: {"recall@1": (rng.random(60) < 0.5).astype(float)} for name in "abcd"}
    table = compare(values, np.arange(60), baseline="a", seed=0, num_resamples=200)
    assert table["p_holm"].to_list() == pytest.approx(holm(table["p"].to_numpy()).tolist())
    assert (table["p_holm"] >= table["p"]).all()
