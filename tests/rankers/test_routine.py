"""Own counts by hour of the week: by hand, and against loops."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.rankers import user_history
from whereupon.rankers.own import OwnHours
from whereupon.rankers.user_history import by_age, each_one, past_sums

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
HOUR, DAY = 3600, 86_400
A, B, C, D, E = range(5)
NUM_ITEMS = 5
TICKS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, NUM_ITEMS - 1), st.integers(0, 60)), min_size=2, max_size=40
)


def test_past_sums_count_own_rows_before(town: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [[2, 1, 0, 0, 0], [0, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0] * 5, [0, 0, 1, 0, 0]]
    rows = np.array([3, 6, 10, 11, 12])
    assert past_sums(town, rows, each_one).tolist() == expected
    monkeypatch.setattr(user_history, "_ENTRIES", 1)
    assert past_sums(town, rows, each_one).tolist() == expected


def test_age_counts_events_from_the_last_one(town: Histories) -> None:
    assert past_sums(town, np.array([3]), by_age(1.0)).tolist() == [[1.25, 0.5, 0, 0, 0]]  # A B A
    assert past_sums(town, np.array([3]), by_age(None)).tolist() == [[2, 1, 0, 0, 0]]


def test_hour_and_kind_of_day_decide_and_unknown_items_follow_by_popularity(build: Build) -> None:
    monday = 4 * DAY
    week = [(0, A, monday + d * DAY + 8 * HOUR, "train") for d in range(5)]
    week += [(0, B, monday + d * DAY + 18 * HOUR, "train") for d in range(5)]
    week += [(0, C, monday + d * DAY + 18 * HOUR, "train") for d in (5, 6)]
    rows = [*week, (1, E, monday, "train")]
    ranker = OwnHours(sigma_hours=1.5, other_kind=0.1, backoff_events=0.1, popular_events=1.0)
    for day, hour, expected in [(7, 9, A), (7, 17, B), (12, 19, C)]:
        histories = build([*rows, (0, A, monday + day * DAY + hour * HOUR, "test")], 5)
        found = rank(ranker, read_task(histories, "test", EvaluateSettings()), 5)
        assert found.item_EK[0, 0] == expected
        assert found.item_EK[0, 3:].tolist() == [E, D]
        assert np.exp(found.score_EK[0]).sum() == pytest.approx(1)


@given(ticks=TICKS, sigma_hours=st.sampled_from([0.5, 4.0]), other_kind=st.sampled_from([0.0, 0.4]))
def test_scores_equal_three_nested_distributions(
    build: Build, with_splits: Any, tasks: Any, agrees: Any, ticks: Any, sigma_hours: float, other_kind: float
) -> None:
    histories = build(with_splits(ticks), NUM_ITEMS)
    item, local = histories.item_idx_N.tolist(), histories.events["local_time"].to_list()

    def scores(row: int) -> list[float]:
        earlier = [i for i, s in zip(item, histories.split_N, strict=True) if s < histories.split_N[row]]
        past = range(int(histories.offset_U1[histories.user_idx_N[row]]), row)
        weights = []
        for e in past:
            apart = abs(local[row].hour + local[row].minute / 60 - local[e].hour - local[e].minute / 60)
            same = (local[row].weekday() >= 5) == (local[e].weekday() >= 5)
            weights.append(math.exp(-0.5 * (min(apart, 24 - apart) / sigma_hours) ** 2) * (1 if same else other_kind))
        found = []
        for i in range(NUM_ITEMS):
            popular = (earlier.count(i) + 1) / (len(earlier) + NUM_ITEMS)
            own = (sum(item[e] == i for e in past) + 2.0 * popular) / (len(past) + 2.0)
            now = sum(w for w, e in zip(weights, past, strict=True) if item[e] == i)
            found.append(math.log((now + 0.5 * own) / (sum(weights) + 0.5)))
        return found

    for task in tasks(histories):
        agrees(task, rank(OwnHours(sigma_hours, other_kind, 0.5, 2.0), task, NUM_ITEMS), scores)
