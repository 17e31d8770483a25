import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.errors import DataError
from whereupon.eval import evaluated_events, num_previous, sample_events
from whereupon.histories import Histories
from whereupon.histories.questions import STRETCH, sample_stretches
from whereupon.tests.texts import says

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]


def test_first_event_of_a_user_is_not_evaluated(town: Histories) -> None:
    rows = evaluated_events(town, "test")
    assert town.events[rows]["time"].dt.epoch("s").to_list() == [20, 21, 22, 24]  # Dan's first, at 23, is missing


def test_earlier_events_are_counted_per_user(town: Histories) -> None:
    assert num_previous(town).tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 0, 1]


def test_empty_split_is_one_clear_sentence(town: Histories) -> None:
    with pytest.raises(DataError, match=says("valid split", "no events", "histories.split", "again")):
        evaluated_events(town, "valid")


def test_split_of_first_events_only_says_so(build: Build) -> None:
    histories = build([(0, 0, 1, "train"), (1, 0, 5, "test"), (2, 0, 6, "test")], 1)
    with pytest.raises(DataError, match=says("2 events", "first of its user")):
        evaluated_events(histories, "test")


def test_histories_without_events_are_one_clear_sentence(build: Build) -> None:
    with pytest.raises(DataError, match="has no events"):
        evaluated_events(build([], 3), "test")


def test_sample_is_seeded_ascending_and_without_repeats() -> None:
    sample = sample_events(1000, 50, seed=7)
    assert len(np.unique(sample)) == 50
    assert (np.diff(sample) > 0).all()
    assert (sample == sample_events(1000, 50, seed=7)).all()
    assert (sample != sample_events(1000, 50, seed=8)).any()


@pytest.mark.parametrize("limit", [None, 5, 9])
def test_sample_of_all_events_is_all_events(limit: int | None) -> None:
    assert sample_events(5, limit, seed=7).tolist() == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 60), st.integers(0, 9))
def test_sample_has_whole_stretches_of_users_but_for_the_last(counts: list[int], limit: int, seed: int) -> None:
    user_N = np.repeat(np.arange(len(counts)), counts)
    sample = sample_stretches(user_N, limit, seed).tolist()
    assert sample == sorted(set(sample))
    assert len(sample) == min(limit, len(user_N))
    starts = np.cumsum([0, *counts]).tolist()
    stretches = [range(begin, min(begin + STRETCH, end)) for start, end in itertools.pairwise(starts)
                 for begin in range(start, end, STRETCH)]  # fmt: skip
    taken = [sum(position in sample for position in stretch) for stretch in stretches]
    cut = [i for i, num in enumerate(taken) if 0 < num < len(stretches[i])]
    assert len(cut) <= 1
    for i in cut:  # its first events
        assert [position in sample for position in stretches[i]] == [True] * taken[i] + [False] * (
            len(stretches[i]) - taken[i]
        )


def test_sample_of_stretches_follows_its_seed_and_prefers_no_user() -> None:
    user_N = np.repeat(np.arange(10), STRETCH)
    drawn = [sample_stretches(user_N, 2 * STRETCH, seed) for seed in range(600)]
    assert (drawn[3] == sample_stretches(user_N, 2 * STRETCH, 3)).all()
    times_N = np.bincount(np.concatenate(drawn), minlength=len(user_N))
    assert np.abs(times_N - 120).max() < 5 * 120**0.5


@pytest.mark.parametrize("limit", [None, 5, 9])
def test_sample_of_all_stretches_is_all_events(limit: int | None) -> None:
    assert sample_stretches(np.array([0, 0, 1, 1, 1]), limit, seed=7).tolist() == [0, 1, 2, 3, 4]
    assert sample_stretches(np.empty(0, np.int64), limit, seed=7).tolist() == []
