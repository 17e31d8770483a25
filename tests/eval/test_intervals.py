import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from whereupon.eval.intervals import UserSums, bootstrap

NAN = math.nan


def _clusters(num_columns: int, num_users: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hits and numbers of events, float64 [U, M], of users who differ in both: each hits by a share of their own."""
    rng = np.random.default_rng(seed)
    count_UM = rng.integers(1, 21, (num_users, num_columns))
    share_UM = rng.beta(0.5, 1.5, count_UM.shape)
    return rng.binomial(count_UM, share_UM).astype(np.float64), count_UM.astype(np.float64)


def test_sums_of_hand_derived_values_are_those_of_each_user() -> None:
    values, users = np.array([1.0, 0.0, 1.0, 1.0, NAN]), [9, 9, 2, 9, 4]
    micro = UserSums.of([values], users)
    assert micro.sum_UM[:, 0].tolist() == [1, 0, 2], "users 2, 4 and 9"
    assert micro.count_UM[:, 0].tolist() == [1, 0, 3]
    assert micro.mean_M == pytest.approx([3 / 4])
    assert micro.num_users_M.tolist() == [2]
    assert micro.num_events_M.tolist() == [4]


def test_columns_of_other_events_are_refused() -> None:
    with pytest.raises(ValueError, match="of 2 events like the users"):
        UserSums.of([np.zeros(3)], [0, 1])


def test_one_user_is_no_sample_of_users() -> None:
    sums = UserSums.of([np.array([1.0, 0.0, 1.0]), np.array([0.0, NAN, NAN])], [0, 0, 1])
    found = bootstrap(sums, seed=0, num_resamples=50)
    assert (sums.num_events_M.tolist(), sums.num_users_M.tolist()) == ([3, 1], [2, 1])
    assert found.mean_M == pytest.approx([2 / 3, 0])
    assert found.low_M[0] <= 2 / 3 <= found.high_M[0]
    assert np.isnan([found.low_M[1], found.high_M[1]]).all()


def test_no_rankers_or_no_events_give_nothing_or_nan() -> None:
    assert bootstrap(UserSums.of([], [0, 1]), seed=0).mean_M.size == 0
    sums = UserSums.of([np.empty(0)], np.empty(0, np.int64))
    found = bootstrap(sums, seed=0)
    assert (sums.num_events_M.tolist(), sums.num_users_M.tolist()) == ([0], [0])
    assert np.isnan([found.mean_M, found.low_M, found.high_M]).all()


def test_infinite_value_has_a_mean_and_no_interval_and_leaves_others_alone() -> None:
    hits = np.array([1.0, 0.0, 1.0, 0.0])
    loss = np.array([1.0, math.inf, 2.0, 3.0])
    users = [0, 1, 2, 3]
    both = bootstrap(UserSums.of([hits, loss], users), seed=0, num_resamples=100)
    alone = bootstrap(UserSums.of([hits], users), seed=0, num_resamples=100)
    assert both.mean_M[1] == math.inf
    assert math.isnan(both.low_M[1])
    assert (both.low_M[0], both.high_M[0]) == (alone.low_M[0], alone.high_M[0])


def test_users_who_are_all_alike_have_an_interval_of_no_width() -> None:
    found = bootstrap(UserSums.of([np.full(30, 0.3)], np.repeat(np.arange(10), 3)), seed=0, num_resamples=200)
    assert found.low_M == pytest.approx([0.3])
    assert found.high_M == pytest.approx([0.3])


def test_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    sums = UserSums(*_clusters(1, 30, 0))
    first, same, other = (bootstrap(sums, seed=seed, num_resamples=500) for seed in (1, 1, 2))
    assert first.low_M.tolist() == same.low_M.tolist()
    assert first.low_M.tolist() != other.low_M.tolist()


def test_interval_of_many_equal_users_is_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    value_E = rng.normal(size=2_000)
    found = bootstrap(UserSums.of([value_E], np.arange(2_000)), seed=0, num_resamples=4_000)
    half = 1.96 * value_E.std() / math.sqrt(len(value_E))
    assert found.low_M == pytest.approx([value_E.mean() - half], abs=0.1 * half)
    assert found.high_M == pytest.approx([value_E.mean() + half], abs=0.1 * half)


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    """2,000 simulated evaluations of 80 users; the true mean is 0.5 / (0.5 + 1.5)."""
    sums = UserSums(*_clusters(2_000, 80, 2))
    found = bootstrap(sums, seed=0, num_resamples=1_000)
    covered = np.mean((found.low_M <= 0.25) & (found.high_M >= 0.25))
    assert 0.935 <= covered <= 0.965  # 0.95 plus or minus three standard errors


def test_intervals_over_events_instead_of_users_would_be_far_too_narrow() -> None:
    num_columns, num_users, num_each = 200, 40, 20
    rng = np.random.default_rng(0)
    hit_EM = rng.random((num_users * num_each, num_columns)) < np.repeat(
        rng.beta(0.5, 1.5, (num_users, num_columns)), num_each, axis=0
    )
    columns = list(hit_EM.T.astype(np.float64))
    covered = {}
    for name, cluster_E in (
        ("users", np.repeat(np.arange(num_users), num_each)),
        ("events", np.arange(num_users * num_each)),
    ):
        found = bootstrap(UserSums.of(columns, cluster_E), seed=0, num_resamples=400)
        covered[name] = np.mean((found.low_M <= 0.25) & (found.high_M >= 0.25))
    assert covered["users"] > 0.88
    assert covered["events"] < 0.6


def test_interval_of_a_slice_holds_its_own_mean_as_often_as_it_says() -> None:
    """Users are in the slice by chance, with few or many events; hits there have the chance 0.3, elsewhere 0.9."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(150):
        users = np.repeat(np.arange(60), rng.integers(1, 10, 60))
        wet = rng.random(len(users)) < 0.3
        hits = (rng.random(len(users)) < np.where(wet, 0.3, 0.9)).astype(float)
        found = bootstrap(UserSums.of([np.where(wet, hits, NAN)], users), seed=0, num_resamples=200)
        covered.append(found.low_M[0] <= 0.3 <= found.high_M[0])
    assert 0.88 <= np.mean(covered) <= 0.99


def test_columns_share_their_draws() -> None:
    """What is compared is drawn alike: a column's interval does not depend on which others stand beside it."""
    sum_UM, count_UM = _clusters(3, 40, 2)
    together = bootstrap(UserSums(sum_UM, count_UM), seed=0, num_resamples=300)
    alone = bootstrap(UserSums(sum_UM[:, 2:], count_UM[:, 2:]), seed=0, num_resamples=300)
    assert together.low_M[2] == pytest.approx(alone.low_M[0])


def test_chunks_of_resamples_change_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = UserSums(*_clusters(2, 30, 3))
    whole = bootstrap(sums, seed=0, num_resamples=101)
    monkeypatch.setattr("whereupon.eval.intervals._ENTRIES_PER_CHUNK", 30 * 7)
    assert bootstrap(sums, seed=0, num_resamples=101).low_M == pytest.approx(whole.low_M)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.25, 1.0, NAN])), min_size=1, max_size=25),
    st.integers(0, 99),
)
def test_bounds_equal_resampling_user_by_user(events: list[tuple[int, float]], seed: int) -> None:
    users, values = np.array([user for user, _ in events]), np.array([value for _, value in events])
    found = bootstrap(UserSums.of([values], users), seed=seed, num_resamples=60)
    low, high = _naive(users, values, seed)
    assert found.low_M[0] == pytest.approx(low, nan_ok=True)
    assert found.high_M[0] == pytest.approx(high, nan_ok=True)


def _naive(users: NDArray[np.int64], values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """BCa bounds by drawing users and collecting their values in lists."""
    names = sorted(set(users.tolist()))
    own = {user: [v for u, v in zip(users, values, strict=True) if u == user and v == v] for user in names}
    if sum(len(one) > 0 for one in own.values()) < 2:
        return NAN, NAN

    def mean(drawn: list[int]) -> float:
        flat = [value for user in drawn for value in own[user]]
        return sum(flat) / len(flat) if flat else NAN

    draws = np.random.default_rng(seed).integers(len(names), size=(60, len(names)))
    means = np.array([m for row in draws.tolist() if (m := mean([names[place] for place in row])) == m])
    observed = mean(names)
    means[np.abs(means - observed) < 1e-12] = observed
    normal = NormalDist()
    below = (np.mean(means < observed) + np.mean(means <= observed)) / 2
    bias = normal.inv_cdf(min(max(below, 0.5 / len(means)), 1 - 0.5 / len(means)))
    influence = [sum(v - observed for v in one) for one in own.values() if one]
    spread = sum(x * x for x in influence) ** 1.5
    acceleration = sum(x**3 for x in influence) / (6 * spread) if spread > 1e-20 else 0.0
    shares = []
    for tail in (0.025, 0.975):
        z = bias + normal.inv_cdf(tail)
        shares.append(normal.cdf(bias + z / (1 - acceleration * z)))
    low, high = np.quantile(means, shares)
    return float(low), float(high)
