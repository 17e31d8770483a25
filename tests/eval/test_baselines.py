"""Baselines on hand-derived cases, against a naive dense reference, and that none of them looks ahead."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.errors import DataError
from whereupon.eval import BASELINES, evaluated_events
from whereupon.eval import baselines as module
from whereupon.eval.baselines import ContextWeights
from whereupon.eval.settings import BaselineName, EvaluatedSplit
from whereupon.histories import Histories

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]

HOUR, DAY = 3600, 86_400
A, B, C, D, E = range(5)
NAMES = list(BASELINES)
NUM_ITEMS = 6
SPLITS: tuple[EvaluatedSplit, ...] = ("valid", "test")


def ranks(name: BaselineName, histories: Histories, split: EvaluatedSplit = "test") -> list[int]:
    rank_E = BASELINES[name].rank(histories, split)
    assert rank_E.dtype == np.int64
    return [int(rank) for rank in rank_E]


# Hand-derived: the town of conftest. Popularity order: A 3, B 3, C 2, D 0, E 0.


def test_popularity_ranks_by_counts_of_earlier_splits(town: Histories) -> None:
    assert ranks("popularity", town) == [2, 3, 4, 1]


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


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_of_one_item_is_always_right(build: Build, name: BaselineName) -> None:
    rows = [(0, 0, 1, "train"), (0, 0, 2, "test"), (1, 0, 2, "train"), (1, 0, 3, "test")]
    assert ranks(name, build(rows, 1)) == [1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_empty_split_is_a_data_error(town: Histories, name: BaselineName) -> None:
    with pytest.raises(DataError, match="valid split"):
        BASELINES[name].rank(town, "valid")


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


def naive_scores(name: BaselineName, histories: Histories, row: int) -> tuple[list[float], list[int]]:
    """Score of each item (-1 where it is no candidate), and the place in the order that breaks ties."""
    user, item, time = histories.user_idx_E, histories.item_idx_E, histories.time_s_E
    start = int(histories.offset_U1[user[row]])
    past = list(range(start, row))
    popularity = Counter(item[i] for i in range(len(item)) if histories.split_E[i] < histories.split_E[row])
    by_popularity = sorted(range(NUM_ITEMS), key=lambda i: (-popularity[i], i))
    known = list(dict.fromkeys(int(item[i]) for i in past))
    order = [*known, *(i for i in by_popularity if i not in known)]
    scores = [-1.0] * NUM_ITEMS
    if name == "popularity":
        return scores, [by_popularity.index(i) for i in range(NUM_ITEMS)]
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
    item, local = histories.item_idx_E, histories.events["local_time"]
    age = (local[row - 1] - local[past]).total_seconds() / DAY
    apart = abs((local[row].hour + local[row].minute / 60) - (local[past].hour + local[past].minute / 60))
    weight = math.exp(-age / 30) * (0.03 + math.exp(-0.5 * (min(apart, 24 - apart) / 1.5) ** 2))
    weight *= 1.0 if (local[row].weekday() >= 5) == (local[past].weekday() >= 5) else 0.5
    is_first = past == histories.offset_U1[histories.user_idx_E[past]]
    return weight * (7.0 if not is_first and item[past - 1] == item[row - 1] else 1.0)


@pytest.mark.parametrize("name", NAMES)
@given(rows=rows_strategy)
@settings(max_examples=60, deadline=None)
def test_ranks_equal_dense_scoring_of_the_whole_catalogue(
    build: Build, name: BaselineName, rows: list[tuple[int, int, int]]
) -> None:
    histories = build(with_splits(rows), NUM_ITEMS)
    for split in SPLITS:
        try:
            row_E = evaluated_events(histories, split)
        except DataError:
            continue
        for row, rank in zip(row_E.tolist(), ranks(name, histories, split), strict=True):
            scores, place = naive_scores(name, histories, row)
            truth = int(histories.item_idx_E[row])
            # Sums of weights may differ in the last bit: within 1e-9 either order is right for them, else only one is.
            slack = 1e-9 if name.startswith("context") else 0.0
            surely = sum(scores[i] > scores[truth] + slack for i in range(NUM_ITEMS))
            tied = [i for i in range(NUM_ITEMS) if i != truth and abs(scores[i] - scores[truth]) <= slack]
            if slack == 0.0:
                assert rank == 1 + surely + sum(place[i] < place[truth] for i in tied)
            else:
                assert 1 + surely <= rank <= 1 + surely + len(tied)


@pytest.mark.parametrize("name", NAMES)
def test_chunks_do_not_change_ranks(town: Histories, name: BaselineName, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ranks(name, town)
    monkeypatch.setattr(module, "_ENTRIES_PER_CHUNK", 1)
    assert ranks(name, town) == whole


# Nothing later than the predicted event, of anybody, may matter.


@pytest.mark.parametrize("name", NAMES)
@given(rows=rows_strategy, data=st.data())
@settings(max_examples=60, deadline=None)
def test_later_events_do_not_change_a_rank(
    build: Build, name: BaselineName, rows: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    given_rows = with_splits(rows)
    histories = build(given_rows, NUM_ITEMS)
    split = data.draw(st.sampled_from(SPLITS))
    try:
        row_E = evaluated_events(histories, split)
    except DataError:
        return
    at = data.draw(st.integers(0, len(row_E) - 1))
    row = int(row_E[at])
    user_id, now = histories.events["user_id"][row], int(histories.time_s_E[row])
    num_own = row - int(histories.offset_U1[histories.user_idx_E[row]])  # before the predicted event
    kept: list[Row] = []
    later: list[Row] = []
    for event in given_rows:
        is_own = f"user-{event[0]}" == user_id and sum(e[0] == event[0] for e in kept) <= num_own
        (kept if event[2] < now or is_own else later).append(event)
    changed = [
        (user, data.draw(st.integers(0, NUM_ITEMS - 1)), time, part)
        for user, _, time, part in later
        if data.draw(st.booleans())
    ]
    altered = build([*kept, *changed], NUM_ITEMS)
    altered_row = int(altered.offset_U1[altered.user_ids.index(user_id)]) + num_own
    altered_at = evaluated_events(altered, split).tolist().index(altered_row)
    assert ranks(name, altered, split)[altered_at] == ranks(name, histories, split)[at]
