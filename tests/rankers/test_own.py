"""Own counts and what builds on them: hand-derived cases, and a naive dense reference."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.errors import DataError
from whereupon.eval import ranked
from whereupon.eval.protocol import Task, read_task
from whereupon.eval.ranked import rank
from whereupon.eval.rankings import Rankings
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.candidates import Candidates, EvaluatedSplit, Repeats
from whereupon.histories.questions import evaluated_events
from whereupon.rankers import own
from whereupon.rankers.own import ContextWeights

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]

HOUR, DAY = 3600, 86_400
A, B, C, D, E = range(5)
FAMILIES = {family.name: family for family in own.FAMILIES[:3]}  # those of `OwnEvents`
NAMES = list(FAMILIES)
NUM_ITEMS = 6
SPLITS: tuple[EvaluatedSplit, ...] = ("valid", "test")


def rankings(name: str, task: Task, k: int = NUM_ITEMS) -> Rankings:
    """By the settings that a family starts from."""
    family = FAMILIES[name]
    return rank(family.ranker(task.histories, task.split, family.grid()[0], 0), task, k)


def ranks(name: str, histories: Histories, split: EvaluatedSplit = "test") -> list[int]:
    found = rankings(name, read_task(histories, split, EvaluateSettings()))
    assert found.rank_E.dtype == np.int64
    return found.rank_E.tolist()


# Hand-derived: the town of conftest. Popularity order: A 3, B 3, C 2, D 0, E 0.


def test_own_counts_rank_known_items_first_and_break_ties_by_first_visit(town: Histories) -> None:
    # Ann knows A twice, B once; Bob B then C, once each; Cyd A, B, C; Dan C, then popularity: A.
    assert ranks("own counts", town) == [2, 2, 4, 2]


def test_transitions_add_shares_of_everybodys_earlier_moves(town: Histories) -> None:
    # Ann from A: all 2 moves go to B: 1/3 + 2 beats 2/3. Bob from C: no move yet. Cyd from C: only to C.
    # Dan from C: half to C (1 + 2/2), half to D (new, 0.5/2), so A is third.
    assert ranks("own counts + transitions", town) == [1, 2, 4, 3]


def test_move_that_arrives_in_the_same_second_does_not_count(build: Build) -> None:
    past = [(0, A, 1, "train"), (1, A, 2, "train"), (2, B, 3, "train")]
    # User 0's move to C puts C before the popular B for user 1, but not if both go there in the same second.
    assert ranks("own counts + transitions", build([*past, (0, C, 9, "test"), (1, C, 9, "test")], 3)) == [3, 3]
    assert ranks("own counts + transitions", build([*past, (0, C, 9, "test"), (1, C, 10, "test")], 3)) == [3, 2]


def test_unseen_item_ranks_by_popularity_then_item_idx_behind_all_candidates(build: Build) -> None:
    rows = [(0, A, 1, "train"), (1, D, 2, "train"), (0, E, 5, "test")]
    # Known: A. Then by popularity D, then B, C, E in the order of item_idx.
    assert ranks("own counts", build(rows, 5)) == [5]


def test_first_items_are_the_scored_ones_and_then_the_popular_at_score_0(town: Histories) -> None:
    found = rankings("own counts", read_task(town, "test", EvaluateSettings()), k=4)
    assert found.row_E.tolist() == [3, 6, 10, 12]
    assert found.item_EK.tolist() == [[A, B, C, D], [B, C, A, D], [A, B, C, D], [C, A, B, D]]
    assert found.score_EK.tolist() == [
        pytest.approx([2 / 3, 1 / 3, 0, 0]), [0.5, 0.5, 0, 0], pytest.approx([1 / 3, 1 / 3, 1 / 3, 0]), [1, 0, 0, 0],
    ]  # fmt: skip
    assert found.log_prob_E is None


def test_list_is_filled_up_by_nothing_where_the_catalogue_ends(town: Histories) -> None:
    found = rankings("own counts + transitions", read_task(town, "test", EvaluateSettings()), k=7)
    assert found.item_EK[:, 5:].tolist() == [[-1, -1]] * 4
    assert np.isneginf(found.score_EK[:, 5:]).all()


def test_own_items_are_no_candidates_where_repeats_are_excluded(town: Histories) -> None:
    task = read_task(town, "test", EvaluateSettings(repeats="excluded"))
    assert (task.row_E.tolist(), task.num_without) == ([10, 12], 2)  # Cyd goes to D, Dan to A
    found = rankings("own counts + transitions", task, k=4)
    # Cyd from C to nothing new. Dan from C: to D 0.5 / 2, then by popularity A, B, E.
    assert found.item_EK.tolist() == [[D, E, -1, -1], [D, A, B, E]]
    assert found.rank_E.tolist() == [1, 2]
    assert found.score_EK[1].tolist() == [0.25, 0, 0, 0]


def test_context_weights_multiply_age_hour_kind_of_day_and_previous_item(build: Build) -> None:
    saturday = 2 * DAY  # 3 January 1970
    friday_evening = saturday - DAY + 20 * HOUR
    rows = [
        (0, A, friday_evening - 30 * DAY - 4, "train"),  # an old Wednesday, no previous item
        (0, B, friday_evening - 30 * DAY - 2, "train"),  # the same, after A
        (0, C, saturday + 18 * HOUR + 1800, "train"),  # same kind of day, 1.5 h earlier, after B
        (0, A, saturday + 18 * HOUR + 1800, "train"),  # the same, after C: where the user is now
        (0, B, saturday + 20 * HOUR, "test"),
    ]
    weight = ContextWeights(hour_floor=0.25).weigh(build(rows, 3))
    weight_X = weight(np.full(4, 4), np.arange(4))
    old = math.exp(-(30 * DAY + DAY - 5400) / DAY / 30) * 1.25 * 0.5
    late = 0.25 + math.exp(-0.5)
    assert weight_X.tolist() == pytest.approx([old, 7 * old, late, late], rel=1e-5)


def test_hours_apart_are_counted_around_midnight(build: Build) -> None:
    rows = [(0, A, 23 * HOUR, "train"), (0, B, DAY + HOUR, "test")]
    weight = ContextWeights(hour_floor=0.0, hour_sigma=2.0).weigh(build(rows, 2))
    assert weight(np.array([1]), np.array([0])).tolist() == pytest.approx([math.exp(-0.5)])


def test_time_of_day_decides_between_two_routines(build: Build) -> None:
    week = [(0, A, d * DAY + 8 * HOUR, "train") for d in range(4, 9)]
    week += [(0, B, d * DAY + 18 * HOUR, "train") for d in range(4, 9)]
    assert ranks("context-weighted own events", build([*week, (0, A, 11 * DAY + 8 * HOUR, "test")], 3)) == [1]
    assert ranks("context-weighted own events", build([*week, (0, B, 11 * DAY + 18 * HOUR, "test")], 3)) == [1]


# Against a naive reference: every item of the catalogue scored for every event, in plain Python.

rows_strategy = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, NUM_ITEMS - 1), st.integers(0, 30)), min_size=2, max_size=30
)


def with_splits(rows: Sequence[tuple[int, int, int]]) -> list[Row]:
    """Split by time, so that equal times fall into the same split; 7 hours a tick."""
    return [
        (user, item, tick * 7 * HOUR, "train" if tick < 12 else "valid" if tick < 18 else "test")
        for user, item, tick in sorted(rows, key=lambda row: row[2])
    ]


def naive_scores(name: str, histories: Histories, row: int) -> tuple[list[float], list[int]]:
    """Score of each item (-1 where it is no candidate), and the place in the order that breaks ties."""
    user, item, time = histories.user_idx_N, histories.item_idx_N, histories.time_s_N
    start = int(histories.offset_U1[user[row]])
    past = list(range(start, row))
    popularity = Counter(item[i] for i in range(len(item)) if histories.split_N[i] < histories.split_N[row])
    by_popularity = sorted(range(NUM_ITEMS), key=lambda i: (-popularity[i], i))
    known = list(dict.fromkeys(int(item[i]) for i in past))
    order = [*known, *(i for i in by_popularity if i not in known)]
    scores = [-1.0] * NUM_ITEMS
    weights = [naive_weight(histories, row, i) if name.startswith("context") else 1.0 for i in past]
    for i in known:
        scores[i] = sum(w for w, e in zip(weights, past, strict=True) if item[e] == i) / sum(weights)
    moves = Counter(
        item[i]
        for i in range(1, len(item))
        if user[i] == user[i - 1] and item[i - 1] == item[row - 1] and time[i] < time[row]
    )
    factor = {"own counts": (0.0, 0.0), "own counts + transitions": (2.0, 0.5)}.get(name, (0.1, 0.03))
    for i, count in moves.items() if name != "own counts" else ():
        scores[i] = max(scores[i], 0.0) + factor[i not in known] * (count / sum(moves.values()))
    return scores, [order.index(i) for i in range(NUM_ITEMS)]


def naive_weight(histories: Histories, row: int, past: int) -> float:
    item, local = histories.item_idx_N, histories.events["local_time"]
    age = (local[row - 1] - local[past]).total_seconds() / DAY
    apart = abs((local[row].hour + local[row].minute / 60) - (local[past].hour + local[past].minute / 60))
    weight = math.exp(-age / 30) * (0.03 + math.exp(-0.5 * (min(apart, 24 - apart) / 1.5) ** 2))
    weight *= 1.0 if (local[row].weekday() >= 5) == (local[past].weekday() >= 5) else 0.5
    is_first = past == histories.offset_U1[histories.user_idx_N[past]]
    return weight * (7.0 if not is_first and item[past - 1] == item[row - 1] else 1.0)


def all_tasks(histories: Histories, repeats: Repeats) -> list[Task]:
    """Those of both splits that have events."""
    tasks = []
    for split in SPLITS:
        try:
            tasks.append(read_task(histories, split, EvaluateSettings(repeats=repeats)))
        except DataError:
            continue
    return tasks


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("repeats", ["allowed", "excluded"])
@given(rows=rows_strategy, k=st.integers(1, NUM_ITEMS + 1), chunk=st.sampled_from([1, 1_000_000]))
def test_ranking_equals_dense_scoring_of_all_candidates(
    build: Build, name: str, repeats: Repeats, rows: list[tuple[int, int, int]], k: int, chunk: int
) -> None:
    for task in all_tasks(build(with_splits(rows), NUM_ITEMS), repeats):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranked, "_ENTRIES_PER_CHUNK", chunk)
            found = rankings(name, task, k)
        for at, row in enumerate(task.row_E.tolist()):
            scores, place = naive_scores(name, task.histories, row)
            own_past = set(task.histories.item_idx_N[task.histories.offset_U1[task.histories.user_idx_N[row]] : row])
            held = [i for i in range(NUM_ITEMS) if repeats == "allowed" or i not in own_past]
            truth, rank = int(task.histories.item_idx_N[row]), int(found.rank_E[at])
            items = [i for i in found.item_EK[at].tolist() if i >= 0]
            assert len(items) == min(k, len(held))
            assert set(items) <= set(held)
            assert (items.index(truth) + 1 if truth in items else 0) == (rank if rank <= k else 0)
            if not name.startswith("context"):
                in_order = sorted(held, key=lambda i: (-scores[i], place[i]))
                assert (items, rank) == (in_order[:k], in_order.index(truth) + 1)
                continue
            # Sums of weights may differ in the last bit: within 1e-9 either order is right for them, else only one is.
            assert all(scores[i] >= scores[j] - 1e-9 for i, j in pairwise(items))
            surely = sum(scores[i] > scores[truth] + 1e-9 for i in held)
            tied = sum(abs(scores[i] - scores[truth]) <= 1e-9 for i in held if i != truth)
            assert 1 + surely <= rank <= 1 + surely + tied


def test_item_is_no_candidate_before_it_is_known(town: Histories) -> None:
    available_s_I = np.array([0, 0, 0, 22, 23])  # D is known from Cyd's visit on, E from Dan's first
    task = Task(town, "test", evaluated_events(town, "test"), Candidates(town, available_s_I=available_s_I))
    found = rankings("own counts", task, k=5)
    assert found.item_EK.tolist() == [[A, B, C, -1, -1], [B, C, A, -1, -1], [A, B, C, D, -1], [C, A, B, D, E]]
    assert found.rank_E.tolist() == [2, 2, 4, 2]
