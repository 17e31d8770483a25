"""Candidates by hand, and that both ways of computing them agree with plain Python."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.candidates import AVAILABLE_FROM, Candidates, Repeats
from whereupon.rankers.families import FAMILIES
from whereupon.rankers.settings import BaselineName

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
NUM_ITEMS = 5


def known_from(histories: Histories, seconds: Sequence[float | None]) -> Histories:
    """The same histories with items that are known from some times on."""
    times = [None if s is None else datetime.fromtimestamp(s, UTC) for s in seconds]
    column = pl.Series(AVAILABLE_FROM, times, dtype=pl.Datetime("us", "UTC"))
    return replace(histories, items=histories.items.with_columns(column))


def test_everything_is_a_candidate_by_default(town: Histories) -> None:
    candidates = Candidates.of(town)
    assert candidates.everything
    assert candidates.allowed(np.array([3, 10])).tolist() == [[True] * 5] * 2
    assert candidates.holds(np.array([3, 10]), np.array([4, 0])).tolist() == [True, True]


def test_own_past_items_are_excluded_and_the_event_itself_is_no_past(town: Histories) -> None:
    candidates = Candidates.of(town, "excluded")
    assert not candidates.everything
    # Ann's B at 20 after A B A; Cyd's D at 22 after A B C; Dan's C at 23 after nothing.
    assert candidates.allowed(np.array([3, 10, 11])).astype(int).tolist() == [
        [0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1],
    ]  # fmt: skip


def test_item_is_a_candidate_from_its_second_on_and_not_a_second_before(town: Histories) -> None:
    candidates = Candidates.of(known_from(town, [None, 20, 20.5, 21, 99]))
    assert not candidates.everything
    assert candidates.allowed(np.array([3, 6])).astype(int).tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]  # at 20, 21


def test_item_is_a_candidate_of_its_own_first_event_and_not_a_millisecond_before(town: Histories) -> None:
    """As in logs with milliseconds, where `prepare` makes a first event the time from which on an item is known."""
    late = town.events.with_columns(pl.col("time") + pl.duration(milliseconds=500))
    histories = replace(known_from(town, [None, 20.5, 20.501, 20.499, 21]), events=late)
    candidates, row_X = Candidates.of(histories), np.full(5, 3)  # at 20.5
    assert candidates.allowed(row_X[:1]).astype(int).tolist() == [[1, 1, 0, 1, 0]]
    assert candidates.holds(row_X, np.arange(5)).astype(int).tolist() == [1, 1, 0, 1, 0]


def test_column_without_times_changes_nothing(town: Histories) -> None:
    assert Candidates.of(known_from(town, [None] * 5)).everything


@pytest.mark.parametrize("repeats", ["allowed", "excluded"])
@given(
    events=st.lists(st.tuples(st.integers(0, 2), st.integers(0, NUM_ITEMS - 1), st.integers(0, 9)), min_size=1),
    known=st.lists(st.none() | st.integers(0, 9), min_size=NUM_ITEMS, max_size=NUM_ITEMS),
)
@settings(deadline=None, max_examples=60)
def test_candidates_are_those_of_plain_python(
    build: Build, repeats: Repeats, events: list[tuple[int, int, int]], known: list[int | None]
) -> None:
    histories = known_from(build([(*event, "test") for event in events], NUM_ITEMS), known)
    candidates = Candidates.of(histories, repeats)
    user, item, time = histories.user_idx_N, histories.item_idx_N, histories.time_s_N
    row_N = np.arange(len(item))
    expected = [
        [
            (known[i] is None or known[i] <= time[row])  # type: ignore[operator]
            and (repeats == "allowed" or not any(user[r] == user[row] and item[r] == i for r in range(row)))
            for i in range(NUM_ITEMS)
        ]
        for row in row_N
    ]
    assert candidates.allowed(row_N).tolist() == expected
    row_X, item_X = np.repeat(row_N, NUM_ITEMS), np.tile(np.arange(NUM_ITEMS), len(row_N))
    assert candidates.holds(row_X, item_X).tolist() == [cell for row in expected for cell in row]


@pytest.mark.parametrize("name", ["own counts", "own counts by hour of week"])
def test_own_counts_rank_as_popularity_does_where_repeats_are_excluded(name: BaselineName, town: Histories) -> None:
    task = read_task(town, "test", EvaluateSettings(repeats="excluded"))
    asked = [FAMILIES[name], FAMILIES["popularity"]]
    own, popular = (rank(family.ranker(town, "test", family.grid()[0], 7), task, 10) for family in asked)
    assert own.item_EK.tolist() == popular.item_EK.tolist()
    assert own.rank_E.tolist() == popular.rank_E.tolist()
