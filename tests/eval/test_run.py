import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.config import Config, load_config
from whereupon.errors import ModelError
from whereupon.eval import ranking, run
from whereupon.eval.run import evaluate
from whereupon.histories import prepare, read_histories

Town = Callable[..., Config]
BASELINES = ["popularity", "own counts", "own counts + transitions", "context-weighted own events"]


@pytest.fixture(scope="module")
def prepared(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_town(tmp_path_factory.mktemp("town"), people=4, days=10)
    config = load_config(path)
    prepare(config.histories, config.catalogue, config.run)
    return path


@pytest.fixture
def simulated(prepared: Path, tmp_path: Path) -> Town:
    """The configuration of a tiny town with a fresh run folder; arguments override settings."""

    def simulated(*overrides: str) -> Config:
        config = load_config(prepared, [f"run={tmp_path / 'run'}", "prompts.budget_tokens=100", *overrides])
        if not config.run.exists():
            shutil.copytree(prepared.parent / "run" / "histories", config.run / "histories")
        return config

    return simulated


@dataclass
class Model:
    """What a model is asked: the first event answered in each window; it can be killed after so many windows."""

    windows: list[int] = field(default_factory=list)
    dies_after: float = math.inf


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Watches the model at work; each window's answers are saved at once rather than every minute."""
    original, model = ranking.answer_windows, Model()

    def answer_windows(*arguments: Any, **named: Any) -> Iterator[ranking.WindowAnswers]:
        for answer in original(*arguments, **named):
            if len(model.windows) >= model.dies_after:
                raise KeyboardInterrupt
            model.windows.append(int(answer.event_Q[0]))
            yield answer

    monkeypatch.setattr(ranking, "answer_windows", answer_windows)
    monkeypatch.setattr(run, "SAVE_EVERY_S", -1.0)
    return model


def _killed(config: Config, model: Model, after: int) -> None:
    model.windows, model.dies_after = [], after
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, split="test", use_adapter=False)
    model.windows, model.dies_after = [], math.inf


def _summary(config: Config, folder: str = "test-zero-shot") -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((config.run / "evaluation" / folder / "summary.json").read_text())
    return summary


def _events(config: Config, folder: str = "test-zero-shot") -> pl.DataFrame:
    return pl.read_parquet(config.run / "evaluation" / folder / "events.parquet")


def test_evaluation_compares_the_model_with_the_baselines_on_the_same_events(
    simulated: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulated()
    results = evaluate(config, split="test", use_adapter=False)
    assert [result.name for result in results] == [*BASELINES, "zero-shot model"]
    histories = read_histories(config.run)
    assert {result.num_events for result in results} == {int((histories.split_E == 2).sum())}
    said = capsys.readouterr()
    assert said.out.splitlines()[0].strip() == "test split, 5 items in the catalogue"
    assert "zero-shot model" in said.out
    assert said.err.rstrip().endswith("test-zero-shot")
    summary, frame = _summary(config), _events(config)
    assert [entry["name"] for entry in summary["results"]] == [result.name for result in results]
    assert (summary["split"], summary["num_items"], summary["exact_share"], summary["adapter"]) == ("test", 5, 1.0, {})
    assert summary["catalogue_hash"] == histories.catalogue_hash
    chosen = histories.events[frame["row"].to_list()]
    assert frame.select("user_id", "item_id", "time").equals(chosen.select("user_id", "item_id", "time"))
    for result, name in zip(results, [*BASELINES, "zero-shot"], strict=True):
        assert result.metrics["recall@1"] == pytest.approx(float((frame[f"{name}: rank"] == 1).mean()))
        assert result.metrics["nDCG@10"] == pytest.approx(float(frame[f"{name}: nDCG@10"].mean()))


def test_evaluation_of_a_sample_asks_every_ranker_about_it(simulated: Town) -> None:
    config = simulated("evaluate.baselines=[popularity]")
    results = evaluate(config, split="test", use_adapter=False, limit=5)
    assert [result.num_events for result in results] == [5, 5]
    part, _ = _events(config, "test-zero-shot-5"), evaluate(config, split="test", use_adapter=False)
    whole = _events(config).filter(pl.col("row").is_in(part["row"].implode()))
    assert part["popularity: rank"].equals(whole["popularity: rank"])
    assert np.allclose(part["zero-shot: log-loss"], whole["zero-shot: log-loss"], atol=1e-4)


def test_baselines_need_no_model(simulated: Town) -> None:
    config = simulated("model.base=/nowhere")
    assert [result.name for result in evaluate(config, split="valid", baselines_only=True)] == BASELINES
    assert "adapter" not in _summary(config, "valid-baselines")


def test_model_that_is_missing_is_told(simulated: Town) -> None:
    with pytest.raises(ModelError, match="finetune` first"):
        evaluate(simulated(), split="test")


def test_killed_evaluation_goes_on_where_it_was(
    simulated: Town, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulated()
    results = evaluate(config, split="test", use_adapter=False)
    windows, expected = model.windows, _events(config)
    assert len(windows) > 3
    for after in (0, 2):
        _killed(config, model, after)
    again = evaluate(config, split="test", use_adapter=False)
    assert model.windows == windows[2:]
    assert "events were answered before" in capsys.readouterr().err
    assert _events(config).equals(expected)
    assert [result.metrics for result in again] == [result.metrics for result in results]
    assert not list(config.run.rglob("partial-*"))


@pytest.mark.parametrize(
    "other", ["decode.max_expansions=7", "prompts.profile_tokens=0", "evaluate.k=11", "evaluate.split=test"]
)
def test_partial_answers_to_another_question_are_not_gone_on_with(simulated: Town, model: Model, other: str) -> None:
    _killed(simulated(), model, after=2)
    evaluate(simulated(other), split="test", use_adapter=False)
    first = model.windows[0] == int(_events(simulated())["row"][0])
    assert first == (other != "evaluate.split=test"), "only the same question goes on where it was"


def test_answers_are_kept_until_the_results_are_written(
    simulated: Town, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = simulated()
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            evaluate(config, split="test", use_adapter=False)
    asked, model.windows = model.windows, []
    evaluate(config, split="test", use_adapter=False)
    assert (len(asked) > 3, model.windows) == (True, [])


def test_search_out_of_budget_is_told(simulated: Town, capsys: pytest.CaptureFixture[str]) -> None:
    config = simulated("decode.max_expansions=1")
    evaluate(config, split="test", use_adapter=False, limit=10)
    assert _summary(config, "test-zero-shot-10")["exact_share"] < 1
    assert "of the rankings are proven exact; raise decode.max_expansions for more" in capsys.readouterr().err
