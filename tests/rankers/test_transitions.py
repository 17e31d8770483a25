"""First-order transitions: by hand, and against loops."""

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
from whereupon.rankers.transitions import FAMILIES, Transitions

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
A, B, C, D, E = range(5)
NUM_ITEMS = 5
TICKS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, NUM_ITEMS - 1), st.integers(0, 40)), min_size=2, max_size=40
)
FACTORISED = FAMILIES[1]


def test_moves_of_all_and_of_the_user_and_popularity_add_up(town: Histories) -> None:
    found = rank(Transitions(own=2.0, backoff_events=13.0), read_task(town, "test", EvaluateSettings()), 5)
    # Popularity (A 3, B 3, C 2 of 8, each once more) counts as 13 events: 4, 4, 3, 1, 1.
    # Ann from A: she and Cyd went to B, and hers counts twice more: B 4 + 2 + 2 of 13 + 2 + 2.
    assert np.exp(found.score_EK[0]).tolist() == pytest.approx([8 / 17, 4 / 17, 3 / 17, 1 / 17, 1 / 17])
    assert found.item_EK[0].tolist() == [B, A, C, D, E]
    # Bob from C: no user had moved from there. Cyd from C: Bob did so a second ago, to C.
    assert found.item_EK[1:3].tolist() == [[A, B, C, D, E], [A, B, C, D, E]]
    assert np.exp(found.score_EK[2]).tolist() == pytest.approx([4 / 14, 4 / 14, 4 / 14, 1 / 14, 1 / 14])
    # Dan from C: Bob to C, Cyd to D; his own arrival at C was no move.
    assert np.exp(found.score_EK[3]).tolist() == pytest.approx([4 / 15, 4 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert found.rank_E.tolist() == [1, 3, 4, 1]


@given(ticks=TICKS, own=st.sampled_from([0.0, 3.0]), backoff_events=st.sampled_from([0.1, 10.0]))
def test_scores_equal_counting_moves_one_by_one(
    build: Build, with_splits: Any, tasks: Any, agrees: Any, ticks: Any, own: float, backoff_events: float
) -> None:
    histories = build(with_splits(ticks), NUM_ITEMS)
    item, user, time = histories.item_idx_N.tolist(), histories.user_idx_N.tolist(), histories.time_s_N.tolist()
    moves = [e for e in range(1, len(item)) if user[e] == user[e - 1]]

    def scores(row: int) -> list[float]:
        earlier = [i for i, s in zip(item, histories.split_N, strict=True) if s < histories.split_N[row]]
        here = [e for e in moves if item[e - 1] == item[row - 1]]
        sums = []
        for i in range(NUM_ITEMS):
            of_all = sum(item[e] == i for e in here if time[e] < time[row])
            of_user = sum(item[e] == i for e in here if user[e] == user[row] and e < row)
            popular = (earlier.count(i) + 1) / (len(earlier) + NUM_ITEMS)
            sums.append(of_all + own * of_user + backoff_events * popular)
        return [math.log(s / sum(sums)) for s in sums]

    for task in tasks(histories):
        agrees(task, rank(Transitions(own, backoff_events), task, NUM_ITEMS), scores)


def test_factorised_transitions_learn_the_last_item_and_the_user(build: Build) -> None:
    # Everybody goes home to A from wherever, and from there even people to B and odd ones to C.
    rows = [(user, A if t % 2 else (B, C)[user % 2], 10 * t + user, "train" if t <= 29 else "test")
            for user in range(4) for t in range(32)]  # fmt: skip
    task = read_task(build(rows, 4), "test", EvaluateSettings())
    settings = {"rank": 8, "penalty": 0.001, "epochs": 150}
    found = rank(FACTORISED.ranker(task.histories, "test", settings, seed=3), task, 4)
    assert task.true_item_E.tolist() == [B, A, C, A] * 2
    assert found.rank_E.tolist() == [1] * 8
    assert found.log_prob_E is not None
    assert (np.exp(found.log_prob_E) > 0.8).all()
    assert np.exp(found.score_EK).sum(axis=1).tolist() == pytest.approx([1.0] * 8)


def test_factorised_transitions_are_fitted_to_earlier_splits_alone(build: Build) -> None:
    settings = {"rank": 4, "penalty": 0.01, "epochs": 2}
    rows = [(0, A, 1, "train"), (0, B, 2, "train"), (1, A, 2, "train"), (0, C, 3, "valid"), (0, B, 9, "test")]
    scores = []
    for last in (B, D):
        histories = build([*rows[:-1], (0, last, 9, "test"), (1, last, 9, "test")], 4)
        task = read_task(histories, "test", EvaluateSettings())
        scores.append(rank(FACTORISED.ranker(histories, "test", settings, seed=3), task, 4).score_EK)
    assert (scores[0] == scores[1]).all()
