"""ItemKNN: by hand, and against sets of users in plain Python."""

import math
import tracemalloc
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
from whereupon.histories.candidates import Repeats
from whereupon.rankers import cooccurrence
from whereupon.rankers.cooccurrence import FAMILIES, Choices, Neighbours

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
A, B, C, D, E = range(5)
NUM_ITEMS = 5
TICKS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, NUM_ITEMS - 1), st.integers(0, 30)), min_size=2, max_size=50
)


def test_similarities_are_shrunk_cosines_of_users(town: Histories) -> None:
    found = Neighbours.of(Choices.of(town, "test"), num_neighbours=2, shrink=1.0)  # Ann A B, Bob B C, Cyd A B C
    a_b, a_c = 2 / (math.sqrt(6) + 1), 1 / (2 + 1)
    assert found.item_IK.tolist() == [[B, C], [A, C], [B, A], [-1, -1], [-1, -1]]
    assert found.similarity_IK.ravel().tolist() == pytest.approx([a_b, a_c, a_b, a_b, a_b, a_c, 0, 0, 0, 0])
    assert found.rows(np.array([2, 4])).ravel().tolist() == pytest.approx([a_c, a_b, 0, 0, 0, 0, 0, 0, 0, 0])


def test_weight_of_itself_decides_whether_people_return(town: Histories) -> None:
    task = read_task(town, "test", EvaluateSettings())
    kept = {"num_neighbours": 5, "shrink": 0.0, "half_life_events": None}
    returns, moves_on = (
        rank(FAMILIES[0].ranker(town, "test", {**kept, "self_weight": weight}, 0), task, 5) for weight in (5.0, 0.0)
    )
    assert returns.item_EK[:, 0].tolist() == [A, B, B, C]  # Cyd knows all three, and B is most like the others
    # Ann (A twice, B): C has 2 a_c + a_b = 1.82 and B 2 a_b = 1.63. Bob (B, C): A has a_b + a_c, B and C have a_b.
    assert moves_on.item_EK[:, 0].tolist() == [C, A, B, B]


@pytest.mark.parametrize("repeats", ["allowed", "excluded"])
@given(
    ticks=TICKS,
    num_neighbours=st.integers(1, NUM_ITEMS),
    shrink=st.sampled_from([0.0, 2.0]),
    half_life_events=st.sampled_from([None, 2.0]),
    self_weight=st.sampled_from([0.0, 0.7]),
    cells=st.sampled_from([1, 12, 10_000]),
)
def test_scores_equal_comparing_sets_of_users(
    build: Build, with_splits: Any, tasks: Any, agrees: Any, repeats: Repeats, ticks: Any, num_neighbours: int,
    shrink: float, half_life_events: float | None, self_weight: float, cells: int,
) -> None:  # fmt: skip
    histories = build(with_splits(ticks), NUM_ITEMS)
    item, user, split = (column.tolist() for column in (histories.item_idx_N, histories.user_idx_N, histories.split_N))
    settings = {"num_neighbours": num_neighbours, "shrink": shrink, "half_life_events": half_life_events,
                "self_weight": self_weight}  # fmt: skip

    def scores(row: int) -> list[float]:
        users = [{u for u, i, s in zip(user, item, split, strict=True) if i == j and s < split[row]}
                 for j in range(NUM_ITEMS)]  # fmt: skip
        similar = [[0.0] * NUM_ITEMS for _ in range(NUM_ITEMS)]
        for i in range(NUM_ITEMS):
            for j in range(NUM_ITEMS):
                if i != j and users[i] & users[j]:
                    similar[i][j] = len(users[i] & users[j]) / (math.sqrt(len(users[i]) * len(users[j])) + shrink)
        found = [0.0] * NUM_ITEMS
        for e in range(int(histories.offset_U1[user[row]]), row):
            weight = 1.0 if half_life_events is None else 0.5 ** ((row - 1 - e) / half_life_events)
            row_of = similar[item[e]]
            for j in sorted(range(NUM_ITEMS), key=lambda j: (-row_of[j], j))[:num_neighbours]:
                found[j] += weight * row_of[j]
            found[item[e]] += weight * self_weight
        return found

    for task in tasks(histories, repeats):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cooccurrence, "_CELLS", cells)
            found = rank(FAMILIES[0].ranker(histories, task.split, settings, 0), task, NUM_ITEMS)
        agrees(task, found, scores)


@pytest.mark.slow
def test_catalogue_of_a_hundred_thousand_items_takes_no_square_of_it(build: Build) -> None:
    num_items = 100_000  # squared, even as bits, they are more than a gigabyte
    rows = [(user, 7 * user + 900 * step, step, "train") for user in range(100) for step in range(8)]
    histories = build([*rows, *((user, 7 * user, 9, "test") for user in range(100))], num_items)
    settings = {"num_neighbours": 20, "shrink": 1.0, "half_life_events": None, "self_weight": 0.1}
    task = read_task(histories, "test", EvaluateSettings())
    tracemalloc.start()
    found = rank(FAMILIES[0].ranker(histories, "test", settings, 0), task, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.rank_E <= 8).all()
    assert peak < 400e6
