"""Geographically weighted regression: local fits are those of mgwr, rain matters where it does, answers are shares."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.arrays import Float64
from whereupon.histories import Histories
from whereupon.histories.distance import distance_km, points, points_of
from whereupon.rankers.gwr import FAMILIES, Regression, RegressionSettings, group, learn, time_features
from whereupon.rankers.gwr_fit import Grid, Link, LocalFits, Weighted, kernel, softmax
from whereupon.rankers.numbers import scaling
from whereupon.rankers.places import where_users_are
from whereupon.rankers.popular import popular_shares
from whereupon.rankers.protocol import Dense, UnfitDataError

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
HOUR, DAY = 3600, 86_400
[FAMILY] = FAMILIES


@pytest.mark.filterwarnings("ignore")  # of packages that mgwr imports
@pytest.mark.parametrize("link", ["identity", "log"])
def test_local_fits_are_those_of_mgwr(link: Link) -> None:
    reason = "the check needs mgwr: pip install 'whereupon[gwr-check]'"
    gwr = pytest.importorskip("mgwr.gwr", reason=reason)
    families = pytest.importorskip("spglm.family", reason=reason)
    rng = np.random.default_rng(3)
    place_N2, feature_NL = rng.uniform(0, 10, (80, 2)), np.column_stack([np.ones(80), rng.normal(size=(80, 2))])
    linear_N = 0.5 + feature_NL[:, 1] * place_N2[:, 0] / 10 - 0.3 * feature_NL[:, 2]
    target_N = linear_N + rng.normal(0, 0.1, 80) if link == "identity" else rng.poisson(np.exp(linear_N)).astype(float)
    family = families.Gaussian() if link == "identity" else families.Poisson()
    theirs = gwr.GWR(
        place_N2, target_N[:, None], feature_NL, 30, family=family, kernel="gaussian", fixed=False, constant=False
    ).fit()
    for at in range(0, 80, 9):
        weight_N = kernel(np.linalg.norm(place_N2 - place_N2[at], axis=1), 30)
        one = Weighted(feature_NL[:, None, :], target_N[:, None], weight_N, link, 0.0, np.zeros((1, 3)))
        beta_GL = one.fit(np.zeros((1, 3)))
        assert beta_GL[0].tolist() == pytest.approx(theirs.params[at].tolist(), rel=1e-4, abs=1e-5)
        if link == "identity":
            errors = one.standard_errors(beta_GL)[0] * np.sqrt(theirs.sigma2)
            assert errors.tolist() == pytest.approx(theirs.bse[at].tolist(), rel=1e-4)


@pytest.mark.parametrize("link", ["identity", "log", "softmax"])
def test_fit_is_where_no_small_step_gains_and_errors_are_those_of_the_curvature(link: Link) -> None:
    rng = np.random.default_rng(4)
    feature_NGL = rng.normal(size=(60, 3, 2))
    target_NG = np.eye(3)[rng.integers(3, size=60)]
    one = Weighted(feature_NGL, target_NG, rng.uniform(0.1, 1, 60), link, 0.7, np.full((3, 2), 0.2))
    beta_GL = one.fit(np.zeros((3, 2)))

    def loss(beta_GL: Float64) -> float:
        away = 0.7 / 2 * float(((beta_GL - 0.2) ** 2).sum())
        return away - float(one.weight_N @ one.log_likelihoods(beta_GL))

    for at in np.ndindex(3, 2):
        step_GL = np.zeros((3, 2))
        step_GL[at] = 1e-4
        assert abs(loss(beta_GL + step_GL) - loss(beta_GL - step_GL)) / 2e-4 < 1e-4
    alike = replace(one, weight_N=np.ones(60), ridge=0.0, link="log")
    beta_GL = alike.fit(np.zeros((3, 2)))
    curve_GLL = np.einsum("ng,ngl,ngm->glm", np.exp((feature_NGL * beta_GL).sum(axis=2)), feature_NGL, feature_NGL)
    expected = [np.sqrt(np.diag(np.linalg.inv(curve_LL))).tolist() for curve_LL in curve_GLL]
    assert alike.standard_errors(beta_GL).tolist() == [pytest.approx(one) for one in expected]


def test_coefficients_between_centres_are_in_between_and_unknown_places_get_the_fit_of_all() -> None:
    grid = Grid(np.array([40.0, 41.0]), np.array([-74.0, -73.0]))
    beta_RGL = np.array([0.0, 1.0, 2.0, 3.0, 9.0])[:, None, None]
    fits = LocalFits(grid, beta_RGL, beta_RGL)
    place_Q3 = points(latitude=[40.5, 40.0, 41.0, 50.0, np.nan], longitude=[-73.5, -74.0, -73.75, -80.0, 0.0])
    assert fits.linear(np.ones((5, 1, 1)), place_Q3)[:, 0].tolist() == pytest.approx([1.5, 0.0, 2.25, 2.0, 9.0])
    nowhere = Grid.over(np.full((3, 3), np.nan), 4)
    assert nowhere.shares(place_Q3).tolist() == [[1.0]] * 5


def test_kernel_falls_with_distance_and_knows_ties_and_unknown_places() -> None:
    weight_N = kernel(np.array([0.0, 1.0, 2.0, 4.0, np.nan]), 3)
    assert weight_N.tolist() == pytest.approx([1.0, np.exp(-1 / 8), np.exp(-1 / 2), np.exp(-2), 0.0], rel=1e-5)
    assert kernel(np.zeros(3), 2).tolist() == [1.0, 1.0, 1.0]
    assert kernel(np.full(2, np.nan), 2).tolist() == [0.0, 0.0]


def rainy_city(build: Build, num_users: int = 40) -> Histories:
    """People who live along a street, half of them in the north, go to the cinema or to the park of their quarter.

    In the north rain brings them to the cinema, in the south it changes nothing.
    """
    rng, rows = np.random.default_rng(5), list[Row]()
    rain_D = rng.random(60) < 0.5
    for user in range(num_users):
        quarter = user * 10 // num_users
        for day in range(60):
            inside = rng.random() < (0.85 if rain_D[day] else 0.15) if quarter >= 5 else rng.random() < 0.5
            when = day * DAY + int(rng.integers(8, 22)) * HOUR + user
            rows.append((user, quarter * 2 + int(inside), when, "train" if day < 45 else "test"))
    histories = build(rows, 20)
    quarter_I = np.arange(20) // 2
    items = histories.items.with_columns(
        pl.Series("category", ["park", "cinema"] * 10), pl.Series("latitude", 40 + quarter_I * 0.02),
        pl.Series("longitude", -74 + quarter_I % 2 * 0.01),
    )  # fmt: skip
    day_N = (histories.time_s_N - histories.time_s_N.min() // DAY * DAY) // DAY
    rain = pl.Series("precipitation_mm", np.where(rain_D[day_N], 4.0, 0.0))
    return replace(histories, items=items, events=histories.events.with_columns(rain))


def test_rain_matters_where_it_does(build: Build) -> None:
    histories = rainy_city(build)
    learnt_N = histories.split_N == 0
    one = RegressionSettings(most=8, least_events=30, steepness=0.0, own=0.0)
    grouping = group(histories, learnt_N, one)
    learnt = learn(histories, learnt_N, grouping, scaling(histories, "test", "standard"), errors=True)
    assert learnt is not None
    assert learnt.num_events == learnt_N.sum()
    cinema, rain = grouping.names.index("cinema"), learnt.fields.index("precipitation_mm")
    beta_RGL, error_RGL = learnt.fits.beta_RGL, learnt.fits.error_RGL
    z_R = beta_RGL[:-1, cinema, rain] / error_RGL[:-1, cinema, rain]
    z_XY = z_R.reshape(5, 5)  # from south to north
    assert (z_XY[-1] > 5).all()
    assert (np.abs(z_XY[0]) < 2).all()
    query_Q = np.flatnonzero(histories.split_N == 2)
    score_QI = _scores(Regression(one, learnt), histories, query_Q)
    inside_Q = np.exp(score_QI[:, 1::2]).sum(axis=1)
    north_Q = histories.item_idx_N[query_Q] >= 10
    rains_Q = histories.events["precipitation_mm"].to_numpy()[query_Q] > 0
    assert inside_Q[north_Q & rains_Q].mean() > inside_Q[north_Q & ~rains_Q].mean() + 0.4
    assert abs(inside_Q[~north_Q & rains_Q].mean() - inside_Q[~north_Q & ~rains_Q].mean()) < 0.1


def test_answers_are_shares_of_groups_times_shares_within(build: Build) -> None:
    histories = rainy_city(build, 10)
    settings = {"most": 8, "least_events": 30, "steepness": 1.0, "own": 3.0}
    ranker = FAMILY.ranker(histories, "test", settings, seed=0)
    assert isinstance(ranker, Regression)
    learnt = ranker.learnt
    assert learnt is not None
    item_I3, share_I = points_of(histories.items), popular_shares(histories, "test")
    place_N3, time_NM = where_users_are(histories, item_I3), time_features(histories, learnt.context)
    row_Q = np.flatnonzero(histories.split_N == 2)[::7]
    for row, found_I in zip(row_Q.tolist(), _scores(ranker, histories, row_Q), strict=True):
        km_I = distance_km(place_N3[row], item_I3)
        own_I = np.bincount(histories.item_idx_N[histories.offset_U1[histories.user_idx_N[row]] : row], minlength=20)
        before_N = histories.time_s_N < histories.time_s_N[row]
        local_I = (np.bincount(histories.item_idx_N[before_N], minlength=20) + share_I) / (1 + km_I / 0.5)
        raw_GL = np.array([
            [1, *time_NM[row, :5], np.log1p(km_I[learnt.series_I == g].min() / 0.5), *time_NM[row, 5:]]
            for g in range(2)
        ])  # fmt: skip
        feature_GL = np.clip((raw_GL - learnt.scale_2L[0]) / learnt.scale_2L[1], -3, 3)
        beta_GL = np.tensordot(learnt.fits.grid.shares(place_N3[[row]])[0], learnt.fits.beta_RGL, 1)
        share_G = softmax((feature_GL * beta_GL).sum(axis=1)[None])[0]
        for g in range(2):
            at = learnt.series_I == g
            within_I = 3 * own_I[at] + local_I[at] / local_I[at].sum()
            expected = np.log(share_G[g] * within_I / within_I.sum())
            assert found_I[at].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
        assert np.exp(found_I).sum() == pytest.approx(1.0)


def test_few_events_make_one_group_and_are_ranked_by_local_popularity(build: Build) -> None:
    histories = build([(0, 0, 1, "train"), (0, 1, 2, "train"), (0, 1, 3, "test")], 3)
    items = histories.items.with_columns(latitude=pl.Series([40.0, 40.0, None]), longitude=pl.lit(-74.0))
    histories = replace(histories, items=items)
    ranker = FAMILY.ranker(histories, "test", FAMILY.grid()[0], seed=0)
    assert ranker.arrays() == {}
    [found_I] = np.exp(_scores(ranker, histories, np.array([2])))
    shares = np.array([1, 1, 0]) + popular_shares(histories, "test")
    assert found_I.tolist() == pytest.approx((shares / shares.sum()).tolist())


def test_data_without_coordinates_is_refused_in_a_sentence(build: Build) -> None:
    histories = build([(0, 0, 1, "train"), (0, 1, 2, "test")], 2)
    with pytest.raises(UnfitDataError, match="'geographically weighted regression' needs items with latitude"):
        FAMILY.ranker(histories, "test", FAMILY.grid()[0], seed=0)


def _scores(ranker: Any, histories: Histories, row_Q: Any) -> Float64:
    answers = ranker.on(histories, "test")
    assert isinstance(answers, Dense)
    return np.asarray(answers.scores(row_Q))
