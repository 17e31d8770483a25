"""EASE against its definition, one regression a column, and what is kept between settings."""

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
from whereupon.rankers.cooccurrence import FAMILIES, Choices, ease
from whereupon.rankers.protocol import UnfitDataError
from whereupon.rankers.user_history import LastFit

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
NUM_ITEMS = 5
TICKS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, NUM_ITEMS - 1), st.integers(0, 30)), min_size=2, max_size=50
)
EASE = FAMILIES[1]


def regressions(histories: Histories, row: int, penalty: float) -> Any:
    """Each item's choices regressed by ridge on those of all others, in splits before that of a row."""
    chosen = np.zeros((len(histories.user_ids), NUM_ITEMS))
    earlier = histories.split_N < histories.split_N[row]
    chosen[histories.user_idx_N[earlier], histories.item_idx_N[earlier]] = 1
    weights = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for j in range(NUM_ITEMS):
        others = [i for i in range(NUM_ITEMS) if i != j]
        X = chosen[:, others]
        weights[others, j] = np.linalg.solve(X.T @ X + penalty * np.eye(len(others)), X.T @ chosen[:, j])
    return weights


@pytest.mark.parametrize("repeats", ["allowed", "excluded"])
@given(
    ticks=TICKS,
    penalty=st.sampled_from([0.5, 20.0]),
    half_life_events=st.sampled_from([None, 2.0]),
    self_weight=st.sampled_from([0.0, 0.7]),
)
def test_scores_equal_one_ridge_regression_per_item(
    build: Build, with_splits: Any, tasks: Any, agrees: Any, repeats: Repeats, ticks: Any, penalty: float,
    half_life_events: float | None, self_weight: float,
) -> None:  # fmt: skip
    histories = build(with_splits(ticks), NUM_ITEMS)
    chosen = {"penalty": penalty, "half_life_events": half_life_events, "self_weight": self_weight}

    def scores(row: int) -> list[float]:
        weights, past = regressions(histories, row, penalty), np.zeros(NUM_ITEMS)
        for e in range(int(histories.offset_U1[histories.user_idx_N[row]]), row):
            past[histories.item_idx_N[e]] += (
                1.0 if half_life_events is None else 0.5 ** ((row - 1 - e) / half_life_events)
            )
        return (past @ weights + self_weight * past).tolist()

    for task in tasks(histories, repeats):
        agrees(task, rank(EASE.ranker(histories, task.split, chosen, 0), task, NUM_ITEMS), scores)


def test_diagonal_is_zero_and_items_that_no_user_chose_stay_apart(town: Histories) -> None:
    weight_II = ease(Choices.of(town, "test"), 1.0)
    assert (np.diag(weight_II) == 0).all()
    assert (weight_II[3:] == 0).all()
    assert (weight_II[:, 3:] == 0).all()
    assert weight_II[0, 1] > 0.2


def test_catalogue_beyond_the_limit_is_refused_in_plain_words(town: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "MAX_ITEMS", 4)
    with pytest.raises(UnfitDataError, match="items times items, at most 4, but the catalogue has 5; leave it out"):
        EASE.ranker(town, "test", EASE.grid()[0], 0)


def test_grid_of_settings_that_share_a_penalty_inverts_once_for_each(
    town: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[float] = []
    monkeypatch.setattr(
        cooccurrence, "ease", lambda choices, penalty: (fits.append(penalty), ease(choices, penalty))[1]
    )
    family, task = EASE, read_task(town, "test", EvaluateSettings())
    for chosen in family.grid():
        rank(family.ranker(town, "test", chosen, 0), task, 2)
    assert fits == sorted({float(chosen["penalty"]) for chosen in family.grid()})


def test_last_fit_is_kept_for_the_very_same_histories_and_key(build: Build) -> None:
    rows = [(0, 0, 1, "train"), (0, 0, 2, "test")]
    one, other, last = build(rows, 1), build(rows, 1), LastFit[object]()
    first = last.get(one, "key", object)
    assert last.get(one, "key", object) is first
    second = last.get(one, "other key", object)
    assert second is not first
    assert last.get(other, "other key", object) is not second
    assert last.get(one, "other key", object) is not second  # only the last one is kept


def test_last_fit_goes_with_its_histories(build: Build) -> None:
    histories, last = build([(0, 0, 1, "train"), (0, 0, 2, "test")], 1), LastFit[object]()
    last.get(histories, "key", object)
    assert last._fitted is not None
    del histories
    assert last._fitted is None
