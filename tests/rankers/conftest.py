"""Tasks out of a few rows, and what a ranking must be, given a naive score of every item."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from whereupon.eval.protocol import Task
from whereupon.eval.rankings import Rankings
from whereupon.histories import Histories

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]


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
            truth = int(task.histories.item_idx_N[row])
            ahead = int((scores[held] > scores[truth] + slack).sum())
            tied = int((np.abs(scores[held] - scores[truth]) <= slack).sum()) - 1
            assert 1 + ahead <= found.rank_E[at] <= 1 + ahead + tied
            if found.log_prob_E is not None:
                assert found.log_prob_E[at] == pytest.approx(scores[truth], rel=1e-5, abs=1e-5)

    return agrees
