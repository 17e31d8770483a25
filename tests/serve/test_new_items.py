"""Histories are prepared every night, with new items, and trained on now and then: in between everything answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.errors import DataError, ModelError
from whereupon.eval.run import evaluate
from whereupon.eval.stacking import calibrate_run
from whereupon.histories import prepare, read_histories
from whereupon.recommend.context import RequestContext
from whereupon.recommend.selection import RequestFilters
from whereupon.recommend.shown import recommend_verb
from whereupon.serve.batch.verb import recommend_all
from whereupon.serve.launcher import launch
from whereupon.tests.serve.local_client import local_engine

RAIN = RequestContext(weather="rain, 18 C")


@pytest.fixture(name="next_night")
def _next_night(town_copy: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    """The town, calibrated, prepared again with one item more and another one renamed; further settings may differ."""

    def next_night(*overrides: str) -> Config:
        before = town_copy()
        calibrate_run(before)
        was = read_histories(before.run).catalogue_hash
        assert before.histories.items is not None
        text = before.histories.items.path.read_text().replace("Bar One", "Bar Uno")
        (tmp_path / "items.csv").write_text(f"{text}tea,Tea House\n")
        items = f"histories.items.path={tmp_path / 'items.csv'}"
        config = town_copy(items, *overrides)
        prepare(config.histories, config.catalogue, config.run, config.seed)
        assert read_histories(config.run).catalogue_hash != was
        return config

    return next_night


def _recommended(config: Config, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    recommend_verb(config, "p00", RAIN, RequestFilters(), k=6, versus=None, as_json=True)
    [answer] = json.loads(capsys.readouterr().out)
    items: list[dict[str, Any]] = answer["items"]
    return items


def test_recommend_and_serve_go_on_with_new_items_and_the_calibration(
    next_night: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = next_night()
    found = _recommended(config, capsys)
    assert {item["title"] for item in found} >= {"Tea House", "Bar Uno", "City Park"}
    assert sum(item["probability"] for item in found) == pytest.approx(1, abs=1e-5)
    launch._check(config, as_json=True)


@pytest.mark.usefixtures("vllm_imported")
def test_all_users_are_answered_with_new_items(
    next_night: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = next_night()
    recommend_all(config, tmp_path / "all.parquet", context=RAIN, filters=RequestFilters(), k=6, engine=local_engine)
    found = pl.read_parquet(tmp_path / "all.parquet").filter(user_id="p00")
    alone = _recommended(config, capsys)
    assert found["item_id"].to_list() == [item["item_id"] for item in alone]
    assert found["probability"].to_list() == pytest.approx([item["probability"] for item in alone], abs=1e-4)


def test_titles_that_are_made_otherwise_are_refused_everywhere(
    next_night: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = next_night("catalogue.title='{{ item_id }}, {{ title }}'")
    with pytest.raises(ModelError, match=r"for another recipe of titles \(title: None\) than this run's \(title: {{ i"):
        _recommended(config, capsys)
    with pytest.raises(ModelError, match="another recipe of titles"):
        launch._check(config, as_json=True)


def test_figures_still_want_the_data_of_the_training(next_night: Callable[..., Config]) -> None:
    with pytest.raises(DataError, match="was trained on other data than this run holds"):
        evaluate(next_night(), split="test")
