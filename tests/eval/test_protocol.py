from collections.abc import Callable, Sequence

import numpy as np
import pytest

from whereupon.errors import DataError
from whereupon.eval import evaluated_events, num_previous, sample_events
from whereupon.histories import Histories

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]


def test_first_event_of_a_user_is_not_evaluated(town: Histories) -> None:
    rows = evaluated_events(town, "test")
    assert town.events[rows]["time"].dt.epoch("s").to_list() == [20, 21, 22, 24]  # Dan's first, at 23, is missing


def test_earlier_events_are_counted_per_user(town: Histories) -> None:
    assert num_previous(town).tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 0, 1]


def test_empty_split_is_one_clear_sentence(town: Histories) -> None:
    with pytest.raises(DataError, match=r"^The valid split .* has no events; change histories\.split .* again\.$"):
        evaluated_events(town, "valid")


def test_split_of_first_events_only_says_so(build: Build) -> None:
    histories = build([(0, 0, 1, "train"), (1, 0, 5, "test"), (2, 0, 6, "test")], 1)
    with pytest.raises(DataError, match="has 2 events, each the first of its user"):
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
