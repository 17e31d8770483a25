"""The task of every ranker."""

from collections.abc import Callable, Sequence

import pytest

from whereupon.errors import DataError
from whereupon.eval.protocol import read_task
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]


def test_task_has_the_events_whose_item_is_a_candidate(town: Histories) -> None:
    task = read_task(town, "test", EvaluateSettings())
    assert (task.row_E.tolist(), task.true_item_E.tolist(), task.num_without) == ([3, 6, 10, 12], [1, 2, 3, 0], 0)
    fresh = read_task(town, "test", EvaluateSettings(repeats="excluded"))
    assert (fresh.row_E.tolist(), fresh.true_item_E.tolist(), fresh.num_without) == ([10, 12], [3, 0], 2)


def test_task_is_sampled_among_the_events_that_are_left(town: Histories) -> None:
    task = read_task(town, "test", EvaluateSettings(repeats="excluded"), limit=1, seed=3)
    assert len(task.row_E) == 1
    assert set(task.row_E.tolist()) <= {10, 12}


def test_task_without_a_candidate_is_one_clear_sentence(build: Build) -> None:
    histories = build([(0, 0, 1, "train"), (0, 0, 5, "test"), (0, 0, 6, "test")], 2)
    with pytest.raises(DataError, match=r"^None of the 2 events of the test split .* candidate; set evaluate\.rep"):
        read_task(histories, "test", EvaluateSettings(repeats="excluded"))


def test_tasks_have_one_hash_exactly_if_they_ask_the_same(town: Histories, build: Build) -> None:
    whole = read_task(town, "test", EvaluateSettings())
    assert whole.hash == read_task(town, "test", EvaluateSettings(k=20), limit=4, seed=1).hash
    others = [
        read_task(town, "test", EvaluateSettings(), limit=3),
        read_task(town, "test", EvaluateSettings(repeats="excluded")),
        read_task(build([(0, 0, 1, "train"), (0, 0, 5, "test")], 2), "test", EvaluateSettings()),
    ]
    assert len({whole.hash, *(task.hash for task in others)}) == 4
