"""What RecTools is given, and how its answers are judged; neither network is trained."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sasrec_check

from whereupon.config import load_config
from whereupon.eval.protocol import Task, read_task
from whereupon.eval.settings import EvaluateSettings
from whereupon.files import write_json
from whereupon.histories import prepare, read_histories
from whereupon.rankers.sequences import Transitions


@pytest.fixture(scope="module")
def tasks(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Task]:
    config = load_config(make_town(tmp_path_factory.mktemp("town"), people=4, days=30))
    prepare(config.histories, config.catalogue, config.run)
    histories = read_histories(config.run)
    return read_task(histories, "valid", EvaluateSettings()), read_task(histories, "test", EvaluateSettings())


def test_rectools_gets_training_and_histories_and_no_answer_of_test(tasks: tuple[Task, Task], tmp_path: Path) -> None:
    sasrec_check.export(*tasks, [0], tmp_path)
    histories = tasks[0].histories
    train = pl.read_csv(tmp_path / "train.csv")
    assert set(histories.split_N[train["time"].to_numpy()].tolist()) == {0}
    assert (train["item"].to_numpy() == histories.item_idx_N[train["time"].to_numpy()]).all()
    assert train.filter(pl.col("time").diff().over("user") <= 0).is_empty()
    for task in tasks:
        asked = pl.read_csv(tmp_path / f"{task.split}.csv")
        assert set(asked["question"]) == set(task.row_E.tolist())
        assert (asked["time"] < asked["question"]).all()
        user_E = histories.user_idx_N
        assert (user_E[asked["time"].to_numpy()] == user_E[asked["question"].to_numpy()]).all()
    assert set(pl.read_csv(tmp_path / "valid-truth.csv")["question"]) == set(tasks[0].row_E.tolist())
    assert {path.name for path in tmp_path.iterdir()} == {
        "train.csv", "valid.csv", "test.csv", "valid-truth.csv", "settings.json"
    }  # fmt: skip


def test_every_training_step_is_reported_once(tasks: tuple[Task, Task], tmp_path: Path) -> None:
    sasrec_check.export(*tasks, [0], tmp_path)
    num_steps = pl.read_csv(tmp_path / "train.csv").group_by("user").agg(pl.len() - 1)["len"].sum()
    assert num_steps == Transitions.of(tasks[0].histories).count_U.sum()


def test_answer_at_the_second_place_and_one_that_is_missing(tasks: tuple[Task, Task], tmp_path: Path) -> None:
    task = tasks[1]
    truth = pl.DataFrame({"question": task.row_E, "item": task.true_item_E.astype(np.int64)})
    write_json(tmp_path / "trained-0.json", {"epoch": 3})
    truth[1:].with_columns(rank=2).write_csv(tmp_path / "ranked-0.csv")
    found = sasrec_check.answers(task, tmp_path, 0)
    num = len(task.row_E)
    assert (found["epoch"], found["num_unanswered"], found["recall@1"]) == (3, 1, 0)
    assert found["nDCG@10"] == pytest.approx((num - 1) / num / np.log2(3))


def test_windows_cut_once_are_those_that_rectools_has(tasks: tuple[Task, Task]) -> None:
    steps = Transitions.of(tasks[0].histories)

    def cut(seed: int) -> list[int]:
        return steps.windows(5, np.random.default_rng(seed)).length_W.tolist()

    assert len({tuple(cut(seed)) for seed in range(5)}) > 1
    with sasrec_check._cut_once():
        assert {tuple(cut(seed)) for seed in range(5)} == {tuple(cut(0))}
    assert len({tuple(cut(seed)) for seed in range(5)}) > 1


def test_bar_is_missed_below_95_percent() -> None:
    def rows(value: float) -> list[dict[str, float]]:
        return [{"nDCG@10": value}]

    assert sasrec_check._bar("x", rows(0.951), rows(1.0))["ok"]
    assert not sasrec_check._bar("x", rows(0.949), rows(1.0))["ok"]
