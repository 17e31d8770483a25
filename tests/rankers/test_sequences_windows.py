"""Windows against naive loops, and by hand on the town."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.histories import Histories
from whereupon.histories.questions import num_previous
from whereupon.rankers.sequences import NUM_GAPS, Transitions, Windows, time_features, windows_before

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
MINUTE, HOUR, DAY = 60, 3600, 86_400

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 50), st.sampled_from(["train", "valid", "test"])),
    min_size=1,
    max_size=40,
)


def _steps(windows: Windows) -> list[list[tuple[int, int]]]:
    """What is read and what is predicted, window by window, without the padding."""
    return [
        list(zip(row_L[:length].tolist(), next_L[:length].tolist(), strict=True))
        for row_L, next_L, length in zip(windows.row_WL, windows.next_WL, windows.length_W, strict=True)
    ]


def test_window_before_an_event_is_the_users_last_events_of_any_split(town: Histories) -> None:
    # Rows 0 to 3 are Ann's, 4 to 6 Bob's, 7 to 10 Cyd's, 11 and 12 Dan's.
    windows = windows_before(town, np.array([3, 10, 12]), length=2)
    assert _steps(windows) == [[(1, 2), (2, 3)], [(8, 9), (9, 10)], [(11, 12)]]
    assert windows.real_WL.tolist() == [[True, True], [True, True], [True, False]]


@given(rows=ROWS, length=st.integers(1, 6))
@settings(deadline=None)
def test_windows_before_events_equal_a_loop_over_rows(build: Build, rows: list[Row], length: int) -> None:
    histories = build(rows, 6)
    row_Q = np.flatnonzero(num_previous(histories) > 0)
    begin_N = histories.offset_U1[histories.user_idx_N]
    expected = [[(at, at + 1) for at in range(max(begin_N[row], row - length), row)] for row in row_Q.tolist()]
    assert _steps(windows_before(histories, row_Q, length)) == expected


@given(rows=ROWS, length=st.integers(1, 6), seed=st.integers(0, 9))
@settings(deadline=None)
def test_training_windows_hold_each_step_of_the_train_split_once(
    build: Build, rows: list[Row], length: int, seed: int
) -> None:
    histories = build(rows, 6)
    expected = []
    for user in range(len(histories.user_ids)):
        train = np.flatnonzero((histories.user_idx_N == user) & (histories.split_N == 0)).tolist()
        expected += list(pairwise(train))
    windows = _steps(Transitions.of(histories).windows(length, np.random.default_rng(seed)))
    assert [step for window in windows for step in window] == expected
    assert all(1 <= len(window) <= length for window in windows)
    # Within a window each step goes on where the one before it led.
    assert all(a[1] == b[0] for window in windows for a, b in pairwise(window))


def test_long_history_is_cut_at_another_place_in_another_epoch(build: Build) -> None:
    transitions = Transitions.of(build([(0, 0, at, "train") for at in range(21)], 1))
    generator = np.random.default_rng(0)
    lengths = {tuple(transitions.windows(8, generator).length_W.tolist()) for _ in range(50)}
    few, many = {(head, 8, 12 - head) for head in range(4, 9)}, {(head, 8, 8, 4 - head) for head in range(1, 4)}
    assert lengths == few | many


def test_users_of_one_training_event_give_no_window(build: Build) -> None:
    histories = build([(0, 0, 1, "train"), (0, 1, 2, "test"), (1, 2, 3, "train")], 3)
    windows = Transitions.of(histories).windows(4, np.random.default_rng(0))
    assert len(windows.length_W) == 0


def test_known_items_are_those_of_training_events(town: Histories) -> None:
    assert Transitions.of(town).known(town).tolist() == [True, True, True, False, False]


def test_request_is_hour_day_and_class_of_the_time_since_the_previous_event(build: Build) -> None:
    start = 4 * DAY + 9 * HOUR  # Monday, 5 January 1970, 9:00
    gaps = [0, 90, 3 * MINUTE, 2 * HOUR, 4000 * DAY]  # below 2 min, below 4 min, below 128 min, the open class
    times = np.cumsum([start, *gaps]).tolist()
    found = time_features(build([(0, 0, at, "train") for at in times], 1))
    assert found[:4].tolist() == [[9, 0, 0], [9, 0, 1], [9, 0, 1], [9, 0, 2]]
    assert found[4].tolist() == [11, 0, 7]
    assert found[5, 2] == NUM_GAPS - 1


def test_first_event_of_a_user_has_no_gap_though_another_users_stands_before_it(town: Histories) -> None:
    assert np.flatnonzero(time_features(town)[:, 2] == 0).tolist() == [0, 4, 7, 11]
