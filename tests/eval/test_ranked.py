"""From scores of all items to a ranking: against sorting in plain Python."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval import ranked
from whereupon.eval.protocol import Task, read_task
from whereupon.eval.ranked import rank_dense
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.candidates import Candidates, Repeats
from whereupon.histories.questions import evaluated_events
from whereupon.rankers.protocol import Dense

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
A, B, C, D, E = range(5)
NUM_ITEMS = 6
TICKS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, NUM_ITEMS - 1), st.integers(0, 30)), max_size=30)


@pytest.mark.parametrize("repeats", ["allowed", "excluded"])
@given(ticks=TICKS, k=st.integers(1, NUM_ITEMS + 2), cells=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_ranking_equals_sorting_by_score_popularity_and_item_idx(
    build: Build, with_splits: Any, tasks: Any, repeats: Repeats, ticks: Any, k: int, cells: int, seed: int
) -> None:
    if not ticks:
        return
    histories = build(with_splits(ticks), NUM_ITEMS)
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (len(ticks), NUM_ITEMS)).astype(rng.choice([np.float32, np.float64]))  # ties galore
    for task in tasks(histories, repeats):
        order = (lambda row_E: rng.permutation(len(row_E))) if seed % 2 else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranked, "_CELLS_PER_CHUNK", cells)
            found = rank_dense(task, Dense(lambda row_Q: scores[row_Q], True, order), k)
        earlier = histories.item_idx_N[histories.split_N < histories.split_N[task.row_E[0]]].tolist()
        assert found.row_E.tolist() == task.row_E.tolist()
        assert (found.item_EK.dtype, found.score_EK.dtype) == (np.int32, np.float64)
        for at, row in enumerate(task.row_E.tolist()):
            own = histories.item_idx_N[histories.offset_U1[histories.user_idx_N[row]] : row].tolist()
            held = [item for item in range(NUM_ITEMS) if repeats == "allowed" or item not in own]
            best = sorted(held, key=lambda item: (-scores[row, item], -earlier.count(item), item))
            truth = int(histories.item_idx_N[row])
            missing = max(k - len(best), 0)
            assert found.rank_E[at] == 1 + best.index(truth)
            assert found.item_EK[at].tolist() == best[:k] + [-1] * missing
            assert found.score_EK[at].tolist() == [*scores[row, best[:k]], *[-np.inf] * missing]
            assert found.log_prob_E is not None
            assert found.log_prob_E[at] == scores[row, truth]


def test_item_that_is_not_yet_known_is_left_out(town: Histories) -> None:
    available_s_I = np.array([0, 0, 0, 22, 99])  # D is known from Cyd's visit on, E never
    task = Task(town, "test", evaluated_events(town, "test"), Candidates(town, available_s_I=available_s_I))
    found = rank_dense(task, Dense(lambda row_Q: np.tile([0.0, 1, 2, 3, 4], (len(row_Q), 1))), k=4)
    assert found.item_EK.tolist() == [[C, B, A, -1], [C, B, A, -1], [D, C, B, A], [D, C, B, A]]
    assert found.rank_E.tolist() == [2, 1, 1, 4]
    assert found.score_EK[0].tolist() == [2, 1, 0, -np.inf]
    assert found.log_prob_E is None


def test_scores_of_the_caller_are_not_changed(town: Histories) -> None:
    task = read_task(town, "test", EvaluateSettings(repeats="excluded"))
    scores = np.arange(5.0) + np.zeros((len(task.row_E), 1))
    rank_dense(task, Dense(lambda row_Q: scores), k=2)
    assert (scores == np.arange(5.0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_score_that_is_not_finite_is_the_rankers_mistake(town: Histories, bad: float) -> None:
    task = read_task(town, "test", EvaluateSettings())
    with pytest.raises(ValueError, match="finite"):
        rank_dense(task, Dense(lambda row_Q: np.full((len(row_Q), 5), bad)), k=2)


def test_scores_of_another_shape_are_the_rankers_mistake(town: Histories) -> None:
    task = read_task(town, "test", EvaluateSettings())
    with pytest.raises(ValueError, match=r"shape \(4, 5\)"):
        rank_dense(task, Dense(lambda row_Q: np.zeros((len(row_Q), 4))), k=2)
