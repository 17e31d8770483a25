"""No ranker of any family looks ahead: what happens at or after the predicted time changes nothing."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from whereupon.eval.protocol import Task, read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.candidates import Candidates, EvaluatedSplit, Repeats
from whereupon.histories.questions import evaluated_events
from whereupon.rankers import families
from whereupon.rankers.families import FAMILIES, Family
from whereupon.rankers.settings import BaselineName

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
NUM_ITEMS = 6
TICKS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, NUM_ITEMS - 1), st.integers(0, 30)), min_size=2, max_size=30
)
NETWORKS: Final = [name for name, family in FAMILIES.items() if family in families.NETWORKS]
PACKAGES: Final = {
    "ALS": "implicit", "boosted own events": "lightgbm", "boosted two-stage": "lightgbm",
    "demand forecast": "statsforecast", "spatial KNN": "scipy",
}  # fmt: skip
NAMES: Final = [
    name
    for name in FAMILIES
    if name not in NETWORKS and (name not in PACKAGES or importlib.util.find_spec(PACKAGES[name]))
]
BOOSTED: Final = [name for name in NAMES if "rounds" in FAMILIES[name].grid()[0]]
TINY: Final = {"hidden": 4, "layers": 1, "max_epochs": 2, "epochs_unwatched": 2}
REPEATS: Final[Sequence[Repeats]] = ("allowed", "excluded")


def some_settings(family: Family) -> list[Mapping[str, Any]]:
    """The two ends of the grid and its middle, made small where learning takes long."""
    grid = family.grid()
    if family in families.NETWORKS:
        length = {"length": 6} if family in families.SEQUENTIAL else {}
        return [{**one, **TINY, **length} for one in grid[:1]]
    if "rounds" in grid[0]:
        return [{**grid[0], "rounds": 3}]
    chosen = [grid[0], grid[len(grid) // 2], grid[-1]]
    small = {"epochs": 2, "most": 2, "least_events": 3}
    return [{**one, **{name: value for name, value in small.items() if name in one}} for one in chosen]


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """An import within an example would count as an example that is slow to make."""
    if importlib.util.find_spec("statsforecast"):
        importlib.import_module("statsforecast.models")


def with_places(histories: Histories) -> Histories:
    """Coordinates of the items, and of the events as outcomes: those of the very items to be predicted."""

    def columns(item_X: Any) -> list[pl.Series]:
        return [pl.Series("latitude", 40 + item_X * 0.01), pl.Series("longitude", -74 + (item_X % 3) * 0.02)]

    items = histories.items.with_columns(columns(np.arange(NUM_ITEMS)))
    return replace(histories, items=items, events=histories.events.with_columns(columns(histories.item_idx_N)))


def another_future(rows: Sequence[Row], histories: Histories, row: int, split: str, draw: Any) -> list[Row]:
    """The same events before that of a row, which is at another item; each later one is at another item or gone."""
    user, now = int(histories.events["user_id"][row][5:]), int(histories.time_s_N[row])
    num_own = row - int(histories.offset_U1[histories.user_idx_N[row]])
    kept: list[Row] = []
    later: list[Row] = []
    for event in rows:
        is_own = event[0] == user and sum(one[0] == user for one in kept) < num_own
        (kept if event[2] < now or is_own else later).append(event)
    items = st.integers(0, NUM_ITEMS - 1)
    changed = [(who, draw(items), time, part) for who, _, time, part in later if draw(st.booleans())]
    return [*kept, (user, draw(items), now, split), *changed]


def answer(
    name: BaselineName, chosen: Mapping[str, Any], histories: Histories, split: EvaluatedSplit, row: int,
    repeats: Repeats,
) -> tuple[list[int], NDArray[np.float64]]:  # fmt: skip
    """The ranking of all candidates of one row, and their scores; all rows of the split are scored at once."""
    task = Task(histories, split, evaluated_events(histories, split), Candidates.of(histories, repeats))
    found = rank(FAMILIES[name].ranker(histories, split, chosen, seed=5), task, NUM_ITEMS)
    [at] = np.flatnonzero(found.row_E == row)
    items = [item for item in found.item_EK[at].tolist() if item >= 0]
    return items, found.score_EK[at, : len(items)]


def same(before: tuple[list[int], NDArray[np.float64]], after: tuple[list[int], NDArray[np.float64]]) -> None:
    """Asserts that two rankings are one, but for the last digits of sums in another order."""
    item_K, score_K = before
    assert after[1].tolist() == pytest.approx(score_K.tolist(), rel=1e-6, abs=1e-7)
    if (after[1] == score_K).all():
        assert after[0] == item_K  # ties are broken alike, too
        return
    # Within 1e-6 either order is right.
    ends = np.flatnonzero(np.abs(np.diff(score_K)) > 1e-6 * np.maximum(np.abs(score_K[1:]), 1)) + 1
    assert [set(part) for part in np.split(item_K, ends)] == [set(part) for part in np.split(after[0], ends)]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BOOSTED])
@given(ticks=TICKS, repeats=st.sampled_from(REPEATS), data=st.data())
def test_events_at_or_after_the_query_change_nothing(
    build: Build, with_splits: Any, tasks: Any, name: BaselineName, ticks: Any, repeats: Repeats, data: st.DataObject
) -> None:
    rows = with_splits(ticks)
    histories = with_places(build(rows, NUM_ITEMS))
    assume(found := tasks(histories))
    task = data.draw(st.sampled_from(found))
    row = int(data.draw(st.sampled_from(task.row_E.tolist())))
    altered = with_places(build(another_future(rows, histories, row, task.split, data.draw), NUM_ITEMS))
    user = altered.user_ids.index(histories.events["user_id"][row])
    altered_row = int(altered.offset_U1[user] + row - histories.offset_U1[histories.user_idx_N[row]])
    for chosen in some_settings(FAMILIES[name]):
        same(
            answer(name, chosen, histories, task.split, row, repeats),
            answer(name, chosen, altered, task.split, altered_row, repeats),
        )


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", [*NETWORKS, *BOOSTED])
@given(ticks=TICKS, data=st.data())
@settings(max_examples=8, deadline=None)
def test_events_at_or_after_the_query_change_nothing_where_learning_takes_long(
    build: Build, with_splits: Any, tasks: Any, name: BaselineName, ticks: Any, data: st.DataObject
) -> None:
    """On test only: a network stops by all validation events, which are the future of the earlier ones of them."""
    everyday = [(user, (user + tick) % NUM_ITEMS, tick) for user in range(2) for tick in (1, 5, 9, 13, 20)]
    rows = with_splits([*everyday, *ticks])
    histories = with_places(build(rows, NUM_ITEMS))
    [task] = [task for task in tasks(histories) if task.split == "test"]
    row = int(data.draw(st.sampled_from(task.row_E.tolist())))
    altered = with_places(build(another_future(rows, histories, row, "test", data.draw), NUM_ITEMS))
    user = altered.user_ids.index(histories.events["user_id"][row])
    altered_row = int(altered.offset_U1[user] + row - histories.offset_U1[histories.user_idx_N[row]])
    [chosen] = some_settings(FAMILIES[name])
    same(
        answer(name, chosen, histories, "test", row, "allowed"),
        answer(name, chosen, altered, "test", altered_row, "allowed"),
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_a_grid_makes_a_ranker_and_none_is_there_twice(town: Histories, name: str) -> None:
    items = town.items.with_columns(latitude=pl.lit(40.0), longitude=pl.int_range(pl.len()).cast(pl.Float64))
    task = read_task(replace(town, items=items), "test", EvaluateSettings())
    grid = FAMILIES[name].grid()
    assert len({tuple(sorted(one.items(), key=str)) for one in grid}) == len(grid)
    for one in grid:
        assert len(rank(FAMILIES[name].ranker(task.histories, "test", one, 0), task, 3).rank_E) == 4


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_of_one_item_is_always_right(build: Build, name: str) -> None:
    rows = [(0, 0, 1, "train"), (0, 0, 2, "test"), (1, 0, 2, "train"), (1, 0, 3, "test")]
    histories = build(rows, 1)
    items = histories.items.with_columns(latitude=pl.lit(40.0), longitude=pl.lit(1.0))
    task = read_task(replace(histories, items=items), "test", EvaluateSettings())
    family = FAMILIES[name]
    found = rank(family.ranker(task.histories, "test", family.grid()[0], 0), task, 2)
    assert found.rank_E.tolist() == [1, 1]
    assert found.item_EK.tolist() == [[0, -1], [0, -1]]
