"""Popularity of all time, of late, and by hour of the week: by hand, and against loops."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.eval.protocol import Task, read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.candidates import Repeats
from whereupon.rankers.popular import FAMILIES, HourOfWeekPopularity, Popularity, RecentPopularity

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
HOUR, DAY, WEEK = 3600, 86_400, 7 * 86_400
A, B, C, D, E = range(5)
NUM_ITEMS = 5
TICKS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, NUM_ITEMS - 1), st.integers(0, 60)), min_size=2, max_size=40
)


def the_task(histories: Histories, repeats: Repeats = "allowed") -> Task:
    return read_task(histories, "test", EvaluateSettings(repeats=repeats))


def naive_share(histories: Histories, row: int, item: int) -> float:
    earlier = [
        int(i) for i, s in zip(histories.item_idx_N, histories.split_N, strict=True) if s < histories.split_N[row]
    ]
    return (earlier.count(item) + 1) / (len(earlier) + histories.items.height)


def naive(histories: Histories, row: int, weight: Callable[[int], float], prior_events: float) -> list[float]:
    """log p of each item, from the weight of every event strictly before a row."""
    now = histories.time_s_N[row]
    before = [(int(histories.item_idx_N[e]), weight(e)) for e in range(len(histories.time_s_N)) if
              histories.time_s_N[e] < now]  # fmt: skip
    total = sum(w for _, w in before) + prior_events
    return [
        math.log((sum(w for i, w in before if i == item) + prior_events * naive_share(histories, row, item)) / total)
        for item in range(histories.items.height)
    ]


def test_popularity_ranks_by_counts_of_earlier_splits_and_is_a_distribution(town: Histories) -> None:
    # A 3, B 3, C 2, D 0, E 0 events, each counted once more.
    found = rank(Popularity(), the_task(town), 5)
    assert found.rank_E.tolist() == [2, 3, 4, 1]
    assert np.exp(found.score_EK[0]).tolist() == pytest.approx([4 / 13, 4 / 13, 3 / 13, 1 / 13, 1 / 13])
    assert found.item_EK.tolist() == [[A, B, C, D, E]] * 4


def test_popularity_passes_over_what_is_no_candidate(town: Histories) -> None:
    found = rank(Popularity(), the_task(town, "excluded"), 5)
    # Only Cyd goes to a place that she did not know, and Dan, who has been to C alone.
    assert found.item_EK.tolist() == [[D, E, -1, -1, -1], [A, B, D, E, -1]]
    assert found.rank_E.tolist() == [1, 1]


def test_what_is_recent_beats_what_was_often(build: Build) -> None:
    rows = [(0, A, t, "train") for t in (1, 2, 3)] + [(1, B, 8 * DAY, "test"), (2, C, 8 * DAY, "train")]
    histories = build([*rows, (2, C, 9 * DAY, "test")], 3)
    assert rank(RecentPopularity(None), the_task(histories), 3).item_EK.tolist() == [[A, C, B]]
    assert rank(RecentPopularity(1.0), the_task(histories), 3).item_EK.tolist() == [[C, B, A]]


def test_hour_of_the_week_decides(build: Build) -> None:
    monday = 4 * DAY
    rows = [(0, A, monday + 8 * HOUR, "train"), (1, B, monday + 20 * HOUR, "train"), (2, C, monday + DAY, "train")]
    morning, evening = monday + WEEK + 9 * HOUR, monday + WEEK + 21 * HOUR
    ranker = HourOfWeekPopularity(sigma_hours=2.0, any_day=0.0, backoff_events=0.1)
    assert rank(ranker, the_task(build([*rows, (2, A, morning, "test")], 4)), 4).item_EK[0, 0] == A
    assert rank(ranker, the_task(build([*rows, (2, A, evening, "test")], 4)), 4).item_EK[0, 0] == B


def test_weights_of_hours_go_around_the_week_and_the_day() -> None:
    hour_N = np.array([0.5, 1.5, 166.5, 24.5, 4.5, 5.5])
    once = HourOfWeekPopularity(1.0, 0.0, 1.0).weights(hour_N, 0.5)
    assert once.tolist() == pytest.approx([1, math.exp(-0.5), math.exp(-2), 0, math.exp(-8), 0])
    daily = HourOfWeekPopularity(1.0, 0.5, 1.0).weights(hour_N, 0.5)
    assert (daily - once).tolist() == pytest.approx(
        [0.5, 0.5 * math.exp(-0.5), 0.5 * math.exp(-2), 0.5, 0.5 * math.exp(-8), 0]
    )


@pytest.mark.parametrize("half_life_days", [None, 1.0, 0.05])
@pytest.mark.parametrize("repeats", ["allowed", "excluded"])
@given(ticks=TICKS)
def test_recent_popularity_equals_counting_one_by_one(
    build: Build, with_splits: Any, tasks: Any, agrees: Any, repeats: Repeats, half_life_days: float | None, ticks: Any
) -> None:
    histories = build(with_splits(ticks), NUM_ITEMS)
    time = histories.time_s_N

    def scores(row: int) -> list[float]:
        fading = 0.0 if half_life_days is None else 1 / (half_life_days * DAY)
        return naive(histories, row, lambda e: 0.5 ** (float(time[row] - time[e]) * fading), 1.0)

    for task in tasks(histories, repeats):
        agrees(task, rank(RecentPopularity(half_life_days), task, NUM_ITEMS), scores)


def somewhere(histories: Histories) -> Histories:
    """Each event at one of three places or at none, and all of that known beforehand."""
    number_N = np.arange(len(histories.user_idx_N)) * 7 % 4
    latitude = pl.Series("latitude", [None if n == 3 else 40 + 0.02 * n for n in number_N.tolist()], pl.Float64)
    events = histories.events.with_columns(latitude, longitude=pl.lit(-73.0))
    return replace(histories, events=events, location="context")


@pytest.mark.parametrize("any_day", [0.0, 0.3])
@given(
    ticks=TICKS,
    sigma_hours=st.sampled_from([0.3, 3.0]),
    backoff_events=st.sampled_from([0.3, 20.0]),
    elsewhere=st.sampled_from([0.0, 0.1, 1.0]),
    placed=st.booleans(),
)
def test_popularity_by_hour_of_week_equals_counting_one_by_one(
    build: Build, with_splits: Any, tasks: Any, agrees: Any, any_day: float, ticks: Any, sigma_hours: float,
    backoff_events: float, elsewhere: float, placed: bool,
) -> None:  # fmt: skip
    histories = build(with_splits(ticks), NUM_ITEMS)
    histories = somewhere(histories) if placed else histories
    width = min(1.0, sigma_hours)
    place = np.arange(len(histories.user_idx_N)) * 7 % 4
    hours = [(float(time) / HOUR + 72) % 168 for time in histories.time_s_N]

    def gaussian(apart: float, period: float) -> float:
        apart = min(apart % period, -apart % period) / sigma_hours
        return math.exp(-0.5 * apart**2) if apart <= 4 else 0.0

    def scores(row: int) -> list[float]:
        middle = (math.floor(hours[row] / width) + 0.5) * width

        def weight(e: int) -> float:
            near = gaussian(hours[e] - middle, 168) + any_day * gaussian(hours[e] - middle, 24)
            return near * (elsewhere if placed and place[e] != place[row] else 1.0)

        return naive(histories, row, weight, backoff_events)

    ranker = HourOfWeekPopularity(sigma_hours, any_day, backoff_events, elsewhere)
    for task in tasks(histories):
        agrees(task, rank(ranker, task, NUM_ITEMS), scores)


def test_names_are_those_of_tables() -> None:
    assert [family.name for family in FAMILIES] == [
        "popularity",
        "recent popularity",
        "popularity by hour of week",
    ]
