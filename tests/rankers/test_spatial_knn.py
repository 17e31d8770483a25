"""Spatial neighbours: their votes are those of a search by brute force, rain and place matter where they should."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from whereupon.histories import Histories
from whereupon.histories.distance import EARTH_RADIUS_KM, points_of
from whereupon.rankers.places import where_users_are
from whereupon.rankers.popular import popular_shares
from whereupon.rankers.protocol import Dense, UnfitDataError
from whereupon.rankers.spatial_knn import FAMILIES, SpatialNeighbours

pytest.importorskip("scipy")
Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
HOUR, DAY = 3600, 86_400
[FAMILY] = FAMILIES


def drawn(build: Build, num_items: int = 6) -> Histories:
    """Items in a street, 500 m apart; thirty events each of four users at any hour, and any weather."""
    rng, rows = np.random.default_rng(2), []
    for user in range(4):
        for hour in np.sort(rng.choice(24 * 20, 30, replace=False)).tolist():
            split = "train" if hour < 240 else "valid" if hour < 300 else "test"
            rows.append((user, int(rng.integers(num_items)), hour * HOUR + int(rng.integers(HOUR)), split))
    histories = build(rows, num_items)
    at = pl.int_range(pl.len()).cast(pl.Float64)
    items = histories.items.with_columns(latitude=40 + at * 0.0045, longitude=pl.lit(-74.0))
    num = histories.events.height
    events = histories.events.with_columns(
        temperature_c=pl.Series(rng.normal(5, 8, num)), precipitation_mm=pl.Series(rng.exponential(2, num))
    )
    return replace(histories, items=items, events=events)


def log_probs(ranker: SpatialNeighbours, histories: Histories, row_Q: NDArray[np.int64]) -> NDArray[np.floating]:
    answers = ranker.on(histories, "test")
    assert isinstance(answers, Dense)
    return answers.scores(row_Q)


def test_votes_are_those_of_a_search_among_all_events_of_the_days_before(build: Build) -> None:
    histories = drawn(build)
    ranker = SpatialNeighbours(num_neighbours=5, scale_km=0.7, scale_hours=1.5, weather=0.0, own=2.0)
    hour = histories.time_s_N % DAY / HOUR
    here = where_users_are(histories, points_of(histories.items))
    row_Q = np.flatnonzero(histories.split_N == 2)
    found_QI = np.exp(log_probs(ranker, histories, row_Q))
    for row, found_I in zip(row_Q.tolist(), found_QI, strict=True):
        angle = 2 * np.pi * (hour - hour[row]) / 24
        clock = 24 / (2 * np.pi) / 1.5 * 2 * np.abs(np.sin(angle / 2))
        days = histories.time_s_N // DAY
        kind = ((days + 3) % 7 >= 5).astype(float)
        km = np.linalg.norm(np.nan_to_num(here) - np.nan_to_num(here[row]), axis=1) * EARTH_RADIUS_KM
        apart = np.sqrt(clock**2 + (km / 0.7) ** 2 + (kind - kind[row]) ** 2)
        sums = popular_shares(histories, "test").copy()
        earlier = np.flatnonzero(days < days[row])
        for near in earlier[np.argsort(apart[earlier])][:5]:
            sums[histories.item_idx_N[near]] += np.exp(-apart[near])
        for own in range(int(histories.offset_U1[histories.user_idx_N[row]]), row):
            sums[histories.item_idx_N[own]] += 2 * np.exp(-apart[own])
        assert found_I.tolist() == pytest.approx((sums / sums.sum()).tolist(), rel=1e-6)


def test_what_is_chosen_in_the_rain_is_expected_in_the_rain(build: Build) -> None:
    rows = [(user, day % 2, day * DAY + 12 * HOUR + user, "train" if day < 30 else "test")
            for user in range(3) for day in range(40)]  # fmt: skip
    histories = build(rows, 2)
    rain = pl.Series(histories.item_idx_N * 6.0)
    histories = replace(histories, events=histories.events.with_columns(precipitation_mm=rain))
    row_Q = np.flatnonzero(histories.split_N == 2)
    at = np.arange(len(row_Q)), histories.item_idx_N[row_Q]
    heedless = SpatialNeighbours(num_neighbours=20, scale_km=1.0, scale_hours=1.0, weather=0.0, own=0.0)
    assert np.exp(log_probs(heedless, histories, row_Q)[at]).mean() < 0.7
    assert (np.exp(log_probs(replace(heedless, weather=3.0), histories, row_Q)[at]) > 0.9).all()


def test_events_of_the_same_day_and_later_are_not_neighbours(build: Build) -> None:
    histories = drawn(build)
    row = int(np.flatnonzero(histories.split_N == 2)[-1])
    day = histories.time_s_N // DAY
    others = (day >= day[row]) & (histories.split_N == 2) & (histories.user_idx_N != histories.user_idx_N[row])
    assert others.any()
    altered_N = np.where(others, (histories.item_idx_N + 1) % 6, histories.item_idx_N).astype(np.int32)
    altered = replace(histories, item_idx_N=altered_N)
    ranker = SpatialNeighbours(num_neighbours=50, scale_km=0.7, scale_hours=1.5, weather=0.3, own=1.0)
    now, then = (log_probs(ranker, one, np.array([row])) for one in (histories, altered))
    assert then == pytest.approx(now)


def test_weather_of_two_columns_that_say_the_same_counts_once(build: Build) -> None:
    histories = drawn(build)
    cold = pl.col("temperature_c")
    events = histories.events.with_columns(wind_mps=10 - cold / 2, precipitation_mm=pl.lit(None, pl.Float64))
    twice = replace(histories, events=events)
    alone = replace(histories, events=histories.events.drop("precipitation_mm"))
    ranker = SpatialNeighbours(num_neighbours=9, scale_km=1.0, scale_hours=1.0, weather=0.5, own=1.0)
    row_Q = np.flatnonzero(histories.split_N == 2)
    assert log_probs(ranker, twice, row_Q) == pytest.approx(log_probs(ranker, alone, row_Q))
    of_columns = replace(ranker, numbers="standard")
    assert (log_probs(of_columns, twice, row_Q) != log_probs(of_columns, alone, row_Q)).any()


def test_noise_that_is_not_read_does_not_hide_what_decides(build: Build) -> None:
    rows = [(user, (day + user) % 2, day * DAY + 12 * HOUR + user, "train" if day < 60 else "test")
            for user in range(3) for day in range(80)]  # fmt: skip
    histories, rng = build(rows, 2), np.random.default_rng(1)
    noise = {f"noise{number}": rng.normal(size=len(rows)) for number in range(8)}
    decides = histories.item_idx_N + rng.normal(0, 0.2, len(rows))
    events = histories.events.with_columns(decides=pl.Series(decides), **{k: pl.Series(v) for k, v in noise.items()})
    manifest = {**histories.manifest, "context_columns": ["decides", *noise]}
    histories, row_Q = replace(histories, events=events, manifest=manifest), np.flatnonzero(histories.split_N == 2)
    at = np.arange(len(row_Q)), histories.item_idx_N[row_Q]
    ranker = SpatialNeighbours(num_neighbours=5, scale_km=1.0, scale_hours=1.0, weather=1.0, own=0.0)
    chosen, every = (
        np.exp(log_probs(replace(ranker, numbers=numbers), histories, row_Q)[at]).mean()
        for numbers in ("informative", "standard")
    )
    assert chosen > 0.9
    assert every < chosen - 0.05


def test_missing_package_is_named(town: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnfitDataError, match=r"'spatial KNN' needs the package scipy, .*'whereupon\[boosting\]'"):
        FAMILY.ranker(town, "test", FAMILY.grid()[0], 0)
