"""What RecBole is given, and how its answers are judged; neither network is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import light_gcn_check
import numpy as np
import polars as pl
import pytest

from whereupon.config import load_config
from whereupon.histories import Histories, prepare, read_histories


@pytest.fixture(scope="module", name="histories")
def _histories(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Histories:
    config = load_config(make_town(tmp_path_factory.mktemp("town"), people=4, days=30))
    prepare(config.histories, config.catalogue, config.run)
    return read_histories(config.run)


def test_recbole_is_given_the_same_events_in_the_same_parts(histories: Histories, tmp_path: Path) -> None:
    light_gcn_check.export(histories, [0, 1], tmp_path)
    for code, part in enumerate(light_gcn_check.PARTS):
        found = pl.read_csv(tmp_path / "edges" / f"edges.{part}.inter", separator="\t")
        assert found["user_id:token"].to_list() == histories.user_idx_N[histories.split_N == code].tolist()
        assert found["item_id:token"].to_list() == histories.item_idx_N[histories.split_N == code].tolist()
    settings = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    assert settings["seeds"] == [0, 1]
    assert settings["layers"] == light_gcn_check.SETTINGS.layers


def _theirs(histories: Histories, layers: int) -> dict[str, Any]:
    """What the paper's formula makes of random vectors, with dense matrices."""
    train_N, num_items = histories.split_N == 0, histories.items.height
    users, user_N = np.unique(histories.user_idx_N[train_N], return_inverse=True)
    link_UI = np.zeros((len(users), num_items))
    link_UI[user_N, histories.item_idx_N[train_N]] = 1
    root_U, root_I = np.sqrt(link_UI.sum(axis=1)), np.sqrt(np.maximum(link_UI.sum(axis=0), 1))
    link_UI /= root_U[:, None] * root_I
    rng, hidden = np.random.default_rng(0), light_gcn_check.SETTINGS.hidden
    user_UD, item_ID = rng.normal(size=(len(users), hidden)), rng.normal(size=(num_items, hidden))
    found = [(user_UD, item_ID)]
    for _ in range(layers):
        found.append((link_UI @ found[-1][1], link_UI.T @ found[-1][0]))
    passed_ID = np.mean([item_ID for _, item_ID in found], axis=0)
    return {"user_ids": users, "item_ids": np.arange(num_items), "user_id_kept": user_UD.astype(np.float32),
            "item_id_kept": item_ID.astype(np.float32), "item_id_passed": passed_ID}  # fmt: skip


def test_our_graph_passes_on_the_vectors_of_the_papers_formula(histories: Histories) -> None:
    layers = light_gcn_check.SETTINGS.layers
    assert light_gcn_check.passed_apart(histories, _theirs(histories, layers)) < light_gcn_check.APART / 10
    assert light_gcn_check.passed_apart(histories, _theirs(histories, layers + 1)) > light_gcn_check.APART


def test_past_of_a_test_event_is_that_of_training(histories: Histories) -> None:
    """RecBole's users are as they were trained: what they did in the validation split is not read."""
    user_ids, random = light_gcn_check.graph_users(histories), np.random.default_rng(1)
    items = random.normal(size=(2, histories.items.height, 8))
    vectors = light_gcn_check.GraphVectors(*items, random.normal(size=(len(user_ids), 8)))
    row_Q = np.flatnonzero(histories.split_N == 2)
    score_QI = light_gcn_check.OfTraining(vectors, user_ids).on(histories, "test").scores(row_Q)
    last = histories.split_N[row_Q - 1] == 2  # of one user, the second test event has the same past as the first
    assert last.any()
    assert np.allclose(score_QI[1:][last[1:]], score_QI[:-1][last[1:]])


@pytest.mark.parametrize(("value", "ok"), [(0.951, True), (0.949, False), (1.2, True)])
def test_bar_is_missed_below_95_percent(value: float, ok: bool) -> None:
    found = light_gcn_check.quality_bar("nDCG@10", [{"nDCG@10": value}] * 2, [{"nDCG@10": 1.0}] * 2)
    assert found["ok"] is ok
