"""Rankers that learn on top of counting: planted habits are found, and only the past of each row is looked at."""

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from whereupon.histories import Histories
from whereupon.rankers import crowd, discovery, gate, item_features, returns
from whereupon.rankers.gate import Gate, fit_gate
from whereupon.rankers.loglinear import fit_loglinear
from whereupon.rankers.protocol import Dense, Family, Scored, Sparse, UnfitDataError

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
HOUR, DAY = 3600, 86_400
[RETURNS], [DISCOVERY] = returns.FAMILIES, discovery.FAMILIES


def again(histories: Histories, row_Q: NDArray[np.int64]) -> NDArray[np.float64]:
    """p of each item by the ranker of own events: [Q, I]."""
    answers = RETURNS.ranker(histories, "test", {}, 0).on(histories, "test")
    assert isinstance(answers, Sparse)
    found = answers.scores(row_Q)
    assert isinstance(found, Scored)
    p_QI = np.zeros((len(row_Q), histories.items.height))
    p_QI[found.query_C, found.item_C] = found.score_C
    return p_QI


def new(histories: Histories, row_Q: NDArray[np.int64]) -> NDArray[np.floating]:
    """log p of each item by the ranker of new items: [Q, I]."""
    answers = DISCOVERY.ranker(histories, "test", {}, 0).on(histories, "test")
    assert isinstance(answers, Dense)
    return answers.scores(row_Q)


def rows_of(histories: Histories) -> NDArray[np.int64]:
    return np.flatnonzero(histories.split_N == 2).astype(np.int64)


def random_rows(seed: int, num_items: int = 12) -> list[Row]:
    random = np.random.default_rng(seed)
    rows = []
    for user in range(5):
        for day in np.sort(random.choice(60, 24, replace=False)).tolist():
            split = "train" if day < 30 else "valid" if day < 40 else "test"
            rows.append((user, int(random.integers(num_items)), day * DAY + int(random.integers(24)) * HOUR, split))
    return rows


def placed(histories: Histories, kinds: int = 3) -> Histories:
    """Items in a street, 100 m apart, of some categories in turn."""
    at = pl.int_range(pl.len()).cast(pl.Float64)
    category = pl.Series([f"kind {i % kinds}" for i in range(histories.items.height)])
    items = histories.items.with_columns(latitude=40 + at * 0.0009, longitude=pl.lit(-74.0), category=category)
    return replace(histories, items=items)


def by_hour(build: Build) -> Histories:
    """Everybody goes to one item in the mornings and to another in the evenings, and to the latter twice each."""
    rows: list[Row] = []
    for user in range(4):
        for day in range(20):
            split = "train" if day < 18 else "test"
            morning, evening = 2 * user, 2 * user + 1
            hours = ((8, morning), (19, evening), (20, evening))
            rows += [(user, item, day * DAY + hour * HOUR, split) for hour, item in hours]
    return build(rows, 8)


def test_who_alternates_by_the_hour_is_expected_there(build: Build) -> None:
    histories = by_hour(build)
    row_Q = rows_of(histories)
    p_QI = again(histories, row_Q)
    assert p_QI.sum(axis=1) == pytest.approx(np.ones(len(row_Q)))
    assert (p_QI[np.arange(len(row_Q)), histories.item_idx_N[row_Q]] > 0.9).all()


def test_without_a_return_every_past_event_counts_alike(build: Build) -> None:
    rows = [(0, item, item * DAY, "train" if item < 3 else "test") for item in range(4)]
    p_QI = again(build(rows, 5), np.array([3]))
    assert p_QI[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])


def test_slope_of_the_weights_is_that_of_finite_differences(build: Build) -> None:
    histories = placed(build(random_rows(3), 12))
    data, row_Q = returns.event_data(histories), returns.rows_that_return(histories, "test", 0)
    query_X, past_X = data.pairs(row_Q)
    bucket_FX, hit_X = data.buckets(row_Q[query_X], past_X), data.item_N[past_X] == data.item_N[row_Q][query_X]
    starts = np.cumsum(returns.SIZES) - returns.SIZES
    assert all(b.min() >= start and b.max() < start + size
               for b, start, size in zip(bucket_FX, starts, returns.SIZES, strict=True))  # fmt: skip
    rng, num = np.random.default_rng(1), sum(returns.SIZES)
    parts = [rng.normal(size=num), rng.normal(size=(num, 3)), rng.normal(size=3)]

    def loss(values: list[NDArray[np.float64]]) -> float:
        weight_W, vector_WD, out_D = values
        total = 0.0
        for query in range(len(row_Q)):
            mine_FX = [bucket_X[query_X == query] for bucket_X in bucket_FX]
            inner_XD = np.maximum(sum(vector_WD[bucket_X] for bucket_X in mine_FX), 0)
            score_X = sum(weight_W[bucket_X] for bucket_X in mine_FX) + inner_XD @ out_D
            total -= np.log(np.exp(score_X)[hit_X[query_X == query]].sum() / np.exp(score_X).sum())
        return total / len(row_Q)

    slopes = returns.Returns(*parts).slopes(bucket_FX, query_X, hit_X, len(row_Q))
    for which, slope in enumerate(slopes):
        for at in range(0, parts[which].size, max(1, parts[which].size // 10)):
            moved = [[part.copy() for part in parts] for _ in range(2)]
            for part, step in zip(moved, (1e-6, -1e-6), strict=True):
                part[which].flat[at] += step
            assert slope.flat[at] == pytest.approx((loss(moved[0]) - loss(moved[1])) / 2e-6, abs=1e-5)


def test_nearest_items_are_discovered_first(build: Build) -> None:
    """Everybody starts somewhere in a street and goes on to the next house every day."""
    rows: list[Row] = []
    for user in range(8):
        for day in range(12):
            split = "train" if day < 10 else "test"
            rows.append((user, (user * 7 + day) % 56, (day * 8 + user) * DAY, split))
    histories = placed(build(rows, 56))
    row_Q = rows_of(histories)
    log_p_QI = new(histories, row_Q)
    assert np.exp(log_p_QI).sum(axis=1) == pytest.approx(np.ones(len(row_Q)))
    for at, row in enumerate(row_Q.tolist()):
        own = histories.item_idx_N[histories.offset_U1[histories.user_idx_N[row]] : row]
        log_p_QI[at, own] = -np.inf
    last_Q = histories.item_idx_N[row_Q - 1]
    assert (np.abs(log_p_QI.argmax(axis=1) - last_Q) % 54 <= 2).all()


def test_newton_finds_the_planted_weights_and_keeps_bounds() -> None:
    random = np.random.default_rng(0)
    weight_K = np.array([1.0, -0.5, -2.0])
    feature_KPI = random.normal(size=(3, 4000, 6)).astype(np.float32)
    p_PI = np.exp(np.tensordot(weight_K, feature_KPI, 1))
    p_PI[:, 0] = 0  # no candidate
    p_PI /= p_PI.sum(axis=1, keepdims=True)
    true_P = (p_PI.cumsum(axis=1) > random.random(4000)[:, None]).argmax(axis=1)
    feature_KPI -= feature_KPI[:, np.arange(4000), true_P][:, :, None]
    allowed_PI = np.ones((4000, 6), bool)
    allowed_PI[:, 0] = False
    free = fit_loglinear([(feature_KPI, allowed_PI)], np.zeros(3), np.zeros(3, bool), 1e-4)
    assert free == pytest.approx(weight_K, abs=0.1)
    bounded = fit_loglinear([(feature_KPI, allowed_PI)], np.zeros(3), np.array([False, False, True]), 1e-4)
    assert bounded[2] == 0
    assert np.sign(bounded).tolist() == [1, -1, 0]


def test_that_no_user_chose_an_item_never_speaks_for_it(build: Build) -> None:
    """Every new item of this town is one that no user had visited: a catalogue of what was chosen in the end."""
    rows = [(user, user * 10 + day, (day * 8 + user) * DAY, "train" if day < 8 else "test")
            for user in range(6) for day in range(10)]  # fmt: skip
    histories = build(rows, 60)
    ranker = DISCOVERY.ranker(histories, "test", {}, 0)
    assert isinstance(ranker, discovery.Discovery)
    weights = dict(zip(crowd.NAMES, ranker.weight_K.tolist(), strict=True))
    assert all(weights[name] >= 0 for name in ("events", "users", "users lately", "recent", "moves", "moves soon"))
    assert all(weights[name] >= 0 for name in ("this week", "now", "alike", "company"))


def test_data_without_places_and_categories_has_no_weights_for_them(build: Build) -> None:
    ranker = DISCOVERY.ranker(build(random_rows(1), 12), "test", {}, 0)
    assert isinstance(ranker, discovery.Discovery)
    used = {name for name, weight in zip(crowd.NAMES, ranker.weight_K, strict=True) if weight}
    assert used <= {*crowd.OF_COUNTS, "private"}


def features(histories: Histories, row: int) -> dict[str, NDArray[np.float32]]:
    """What is known of the items at a row, by name: each [I]."""
    nothing = returns.Returns(np.zeros(sum(returns.SIZES)), np.zeros((sum(returns.SIZES), 2)), np.zeros(2))
    found = crowd.NewItemFeatures.of(histories, histories, nothing)
    return {name: one_QI[0] for name, one_QI in zip(found.names, found.features(np.array([row])), strict=True)}


def test_who_came_with_the_user_before_is_company_where_they_are_now(build: Build) -> None:
    """User 1 was where user 0 was, half an hour later; user 2 a week before. Then 1 goes to item 5 and 2 to item 6."""
    rows = [(2, 0, 0, "train"), (0, 0, 7 * DAY, "train"), (1, 0, 7 * DAY + HOUR // 2, "train"),
            (1, 5, 9 * DAY, "train"), (2, 6, 9 * DAY, "train"), (0, 7, 9 * DAY + HOUR, "test")]  # fmt: skip
    [row] = rows_of(histories := build(rows, 8)).tolist()
    found = features(histories, row)
    assert found["company"][5] > found["company"][6] == 0
    assert found["alike"][5] == found["alike"][6] > 0 == found["alike"][4]
    assert found["now"][5] == found["now"][6] > 0 == found["now"][0].round(3)


def test_nearer_items_of_the_same_kind_stand_before_an_item(build: Build) -> None:
    rows = [(0, 0, 0, "train"), (0, 1, DAY, "test")]
    [row] = rows_of(histories := placed(build(rows, 6), kinds=2)).tolist()
    passed_I = np.expm1(-features(histories, row)["nearer of kind"])
    assert passed_I == pytest.approx([0, 0, 1, 1, 2, 2], abs=1e-4)


def test_items_amid_many_others_are_dense_and_those_of_few_users_private(build: Build) -> None:
    rows = [(0, 0, day * DAY, "train") for day in range(5)] + [(0, 3, 9 * DAY, "train"), (1, 3, 9 * DAY, "train")]
    [row] = rows_of(histories := placed(build([*rows, (0, 1, 10 * DAY, "test")], 5))).tolist()
    found = features(histories, row)
    assert found["density"].argmax() == 2
    assert found["private"].tolist() == pytest.approx([np.log(3), 0, 0, 0, 0])


def test_several_categories_of_an_item_share_it() -> None:
    for values in (["a, b", "b", None], [["a", "b"], ["b"], None]):
        tag_IC = item_features.tags(pl.DataFrame({"category": values}, strict=False))
        assert tag_IC is not None
        assert tag_IC.tolist() == [[0.5, 0.5], [0, 1], [0, 0]]
    assert item_features.tags(pl.DataFrame({"category": pl.Series([None, None], dtype=pl.String)})) is None


def test_catalogue_of_too_many_items_does_not_fit(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_LARGEST", 11)
    with pytest.raises(UnfitDataError, match="'learnt new items' should have at most 11 items"):
        DISCOVERY.ranker(build(random_rows(1), 12), "test", {}, 0)


def test_too_many_items_for_a_table_of_distances_give_the_same(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = placed(build(random_rows(2), 12))
    found = new(histories, rows_of(histories))
    monkeypatch.setattr(item_features, "_CACHED", 0)
    again_built = placed(build(random_rows(2), 12))
    assert new(again_built, rows_of(again_built)) == pytest.approx(found, abs=1e-4)


def test_rankers_that_ask_for_the_same_rows_share_their_features(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    histories = placed(build(random_rows(5), 12))
    learnt = returns.fit_returns(histories, "test", 0)
    saved = [{name: value.copy() for name, value in learnt.arrays().items()} for _ in range(2)]
    one, other = (item_features.QueryFeatures.of(histories, histories, returns.Returns.of(arrays)) for arrays in saved)
    asked = []
    original = item_features.QueryFeatures._features
    monkeypatch.setattr(
        item_features.QueryFeatures, "_features", lambda self, row_Q: asked.append(row_Q) or original(self, row_Q)
    )
    row_Q = rows_of(histories)
    first, second = one.features(row_Q[:4]), other.features(row_Q[:4])
    assert len(asked) == 1
    assert all(a is b for a, b in zip(first, second, strict=True))
    rest = one.features(row_Q[4:8])
    assert len(asked) == 2
    monkeypatch.setattr(item_features, "_KEPT_CELLS", 0)
    assert all(np.array_equal(a, b) for a, b in zip(rest, one.features(row_Q[4:8]), strict=True))
    assert len(asked) == 3


def test_what_is_kept_for_a_request_goes_with_it(build: Build) -> None:
    known = placed(build(random_rows(5), 12))
    ranker = DISCOVERY.ranker(known, "test", {}, 0)
    asked = replace(known)
    answers = ranker.on(asked, "test", known)
    assert isinstance(answers, Dense)
    answers.scores(rows_of(asked)[:1])
    gone = weakref.ref(asked)
    del asked, answers
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("family", [RETURNS, DISCOVERY], ids=lambda family: family.name)
def test_order_of_questions_does_not_matter(build: Build, family: Family) -> None:
    histories = placed(build(random_rows(5), 12))
    row_Q = rows_of(histories)
    ask = again if family is RETURNS else new
    assert ask(histories, row_Q[::-1])[::-1] == pytest.approx(ask(histories, row_Q), abs=1e-5)
    assert ask(histories, row_Q[4:5])[0] == pytest.approx(ask(histories, row_Q)[4], abs=1e-5)


@pytest.mark.parametrize("ask", [again, new, lambda h, row_Q: fit_gate(h, "test", 7).log_odds(h, row_Q)])
def test_later_events_change_nothing(build: Build, ask: Callable[..., NDArray[np.float64]]) -> None:
    rows = random_rows(8)
    histories = placed(build(rows, 12))
    row = int(rows_of(histories)[0])
    now = int(histories.time_s_N[row])
    altered = placed(build([(u, (i + 5) % 12 if t >= now else i, t, s) for u, i, t, s in rows], 12))
    assert altered.item_idx_N[row] != histories.item_idx_N[row]
    assert ask(altered, np.array([row])) == pytest.approx(ask(histories, np.array([row])), abs=1e-6)


def gated(build: Build, explores: Callable[[int, int], bool], num_users: int = 6) -> Histories:
    """Users who take a new item every day for which `explores` says so, and their first item else."""
    rows: list[Row] = []
    for user in range(num_users):
        for day in range(30):
            item = user * 30 + (day if day == 0 or explores(user, day) else 0)
            rows.append((user, item, (day * 24 + (9 if day % 2 else 20)) * HOUR, "train" if day < 24 else "test"))
    return build(rows, num_users * 30)


def test_who_always_explores_and_who_never_does_get_odds_far_apart(build: Build) -> None:
    histories = gated(build, lambda user, day: user % 2 == 0)
    row_Q = rows_of(histories)
    odds_Q = fit_gate(histories, "test", 7).log_odds(histories, row_Q)
    assert (odds_Q[histories.user_idx_N[row_Q] % 2 == 0] > 2).all()
    assert (odds_Q[histories.user_idx_N[row_Q] % 2 == 1] < -2).all()


def test_hour_of_exploring_is_found(build: Build) -> None:
    histories = gated(build, lambda user, day: day % 2 == 1)
    row_Q = rows_of(histories)
    odds_Q = fit_gate(histories, "test", 7).log_odds(histories, row_Q)
    morning_Q = histories.time_s_N[row_Q] % DAY == 9 * HOUR
    assert (odds_Q[morning_Q] > 1).all()
    assert (odds_Q[~morning_Q] < -1).all()


@pytest.mark.parametrize("always", [True, False])
def test_what_never_occurred_stays_possible(build: Build, always: bool) -> None:
    histories = gated(build, lambda user, day: always)
    odds_Q = fit_gate(histories, "test", 7).log_odds(histories, rows_of(histories)) * (1 if always else -1)
    assert ((odds_Q > 3) & (odds_Q < 20)).all()


def test_latest_quarter_sets_the_level(build: Build) -> None:
    """Half of all events were new for a year, and none of the last ones."""
    histories = gated(build, lambda user, day: day < 16 and (day * 7 + user * 3) % 5 < 3)
    odds_Q = fit_gate(histories, "test", 7).log_odds(histories, rows_of(histories))
    assert 1 / (1 + np.exp(-odds_Q)).mean() < 0.1


def test_first_event_is_new_and_after_everything_nothing_is(build: Build) -> None:
    rows = [(0, 0, 1, "train"), (0, 1, 2, "train"), (0, 1, 3, "test"), (1, 0, 4, "test"), (1, 0, 5, "test")]
    histories = build(rows, 2)
    odds_Q = fit_gate(histories, "test", 7).log_odds(histories, np.arange(5))
    assert odds_Q[[0, 3]].tolist() == [np.inf, np.inf]
    assert odds_Q[2] == -np.inf
    assert np.isfinite(odds_Q[[1, 4]]).all()


def test_gate_without_anything_to_learn_from_says_both_alike(build: Build) -> None:
    histories = build([(0, 0, 1, "test"), (0, 1, 2, "test")], 3)
    assert fit_gate(histories, "test", 7).log_odds(histories, np.array([1])).tolist() == [0.0]


def test_parts_of_bounded_memory_give_the_same_gate(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = build(random_rows(4), 12)
    whole = fit_gate(histories, "test", 7)
    monkeypatch.setattr(gate, "_PAIRS", 30)
    parts = fit_gate(histories, "test", 7)
    row_Q = rows_of(histories)
    # Sums of fewer rows are rounded otherwise on some processors.
    assert parts.log_odds(histories, row_Q) == pytest.approx(whole.log_odds(histories, row_Q), rel=1e-10)


def test_gate_that_was_taken_apart_is_the_same(build: Build) -> None:
    histories = build(random_rows(4), 12)
    found = fit_gate(histories, "test", 7)
    other = Gate.of(found.arrays())
    row_Q = rows_of(histories)
    assert other.log_odds(histories, row_Q).tolist() == found.log_odds(histories, row_Q).tolist()
