from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.prompts.profile import MAX_PLACES, profile_frame

Visit = tuple[int, str]  # item, local ISO time; 2024-01-01 is a Monday


def _profile(visits: Sequence[Visit], by_recency: bool = False) -> pl.DataFrame:
    """The profile of a window that opens after all these visits."""
    times = pl.Series([datetime.fromisoformat(time) for _, time in visits], dtype=pl.Datetime("us"))
    items = np.array([item for item, _ in visits], np.int64)
    return profile_frame(items, times, np.array([0]), np.array([len(visits)]), by_recency)


def test_profile_by_hand_shows_counts_days_and_hours() -> None:
    frame = _profile([
        (0, "2024-01-01T08:10"), (2, "2024-01-01T12:00"), (0, "2024-01-02T08:20"), (0, "2024-01-03T09:00"),
        (0, "2024-01-04T08:00"), (1, "2024-01-06T20:00"), (2, "2024-01-06T12:30"), (1, "2024-01-07T20:59"),
        (1, "2024-01-13T21:00"),
    ])  # fmt: skip
    assert frame.rows() == [
        (0, 0, 4, 4 / 9, "weekdays", "morning 8"),
        (0, 1, 3, 3 / 9, "weekends", "evening 8"),
        (0, 2, 2, 2 / 9, "any day", "afternoon 12"),
    ]
    assert frame.columns == ["window", "item_idx", "count", "share", "days", "hours"]


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        ([8, 8, 8, 18, 18], "morning 8, evening 6"),
        ([8, 8, 8, 18], "morning 8"),  # once is no habit
        ([8] * 7 + [18] * 2, "morning 8"),  # less than a quarter
        ([8] * 6 + [18] * 2, "morning 8, evening 6"),  # a quarter
        ([8, 8, 8, 11, 11], "morning 8"),  # three hours apart are one time of day
        ([8, 8, 8, 12, 12], "morning 8, afternoon 12"),
        ([23, 0, 0, 22], "night 12"),  # midnight does not part them
        ([7, 8, 9], "morning 8"),  # around 8, though no hour is more frequent
        ([0], "night 12"),
        ([13], "afternoon 1"),
    ],
)
def test_usual_hours_by_hand(hours: list[int], said: str) -> None:
    assert _profile([(0, f"2024-01-01T{hour:02}:30") for hour in hours])["hours"].to_list() == [said]


@pytest.mark.parametrize(("num_weekend", "days"), [(1, "weekdays"), (2, "any day"), (6, "any day"), (7, "weekends")])
def test_days_are_shown_by_their_share_of_ten_visits(num_weekend: int, days: str) -> None:
    dates = ["2024-01-06"] * num_weekend + ["2024-01-02"] * (10 - num_weekend)
    assert _profile([(0, f"{date}T08:00") for date in dates])["days"].to_list() == [days]


def test_equal_counts_come_by_the_latest_visit() -> None:
    assert _profile([(5, "2024-01-01T08"), (3, "2024-01-02T08"), (4, "2024-01-03T08")])["item_idx"].to_list() == [
        4,
        3,
        5,
    ]


def test_by_recency_two_late_visits_outweigh_three_of_long_ago() -> None:
    old, filler, new = [(0, "2024-01-01T08")] * 3, [(9, "2024-01-02T08")] * 200, [(1, "2024-01-03T08")] * 2
    assert _profile([*old, *filler, *new])["item_idx"].to_list() == [9, 0, 1]
    assert _profile([*old, *filler, *new], by_recency=True)["item_idx"].to_list() == [9, 1, 0]


def test_no_more_places_than_the_most_important_ones() -> None:
    visits = [(item, "2024-01-01T08:00") for item in range(MAX_PLACES + 5)]
    frame = _profile([*visits, (0, "2024-01-02T08:00")])
    assert frame.height == MAX_PLACES
    assert frame["item_idx"][0] == 0


@settings(deadline=None, max_examples=15)
@given(
    visits=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), min_size=2, max_size=12),
    by_recency=st.booleans(),
    data=st.data(),
)
def test_profiles_shown_together_equal_each_alone_and_a_naive_count(
    visits: list[tuple[int, int]], by_recency: bool, data: st.DataObject
) -> None:
    start_W = np.array(sorted(data.draw(st.lists(st.integers(1, len(visits)), min_size=1, max_size=3))))
    first_W = np.zeros(len(start_W), np.int64)
    items = np.array([item for item, _ in visits], np.int64)
    times = pl.Series([datetime(2024, 1, 1) + timedelta(hours=h) for _, h in visits], dtype=pl.Datetime("us"))
    together = profile_frame(items, times, first_W, start_W, by_recency)
    for w, start in enumerate(start_W):
        mine = together.filter(pl.col("window") == w).drop("window")
        alone = profile_frame(items, times, first_W[w : w + 1], start_W[w : w + 1], by_recency).drop("window")
        assert mine.equals(alone)
        naive = {item: int((items[:start] == item).sum()) for item in set(items[:start].tolist())}
        assert dict(mine.select("item_idx", "count").iter_rows()) == naive
