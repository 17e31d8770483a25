"""Tasks out of a few rows, and what a ranking must be, given a naive score of every item."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from whereupon.errors import DataError
from whereupon.eval.protocol import Task, read_task
from whereupon.eval.rankings import Rankings
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.candidates import EvaluatedSplit, Repeats

Row = tuple[int, int, int, str]
Tick = tuple[int, int, int]  # user, item_idx, time in ticks of seven hours
Build = Callable[[Sequence[Row], int], Histories]
SPLITS: tuple[EvaluatedSplit, ...] = ("valid", "test")


@pytest.fixture(scope="session")
def with_splits() -> Callable[[Sequence[Tick]], list[Row]]:
    """Rows of events at ticks of seven hours, split by time, so that equal times fall into the same split."""

    def with_splits(ticks: Sequence[Tick]) -> list[Row]:
        return [
            (user, item, tick * 7 * 3600, "train" if tick < 12 else "valid" if tick < 18 else "test")
            for user, item, tick in sorted(ticks, key=lambda event: event[2])
        ]

    return with_splits


@pytest.fixture(scope="session")
def tasks() -> Callable[..., list[Task]]:
    """The tasks of both splits, as far as they have events."""

    def tasks(histories: Histories, repeats: Repeats = "allowed") -> list[Task]:
        found = []
        for split in SPLITS:
            try:
                found.append(read_task(histories, split, EvaluateSettings(repeats=repeats)))
            except DataError:
                continue
        return found

    return tasks


@pytest.fixture(scope="session")
def agrees() -> Callable[..., None]:
    """Asserts that a ranking of all items is the one of naive scores, where these differ by more than rounding."""

    def agrees(task: Task, found: Rankings, naive: Callable[[int], Sequence[float]], slack: float = 1e-6) -> None:
        num_items = task.histories.items.height
        assert found.k == num_items, "ask for all items"
        for at, row in enumerate(task.row_E.tolist()):
            scores = np.array(naive(row), np.float64)
            held = np.flatnonzero(task.candidates.allowed(task.row_E[[at]])[0]).tolist()
            items = [item for item in found.item_EK[at].tolist() if item >= 0]
            assert sorted(items) == held
            assert found.score_EK[at, : len(items)].tolist() == pytest.approx(
                scores[items].tolist(), rel=slack, abs=slack
            )
            truth = int(task.histories.item_idx_E[row])
            ahead = int((scores[held] > scores[truth] + slack).sum())
            tied = int((np.abs(scores[held] - scores[truth]) <= slack).sum()) - 1
            assert 1 + ahead <= found.rank_E[at] <= 1 + ahead + tied
            if found.log_prob_E is not None:
                assert found.log_prob_E[at] == pytest.approx(scores[truth], rel=1e-5, abs=1e-5)

    return agrees
