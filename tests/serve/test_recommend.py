import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.config import Config, load_config
from whereupon.decode.search import SearchResult
from whereupon.errors import ModelError, PromptError
from whereupon.finetune.train import finetune
from whereupon.histories import prepare, read_histories
from whereupon.serve import recommend
from whereupon.serve.recommend import recommend_verb, show_prompt

Ask = Callable[..., str]
TITLES = {"Old Cinema", "City Park", "Bar One", "Bar Two", "Bar Three"}


@pytest.fixture(scope="module")
def trained(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A tiny town and an adapter that has hardly learnt anything."""
    path = make_town(tmp_path_factory.mktemp("town"), people=3, days=8)
    config = load_config(path, ["finetune.epochs=0.1"])
    prepare(config.histories, config.catalogue, config.run, config.seed)
    finetune(config)
    return config


@pytest.fixture
def ask(trained: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What `recommend` prints on a terminal of 100 columns for its arguments, p00 right after the last event."""
    monkeypatch.setenv("COLUMNS", "100")

    def ask(config: Config = trained, as_json: bool = False, **arguments: Any) -> str:
        defaults = dict.fromkeys(("at", "weather", "place", "k", "versus")) | {"user": "p00"}
        capsys.readouterr()
        recommend_verb(config, as_json=as_json, **(defaults | arguments))
        return capsys.readouterr().out

    return ask


def test_json_ranks_the_catalogue_with_ids_and_probabilities(ask: Ask) -> None:
    [answer] = json.loads(ask(as_json=True, weather="rain, 18 C"))
    assert {key: answer[key] for key in ("user_id", "moment", "exact", "missing_probability")} == {
        "user_id": "p00", "moment": "rain, 18 C", "exact": True, "missing_probability": 0.0,
    }  # fmt: skip
    assert {item["title"] for item in answer["items"]} == TITLES
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5]
    probabilities = [item["probability"] for item in answer["items"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-5)
    assert {item["item_id"]: item["title"] for item in answer["items"]}["bar2"] == "Bar Two"


def test_json_of_two_moments_says_which_is_which(ask: Ask) -> None:
    told = json.loads(ask(as_json=True, weather="rain", versus="clear; 2024-02-01T08:00", k=2))
    assert [answer["moment"] for answer in told] == ["rain", "2024-02-01T08:00, clear"]
    assert [len(answer["items"]) for answer in told] == [2, 2]
    assert all(answer["exact"] and answer["missing_probability"] == 0 for answer in told)


def test_answer_does_not_depend_on_what_it_is_asked_beside(ask: Ask) -> None:
    both = json.loads(ask(as_json=True, weather="rain", versus="clear"))
    assert both == [json.loads(ask(as_json=True, weather=weather))[0] for weather in ("rain", "clear")]


def test_table_shows_rank_probability_bar_title_and_id(ask: Ask) -> None:
    [answer] = json.loads(ask(as_json=True, k=3))
    lines = ask(k=3).splitlines()
    assert lines[0].strip() == "User p00, next"
    assert lines[1].split() == ["p", "right", "after", "the", "last", "event", "id"]
    assert len(lines) == 5
    for line, item in zip(lines[2:], answer["items"], strict=True):
        rank, probability, bar, *title, item_id = line.split()
        assert (rank, " ".join(title), item_id) == (str(item["rank"]), item["title"], item["item_id"])
        assert float(probability.rstrip("%")) == pytest.approx(100 * item["probability"], abs=0.051)
        assert set(bar) <= set("█▏▎▍▌▋▊▉")
    assert lines[2].split()[2] == "█" * 20


def test_table_of_two_moments_shows_who_moved(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([_result([3, 0, 1], [0.5, 0.3, 0.1]), _result([0, 3, 2], [0.6, 0.2, 0.1])])
    monkeypatch.setattr(recommend, "_ask", lambda *_: next(answers))
    lines = ask(weather="rain", versus="clear").splitlines()
    assert [line.split()[-1] for line in lines[2:5]] == ["▲1", "▼1", "new"]
    assert lines[1].split() == ["p", "rain", "p", "clear"]


def test_titles_and_users_in_brackets_are_no_markup(trained: Config, tmp_path: Path, ask: Ask) -> None:
    config = _copy(trained, tmp_path)
    path = config.run / "histories" / "events.parquet"
    events = pl.read_parquet(path).with_columns(user_id=pl.format("[red]{}", "user_id"))
    events.write_parquet(path)
    assert "User [red]p00, next" in ask(config, user="[red]p00")


def test_search_that_stopped_says_what_may_be_missing(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished = SearchResult(np.array([3]), np.log(np.array([0.5], np.float32)), False, math.log(0.25), 1)
    monkeypatch.setattr(recommend, "_ask", lambda *_: unfinished)
    assert "stopped at its budget: a missing item has a probability of at most 0.2500." in ask()
    assert json.loads(ask(as_json=True))[0]["missing_probability"] == pytest.approx(0.25)


def test_search_that_found_nothing_in_its_budget_is_an_empty_list(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SearchResult(np.empty(0, np.int64), np.empty(0, np.float32), False, 0.0, 1)
    monkeypatch.setattr(recommend, "_ask", lambda *_: nothing)
    assert json.loads(ask(as_json=True))[0]["items"] == []
    assert "at most 1.0000" in ask()


def test_moment_that_cannot_be_read_is_told_before_a_model_is_loaded(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whereupon.decode.models.load_engine", lambda *_: pytest.fail("loaded"))
    with pytest.raises(PromptError, match="cannot be read"):
        ask(versus="rain; 2024-99-01", at="soon")


def test_untrained_run_says_to_finetune_first(trained: Config, tmp_path: Path, ask: Ask) -> None:
    config = _copy(trained, tmp_path)
    shutil.rmtree(config.run / "adapter")
    with pytest.raises(ModelError, match="run `whereupon finetune` first"):
        ask(config)


def test_catalogue_of_one_item_is_recommended_for_certain(trained: Config, tmp_path: Path, ask: Ask) -> None:
    visits = ["user_id,item_id,time", "ann,bar,2024-01-01T08:00Z", "ann,bar,2024-01-02T08:00Z"]
    (tmp_path / "events.csv").write_text("\n".join(visits))
    (tmp_path / "one.yaml").write_text(
        "run: run\nhistories: {events: {path: events.csv}, split: {train: 1, valid: 0}}\n"
        f"model: {{base: {trained.model.base}, device: cpu}}\nfinetune: {{epochs: 1, mixed_precision: 'no'}}\n"
    )
    config = load_config(tmp_path / "one.yaml")
    prepare(config.histories, config.catalogue, config.run)
    finetune(config)
    [answer] = json.loads(ask(config, user="ann", as_json=True))
    assert answer["items"] == [{"rank": 1, "item_id": "bar", "title": "bar", "probability": 1.0}]
    assert "100.0%" in ask(config, user="ann")


def test_prompt_is_shown_as_it_is_read_with_its_counts(trained: Config, capsys: pytest.CaptureFixture[str]) -> None:
    events = read_histories(trained.run).events.filter(pl.col("user_id") == "p01")
    show_prompt(trained, user="p01", at="2024-02-03T19:00", weather="rain, 3 C", place=None)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "What one person chose, oldest first."
    assert lines[-1] == "Saturday evening 7 cold rain:"
    assert f" of {events.height} events, " in said.err
    assert said.err.split()[:4] == [said.err.split()[0], "tokens", "of", "160:"]


def _copy(config: Config, folder: Path) -> Config:
    shutil.copytree(config.run, folder / "run")
    return config.model_copy(update={"run": folder / "run"})


def _result(items: list[int], probabilities: list[float]) -> SearchResult:
    return SearchResult(np.array(items), np.log(np.array(probabilities, np.float32)), True, -math.inf, 1)
