"""ST-CNN on a planted wave of demand, that a map knows nothing of its own hour, and which data it needs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.eval.metrics import summarise
from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.rankers.families import FAMILIES, UnfitDataError
from whereupon.rankers.popular import popular_shares
from whereupon.rankers.protocol import Dense, Ranker
from whereupon.rankers.settings import BaselineName
from whereupon.rankers.st_cnn import ItemMap, MapSettings, happened

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
HOUR, SIDE = 3600, 7

pytestmark = pytest.mark.usefixtures("one_thread")


def _placed(histories: Histories, side: int = SIDE) -> Histories:
    """One item a cell of a square."""
    north_I, east_I = np.divmod(np.arange(histories.items.height), side)
    columns = [pl.Series("latitude", 40 + north_I * 0.01), pl.Series("longitude", -74 + east_I * 0.01)]
    return replace(histories, items=histories.items.with_columns(columns))


@pytest.fixture(name="waves")
def _waves(build: Build) -> Histories:
    """Every five hours demand begins at some cell, and an hour later it is one cell further out on all sides."""
    random, rows = np.random.default_rng(1), list[Row]()
    north_I, east_I = np.divmod(np.arange(SIDE * SIDE), SIDE)
    for wave in range(80):
        source = random.integers(SIDE * SIDE)
        far_I = np.maximum(np.abs(north_I - north_I[source]), np.abs(east_I - east_I[source]))
        for radius in range(4):
            ring = np.flatnonzero((far_I == radius) & ((random.random(SIDE * SIDE) < 0.5) | (radius == 0)))
            for item in ring.tolist():
                at = (wave * 5 + radius) * HOUR + int(random.integers(HOUR))
                rows.append((int(random.integers(12)), item, at, "train" if wave < 68 else "test"))
    return _placed(build(rows, SIDE * SIDE))


def _ranker(histories: Histories, name: BaselineName = "ST-CNN", **changes: Any) -> Ranker:
    return FAMILIES[name].ranker(histories, "test", {**FAMILIES[name].grid()[0], **changes}, seed=0)


def _ndcg(histories: Histories, ranker: Ranker) -> float:
    task = read_task(histories, "test", EvaluateSettings())
    return float(summarise(rank(ranker, task, 10).rank_E)["nDCG@10"])


def _scores(histories: Histories, ranker: Ranker, row_Q: Any) -> Any:
    answers = ranker.on(histories, "test")
    assert isinstance(answers, Dense)
    return answers.scores(row_Q)


def test_wave_of_demand_is_seen_by_who_looks_at_neighbours_alone(waves: Histories) -> None:
    others: list[BaselineName] = ["popularity", "recent popularity", "own counts", "transitions"]
    best = max(_ndcg(waves, _ranker(waves, name)) for name in others)
    day = {"half_life_days": 0.05}
    best = max(best, _ndcg(waves, FAMILIES["recent popularity"].ranker(waves, "test", day, 0)))
    assert _ndcg(waves, _ranker(waves, cells=SIDE)) > 1.4 * best


def test_scores_are_log_probabilities(waves: Histories) -> None:
    ranker = _ranker(waves, max_epochs=1)
    score_QI = _scores(waves, ranker, np.flatnonzero(waves.split_N == 2)[:20])
    assert np.exp(score_QI).sum(axis=1).tolist() == pytest.approx([1.0] * 20)


def test_what_happens_in_the_query_hour_and_later_changes_nothing(waves: Histories) -> None:
    ranker = _ranker(waves, max_epochs=1)
    row = int(np.flatnonzero(waves.split_N == 2)[5])
    hour_N = waves.time_s_N // HOUR
    item_N = np.where(hour_N >= hour_N[row], (waves.item_idx_N + 5) % SIDE**2, waves.item_idx_N).astype(np.int32)
    before = _scores(waves, ranker, np.array([row]))
    assert (_scores(replace(waves, item_idx_N=item_N), ranker, np.array([row])) == before).all()
    earlier_N = np.where(hour_N == hour_N[row] - 1, (waves.item_idx_N + 5) % SIDE**2, waves.item_idx_N).astype(np.int32)
    assert (earlier_N != waves.item_idx_N).any()
    assert (_scores(replace(waves, item_idx_N=earlier_N), ranker, np.array([row])) != before).any()


def test_what_is_to_be_predicted_is_not_learnt_from(waves: Histories) -> None:
    item_N = np.where(waves.split_N == 2, (waves.item_idx_N + 5) % SIDE**2, waves.item_idx_N).astype(np.int32)
    one, other = (_ranker(some, max_epochs=1) for some in (waves, replace(waves, item_idx_N=item_N)))
    row_Q = np.flatnonzero(waves.split_N == 0)[-5:]
    assert (_scores(waves, one, row_Q) == _scores(waves, other, row_Q)).all()


def test_questions_of_one_hour_get_the_same_map(waves: Histories) -> None:
    row_Q = np.flatnonzero(waves.split_N == 2)
    hour_Q = waves.time_s_N[row_Q] // HOUR
    row_Q = row_Q[hour_Q == np.bincount(hour_Q).argmax()]
    score_QI = _scores(waves, _ranker(waves, max_epochs=1), row_Q)
    assert len(row_Q) > 2
    assert (score_QI == score_QI[0]).all()


def test_counts_are_of_the_hours_before(build: Build) -> None:
    times = [0, 10, HOUR, 2 * HOUR, 2 * HOUR + 5]
    histories = _placed(build([(0, at % 2, time, "train") for at, time in enumerate(times)], 2), side=2)
    items = ItemMap.of(histories, "test", MapSettings(cells=2))
    log_HFX = happened(histories).counts(np.array([2, 3]), items, [(1, 1), (1, 3)])
    count_HFI = np.expm1(log_HFX)[:, :, items.slot_I]
    assert np.rint(count_HFI).tolist() == [[[1, 0], [2, 1]], [[1, 1], [3, 2]]]


def test_item_without_coordinates_keeps_its_share(waves: Histories) -> None:
    items = waves.items.with_columns(latitude=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise("latitude"))
    some = replace(waves, items=items)
    scores = _scores(some, _ranker(some, max_epochs=1), np.flatnonzero(some.split_N == 2)[:1])
    assert scores[0, 3] == pytest.approx(np.log(popular_shares(some, "test")[3]))
    assert np.exp(scores).sum() == pytest.approx(1.0)


def test_catalogue_of_one_item_is_always_right(build: Build) -> None:
    rows = [(0, 0, 1, "train"), (0, 0, 2, "test"), (1, 0, 2, "train"), (1, 0, 3, "test")]
    histories = _placed(build(rows, 1))
    task = read_task(histories, "test", EvaluateSettings())
    assert rank(_ranker(histories, epochs_unwatched=1), task, 2).rank_E.tolist() == [1, 1]


def test_items_without_coordinates_are_unfit(town: Histories) -> None:
    with pytest.raises(UnfitDataError, match=r"'ST-CNN' needs items with latitude and longitude, but none has both"):
        _ranker(town)
