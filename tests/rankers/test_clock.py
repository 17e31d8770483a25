"""Local hours, and sums of what was before a time, against loops."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.histories import Histories
from whereupon.rankers.clock import Stream, local_hours

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
HOUR, DAY = 3600, 86_400


def test_week_begins_on_monday_at_midnight(build: Build) -> None:
    # Day 0, 1 January 1970, was a Thursday.
    rows = [
        (0, 0, 0, "train"),
        (0, 0, 4 * DAY - 1, "train"),
        (0, 0, 4 * DAY, "train"),
        (0, 0, 4 * DAY + 90 * 60, "test"),
    ]
    assert local_hours(build(rows, 1)).tolist() == pytest.approx([72, 168 - 1 / 3600, 0, 1.5])


@given(
    events=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3000), st.sampled_from([0.0, 0.5, 1, 3])), max_size=20),
    query=st.lists(st.integers(0, 3000), max_size=8),
    half_life_s=st.sampled_from([None, 0.7, 60.0, 4000.0]),  # 0.7: 4,000 half-lives between first and last
    weighted=st.booleans(),
)
def test_sums_count_what_is_strictly_earlier_and_fade(
    events: list[tuple[int, int, float]], query: list[int], half_life_s: float | None, weighted: bool
) -> None:
    events = sorted(events, key=lambda event: event[1])
    item_N, time_N = (np.array([event[i] for event in events], np.int64) for i in range(2))
    weight_N = np.array([event[2] for event in events], np.float64)
    stream = Stream(np.arange(len(events)), time_N, item_N, num_items=3)
    found = stream.sums_before(np.array(query, np.int64), weight_N if weighted else None, half_life_s)
    assert found.shape == (len(query), 3)
    for sums, now in zip(found, query, strict=True):
        expected = [0.0] * 3
        for item, time, weight in events:
            fading = 1.0 if half_life_s is None else 0.5 ** ((now - time) / half_life_s) if time < now else 0.0
            expected[item] += (weight if weighted else 1.0) * fading * (time < now)
        assert sums.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-100)


def test_stream_orders_the_events_of_all_users_by_time(town: Histories) -> None:
    stream = Stream.of(town)
    assert stream.time_N.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 22, 23, 24]
    assert stream.item_N.tolist() == town.item_idx_N[stream.row_N].tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 1, 2, 3, 2, 0]
