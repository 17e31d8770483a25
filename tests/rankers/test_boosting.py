"""Boosted trees on candidates: they find a timetable that no single count knows, and look at nothing later."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.rankers import boosted_features, boosted_own, returns
from whereupon.rankers.boosting import FAMILIES, Boosted, BoostingSettings, _learn, softmax
from whereupon.rankers.families import FAMILIES as ALL
from whereupon.rankers.numbers import Scaling
from whereupon.rankers.protocol import Dense, Sparse, UnfitDataError

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
HOUR, DAY = 3600, 86_400
[BOOSTED], [OWN] = FAMILIES, boosted_own.FAMILIES
SOME: Final[Mapping[str, Any]] = {"new_items": False, "everybody": True, "rounds": 40, "leaves": 7}
needs_trees = pytest.mark.skipif(importlib.util.find_spec("lightgbm") is None, reason="lightgbm is not installed")


def log_probs(histories: Histories, row_Q: NDArray[np.int64], settings: Mapping[str, Any] = SOME) -> NDArray[Any]:
    """[Q, I]"""
    answers = BOOSTED.ranker(histories, "test", settings, 3).on(histories, "test")
    assert isinstance(answers, Dense)
    assert answers.is_log_prob
    return answers.scores(row_Q)


def query(histories: Histories) -> NDArray[np.int64]:
    return np.flatnonzero(histories.split_N == 2).astype(np.int64)


def timetable(days: int = 60, num_users: int = 6) -> list[Row]:
    """Two departures a day. In the afternoon a vehicle goes to the stop after its morning's one, and at weekends to the
    one after that."""
    rng, rows = np.random.default_rng(0), []
    for day in range(days):
        split = "train" if day < days - 5 else "valid" if day < days - 4 else "test"
        for user in range(num_users):
            morning = int(rng.integers(5))
            afternoon = (morning + (2 if (day + 3) % 7 >= 5 else 1)) % 5
            rows += [(user, morning, day * DAY + 8 * HOUR, split), (user, afternoon, day * DAY + 15 * HOUR, split)]
    return rows


@needs_trees
def test_timetable_that_counts_alone_miss_is_found(build: Build) -> None:
    histories = build(timetable(), 5)
    row_Q = query(histories)
    row_Q = row_Q[histories.time_s_N[row_Q] % DAY == 15 * HOUR]
    true_Q = histories.item_idx_N[row_Q]
    log_QI = log_probs(histories, row_Q)
    assert np.exp(log_QI).sum(axis=1) == pytest.approx(np.ones(len(row_Q)))
    counted = ALL["transitions"].ranker(histories, "test", {"own": 1.0, "backoff_events": 1.0}, 0).on(histories, "test")
    assert isinstance(counted, Dense)
    places = np.arange(len(row_Q))
    assert (log_QI.argmax(axis=1) == true_Q).mean() > 0.9
    assert log_QI[places, true_Q].mean() > counted.scores(row_Q)[places, true_Q].mean() + 0.1


@needs_trees
@pytest.mark.parametrize(("new_items", "everybody"), [(False, True), (True, False)])
def test_later_events_change_nothing(build: Build, new_items: bool, everybody: bool) -> None:
    rng = np.random.default_rng(1)
    rows = [(u, int(rng.integers(9)), t * 5 * HOUR, s) for u, item, t, s in drawn(rng)]
    row = int(query(build(rows, 9))[20])
    histories = build(rows, 9)
    now, user = int(histories.time_s_N[row]), int(histories.user_idx_N[row])
    others = [(u, (item + 1) % 9, t, s) if t > now or (t == now and u == user) else (u, item, t, s)
              for u, item, t, s in rows if t <= now or (u + t) % 3]  # fmt: skip
    altered = build(others, 9)
    [altered_row] = np.flatnonzero((altered.user_idx_N == user) & (altered.time_s_N == now))
    settings = {**SOME, "new_items": new_items, "everybody": everybody}
    before = log_probs(placed(histories), np.array([row]), settings)
    after = log_probs(placed(altered), np.array([altered_row]), settings)
    assert after == pytest.approx(before, abs=1e-9)
    assert np.ptp(before) > 0.1


def drawn(rng: np.random.Generator) -> list[Row]:
    """Forty events of each of eight users at distinct ticks, of any items."""
    rows: list[Row] = []
    for user in range(8):
        for tick in np.sort(rng.choice(120, 40, replace=False)).tolist():
            rows.append((user, 0, tick, "train" if tick < 70 else "valid" if tick < 80 else "test"))
    return rows


def placed(histories: Histories) -> Histories:
    """Items in a street, of three kinds."""
    at = pl.int_range(pl.len()).cast(pl.Float64)
    category = pl.Series([f"kind {i % 3}" for i in range(histories.items.height)])
    items = histories.items.with_columns(latitude=40 + at * 0.0009, longitude=pl.lit(-74.0), category=category)
    return replace(histories, items=items)


@needs_trees
def test_sampled_items_of_a_large_catalogue_stand_for_the_others(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    histories = build([(u, int(rng.integers(40)), t * 5 * HOUR, s) for u, _, t, s in drawn(rng)], 40)
    whole = _learn(histories, "test", False, 3)[0]
    monkeypatch.setattr(boosted_features, "SMALL", 2)
    monkeypatch.setattr(boosted_features, "_SAMPLED", 10)
    monkeypatch.setattr(boosted_features, "_SOURCES", {"moves here": 3, "recent popularity": 2})
    some = _learn(histories, "test", False, 3)[0]
    assert whole.hit_C.sum() == some.hit_C.sum() == len(some.start_Q1) - 1
    assert len(some.hit_C) < len(whole.hit_C) / 2
    assert np.exp(some.stands_C).sum() == pytest.approx(len(whole.hit_C), rel=0.01)
    p_QI = np.exp(log_probs(histories, query(histories)))
    assert p_QI.sum(axis=1) == pytest.approx(np.ones(len(p_QI)))


@needs_trees
def test_ranker_of_new_items_learns_first_visits_alone(build: Build) -> None:
    rng = np.random.default_rng(1)
    histories = build([(u, int(rng.integers(30)), t * 5 * HOUR, s) for u, _, t, s in drawn(rng)], 30)
    learnt, names = _learn(histories, "test", True, 3)
    assert (learnt.feature_CK[:, names.index("own events")] == 0).all()
    task = read_task(histories, "test", EvaluateSettings(repeats="excluded"))
    found = rank(BOOSTED.ranker(histories, "test", {**SOME, "new_items": True}, 3), task, 10)
    assert found.log_prob_E is not None
    assert np.isfinite(found.log_prob_E).all()


def test_settings_say_whether_trees_see_how_often_all_users_chose_an_item() -> None:
    names, feature_CK = ["today", "own events", "item", "last 1"], np.arange(8, dtype=np.float32).reshape(2, 4)
    for everybody, seen in ((True, [0, 1, 2, 3]), (False, [1, 3])):
        one = BoostingSettings(**{**SOME, "everybody": everybody})
        found_CL, found = one.seen(feature_CK, names, Scaling((), np.zeros(0), np.zeros(0)))
        assert found == [names[at] for at in seen]
        assert (found_CL == feature_CK[:, seen]).all()


def test_trees_see_numbers_that_are_chosen_or_their_components() -> None:
    names, feature_CK = ["context warm", "own events", "context wet"], np.array([[10.0, 5.0, np.nan]], np.float32)
    one, mean_W, scale_W = BoostingSettings(**SOME), np.array([8.0, 1.0]), np.array([0.5, 1.0])
    wet_CL, wet = one.seen(feature_CK, names, Scaling(("wet",), mean_W[1:], scale_W[1:]))
    assert wet == ["own events", "context wet"]
    assert np.array_equal(wet_CL, feature_CK[:, 1:], equal_nan=True), "trees know what is missing"
    turned = Scaling(("warm", "wet"), mean_W, scale_W, np.array([[2.0], [3.0]]))
    assert one.seen(feature_CK, names, turned)[1] == ["own events", "component 1"]
    assert one.seen(feature_CK, names, turned)[0].tolist() == [[5.0, 2.0]]


def test_softmax_adds_up_to_one_for_each_question() -> None:
    query_C = np.array([0, 0, 2, 2, 2])
    share_C = softmax(np.array([1.0, 1.0, -800.0, 0.0, np.log(3)]), query_C, 3)
    assert share_C.tolist() == pytest.approx([0.5, 0.5, 0.0, 0.25, 0.75])


def test_missing_package_is_named(town: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnfitDataError, match=r"needs the package lightgbm, .* pip install 'whereupon\[boosting\]'"):
        BOOSTED.ranker(town, "test", SOME, 0)


@needs_trees
def test_with_next_to_nothing_to_learn_candidates_go_by_popularity(town: Histories) -> None:
    ranker = BOOSTED.ranker(town, "test", SOME, 0)
    assert isinstance(ranker, Boosted)
    assert ranker.booster is None
    assert np.exp(log_probs(town, query(town))).sum(axis=1) == pytest.approx(np.ones(len(query(town))))


@needs_trees
@pytest.mark.parametrize("columns", [(), ("wind_mps",), ("temperature_c", "wind_mps")])
def test_request_with_other_columns_of_weather_is_answered(build: Build, columns: Sequence[str]) -> None:
    """The trees know `temperature_c`; a request may name more, or lack it."""
    histories = build(timetable(days=20), 5)
    degrees = pl.Series("temperature_c", np.arange(histories.events.height) % 7.0)
    known = replace(histories, events=histories.events.with_columns(degrees))
    request = replace(histories, events=histories.events.with_columns(degrees.alias(name) for name in columns))
    ranker = BOOSTED.ranker(known, "test", SOME, 3)
    answers, same = ranker.on(request, "test", known), ranker.on(known, "test")
    assert isinstance(answers, Dense)
    assert isinstance(same, Dense)
    found_QI = answers.scores(query(histories))
    assert np.exp(found_QI).sum(axis=1) == pytest.approx(1.0)
    if "temperature_c" in columns:
        assert found_QI == pytest.approx(same.scores(query(histories)), abs=1e-6)


def own_shares(histories: Histories, row_Q: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """p of each item among the own ones: [Q, I]."""
    answers = ALL[name].ranker(histories, "test", {}, 3).on(histories, "test")
    assert isinstance(answers, Sparse)
    found = answers.scores(row_Q)
    p_QI = np.zeros((len(row_Q), histories.items.height))
    p_QI[found.query_C, found.item_C] = found.score_C
    return p_QI


def crowded(days: int = 160) -> list[Row]:
    """Every noon all meet at one of three places, another one each day; who comes last sees where the others are."""
    rng, rows = np.random.default_rng(2), []
    for day in range(days):
        split, place = "train" if day < days - 10 else "test", int(rng.integers(3))
        rows += [(user, place, day * DAY + user * HOUR // 6, split) for user in range(6)]
    return rows


@needs_trees
def test_own_item_where_everybody_is_now_comes_before_what_attention_says(build: Build) -> None:
    histories = build(crowded(), 3)
    row_Q = query(histories)
    row_Q = row_Q[histories.user_idx_N[row_Q] == 5]
    true_Q, at_Q = histories.item_idx_N[row_Q], np.arange(len(row_Q))
    attended, boosted = (own_shares(histories, row_Q, name) for name in ("learnt own events", "boosted own events"))
    assert boosted.sum(axis=1) == pytest.approx(np.ones(len(row_Q)))
    assert (boosted.argmax(axis=1) == true_Q).mean() > 0.9
    assert np.log(boosted[at_Q, true_Q]).mean() > np.log(attended[at_Q, true_Q]).mean() + 0.3


@needs_trees
def test_without_a_return_own_items_count_as_attention_has_them(build: Build) -> None:
    rows = [(u, u * 9 + day, day * DAY, "train" if day < 8 else "test") for u in range(3) for day in range(9)]
    histories = build(rows, 27)
    row_Q = query(histories)
    found = own_shares(histories, row_Q, "boosted own events")
    assert found == pytest.approx(own_shares(histories, row_Q, "learnt own events"), abs=1e-3)


@needs_trees
def test_whoever_has_no_history_has_no_own_items(build: Build) -> None:
    histories = build([*crowded(10), (9, 0, 9 * DAY, "test")], 3)
    [first] = np.flatnonzero(histories.user_idx_N == 6)
    answers = OWN.ranker(histories, "test", {}, 3).on(histories, "test")
    assert isinstance(answers, Sparse)
    for row_Q in (np.array([first]), np.zeros(0, np.int64)):
        assert len(answers.scores(row_Q).item_C) == 0


@needs_trees
def test_popularity_of_later_splits_is_no_feature_of_own_items(build: Build) -> None:
    histories = build(crowded(), 3)
    features = boosted_own._features(histories, histories, "test", returns.fit_returns(histories, "test", 3))
    assert not {*boosted_features._RANKERS} & {*features.names}


@needs_trees
def test_features_to_learn_from_know_nothing_of_later_events(build: Build) -> None:
    """Popularity, which rankers fall back on, would else have counted the very events that are learnt from."""
    rows = [one for one in timetable(20) if one[3] == "train"]
    last = max(at for _, _, at, _ in rows)
    altered = [(user, 4 if at > last - 3 * DAY else item, at, split) for user, item, at, split in rows]
    (found, names), (other, _) = (
        _learn(build([*of, (0, 0, last + DAY, "test")], 5), "test", False, 3) for of in (rows, altered)
    )
    days_C = found.feature_CK[:, names.index("number of events")]  # two a day, of each of six users
    early_C = days_C < days_C.max() - 6
    assert early_C.any()
    assert np.array_equal(found.feature_CK[early_C], other.feature_CK[early_C], equal_nan=True)
    assert not np.array_equal(found.feature_CK, other.feature_CK, equal_nan=True)
