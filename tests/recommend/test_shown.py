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
from whereupon.errors import CatalogueError, DataError, ModelError, PromptError
from whereupon.finetune.train import finetune
from whereupon.histories import prepare, read_histories
from whereupon.recommend import recommender
from whereupon.recommend.context import RequestContext
from whereupon.recommend.selection import RequestFilters
from whereupon.recommend.shown import recommend_verb, show_prompt

Ask = Callable[..., str]
TITLES = {"Old Cinema", "City Park", "Bar One", "Bar Two", "Bar Three"}


@pytest.fixture
def trained(town_copy: Callable[..., Config]) -> Config:
    return town_copy()


@pytest.fixture
def ask(trained: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What `recommend` prints on a terminal of 100 columns for its arguments, p00 right after the last event."""
    monkeypatch.setenv("COLUMNS", "100")

    def ask(config: Config = trained, as_json: bool = False, **arguments: Any) -> str:
        defaults = dict.fromkeys(("at", "weather", "place", "k", "versus")) | {
            "user": "p00",
            "filters": RequestFilters(),
        }
        capsys.readouterr()
        given = defaults | arguments
        context = RequestContext(given["at"], given["weather"], given["place"])
        recommend_verb(config, given["user"], context, given["filters"], k=given["k"], versus=given["versus"],
                       as_json=as_json)  # fmt: skip
        return capsys.readouterr().out

    return ask


def test_json_ranks_the_catalogue_with_ids_and_probabilities(ask: Ask) -> None:
    [answer] = json.loads(ask(as_json=True, weather="rain, 18 C"))
    assert {key: value for key, value in answer.items() if key != "items"} == {
        "user_id": "p00", "context": "rain, 18 C", "num_candidates": 5, "filters": "", "exact": True,
        "missing_probability": 0.0,
    }  # fmt: skip
    assert {item["title"] for item in answer["items"]} == TITLES
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5]
    probabilities = [item["probability"] for item in answer["items"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-5)
    assert {item["item_id"]: item["title"] for item in answer["items"]}["bar2"] == "Bar Two"


def test_json_of_two_requests_says_which_is_which(ask: Ask) -> None:
    message = json.loads(ask(as_json=True, weather="rain", versus="clear; 2024-02-01T08:00", k=2))
    assert [answer["context"] for answer in message] == ["rain", "2024-02-01T08:00, clear"]
    assert [len(answer["items"]) for answer in message] == [2, 2]
    assert all(answer["exact"] and answer["missing_probability"] == 0 for answer in message)


def test_answer_does_not_depend_on_what_it_is_computed_beside(ask: Ask) -> None:
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


def test_table_of_two_requests_shows_who_moved(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([_result([3, 0, 1], [0.5, 0.3, 0.1]), _result([0, 3, 2], [0.6, 0.2, 0.1])])
    monkeypatch.setattr(recommender, "run", lambda *_: [next(answers)])
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
    monkeypatch.setattr(recommender, "run", lambda *_: [unfinished])
    assert "stopped at its budget: a missing item has a probability of at most 0.2500." in ask()
    assert json.loads(ask(as_json=True))[0]["missing_probability"] == pytest.approx(0.25)


def test_search_that_found_nothing_in_its_budget_is_an_empty_list(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SearchResult(np.empty(0, np.int64), np.empty(0, np.float32), False, 0.0, 1)
    monkeypatch.setattr(recommender, "run", lambda *_: [nothing])
    assert json.loads(ask(as_json=True))[0]["items"] == []
    assert "at most 1.0000" in ask()


def test_time_that_cannot_be_read_is_reported_before_loading_a_model(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whereupon.decode.models.load_base_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(PromptError, match="cannot be read"):
        ask(versus="rain; 2024-99-01", at="soon")


def test_untrained_run_says_to_finetune_first(trained: Config, tmp_path: Path, ask: Ask) -> None:
    config = _copy(trained, tmp_path)
    shutil.rmtree(config.run / "adapters")
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


# What the answer should be


@pytest.fixture
def places(trained: Config, tmp_path: Path) -> Config:
    """The town with a place, a category and opening hours for most items; titles, and so the adapter, are the same."""
    config = _copy(trained, tmp_path)
    path = config.run / "histories" / "items.parquet"
    known = {  # Bar Three is 11 km away, and nothing is known of Bar Two
        "cinema": (52.50, 13.40, "Cinema", "Mo-Su 14:00-23:00"),
        "park": (52.501, 13.40, "Park", "24/7"),
        "bar1": (52.502, 13.40, "Bar", "Fr-Sa 20:00-04:00"),
        "bar2": (None, None, None, None),
        "bar3": (52.60, 13.40, "Bar", "Mo-Su 20:00-01:00"),
    }
    items = pl.read_parquet(path)
    columns = zip(*(known[item_id] for item_id in items["item_id"]), strict=True)
    names = ("latitude", "longitude", "category", "opening_hours")
    items.with_columns(pl.Series(name, values) for name, values in zip(names, columns, strict=True)).write_parquet(path)
    return config


CENTRE = "52.5,13.4"
NIGHT = "2024-02-03T01:00"  # a Saturday


@pytest.mark.parametrize(
    ("filters", "left", "said"),
    [
        (RequestFilters(near_km=2), {"Old Cinema", "City Park", "Bar One"},
         "Of 5 items, 3 are within 2 km of 52.5000,13.4000 (1 without coordinates)."),
        (RequestFilters(categories=["bar"]), {"Bar One", "Bar Three"},
         "Of 5 items, 2 are of category bar (1 without category)."),
        (RequestFilters(open_now=True), {"City Park", "Bar One"},
         "Of 5 items, 2 are open at 2024-02-03 01:00 local time (1 without opening hours)."),
        (RequestFilters(near_km=2, categories=["bar", "cinema"], open_now=True), {"Bar One"},
         "Of 5 items, 3 are within 2 km of 52.5000,13.4000 (1 without coordinates), 2 of these are of category bar or "
         "cinema, 1 of these is open at 2024-02-03 01:00 local time."),
    ],
)  # fmt: skip
def test_filters_leave_the_others_out_and_probabilities_unchanged(
    places: Config, ask: Ask, filters: RequestFilters, left: set[str], said: str
) -> None:
    context = {"at": NIGHT, "place": CENTRE if filters.near_km else None, "as_json": True}
    [answer] = json.loads(ask(places, filters=filters, **context))
    [plain] = json.loads(ask(places, at=NIGHT, as_json=True))
    assert (answer["num_candidates"], answer["filters"], answer["exact"]) == (len(left), said, True)
    expected = [item for item in plain["items"] if item["title"] in left]
    assert [item["title"] for item in answer["items"]] == [item["title"] for item in expected]
    assert [item["rank"] for item in answer["items"]] == list(range(1, len(left) + 1))
    for item, same in zip(answer["items"], expected, strict=True):
        assert item["probability"] == pytest.approx(same["probability"], rel=1e-5)
    assert said in ask(places, filters=filters, at=NIGHT, place=context["place"]).splitlines()


def test_unseen_leaves_what_the_user_never_chose(places: Config, ask: Ask) -> None:
    events = read_histories(places.run).events.filter(pl.col("user_id") == "p00")
    [answer] = json.loads(ask(places, filters=RequestFilters(unseen=True), as_json=True))
    chosen = set(events["item_id"])
    assert chosen
    assert {item["item_id"] for item in answer["items"]} == {"cinema", "park", "bar1", "bar2", "bar3"} - chosen


def test_filters_that_leave_nothing_are_one_sentence_without_a_model(
    places: Config, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whereupon.decode.models.load_base_model", lambda *_: pytest.fail("loaded"))
    filters = RequestFilters(near_km=2, categories=["Cinema"], open_now=True)
    reason = (
        "Of 5 items, 3 are within 2 km of 52.5000,13.4000 (1 without coordinates), 1 of these is of category Cinema, "
        "none of these is open at 2024-02-03 01:00 local time."
    )
    said = ask(places, filters=filters, at=NIGHT, place=CENTRE)
    assert said == f"Nothing is left to recommend: o{reason[1:]}\n"
    [answer] = json.loads(ask(places, filters=filters, at=NIGHT, place=CENTRE, as_json=True))
    assert (answer["items"], answer["num_candidates"], answer["filters"]) == ([], 0, reason)
    assert (answer["exact"], answer["missing_probability"]) == (True, 0.0)


def test_each_of_two_requests_has_its_own_candidates(places: Config, ask: Ask) -> None:
    filters = RequestFilters(categories=["cinema"], open_now=True)
    moments = {"at": NIGHT, "versus": "2024-02-03T15:00"}
    night, day = json.loads(ask(places, filters=filters, as_json=True, **moments))
    assert [len(answer["items"]) for answer in (night, day)] == [0, 1]
    lines = ask(places, filters=filters, **moments).splitlines()
    assert lines[-2].startswith(
        f"{NIGHT}: Nothing is left to recommend: of 5 items, 1 is of category cinema (1 without"
    )
    assert lines[-1].startswith("2024-02-03T15:00: Of 5 items, 1 is of category cinema")
    assert "Old Cinema" in lines[2]


def test_filter_that_cannot_be_granted_is_reported_before_a_model_is_loaded(
    trained: Config, places: Config, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whereupon.decode.models.load_base_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(CatalogueError, match=r"There is no category 'Kino' among 3; did you mean Cinema"):
        ask(places, filters=RequestFilters(categories=["Kino"]))
    with pytest.raises(CatalogueError, match="needs a column 'category' of the items"):
        ask(trained, filters=RequestFilters(categories=["Bar"]))
    with pytest.raises(CatalogueError, match=r"The filter near_km should be greater than 0 \(found -1\)"):
        ask(places, filters=RequestFilters(near_km=-1), place=CENTRE)
    with pytest.raises(DataError, match=r"^The filter near_km needs a place, .* user p00 .*: give a place, or"):
        ask(places, filters=RequestFilters(near_km=2))
    with pytest.raises(PromptError, match="The place 'here' cannot be read"):
        ask(places, filters=RequestFilters(near_km=2), place="here")
    with pytest.raises(PromptError, match="leave the place out"):
        ask(places, filters=RequestFilters(unseen=True), place=CENTRE)


def test_prompt_is_shown_as_it_is_read_with_its_counts(trained: Config, capsys: pytest.CaptureFixture[str]) -> None:
    events = read_histories(trained.run).events.filter(pl.col("user_id") == "p01")
    show_prompt(trained, "p01", RequestContext("2024-02-03T19:00", "rain, 3 C"), ids=False)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "What one person chose, oldest first."
    assert lines[-1] == "Saturday evening 7 cold rain:"
    assert f" of {events.height} events, " in said.err
    assert said.err.split()[:4] == [said.err.split()[0], "tokens", "of", "160:"]
    show_prompt(trained, "p01", RequestContext("2024-02-03T19:00", "rain, 3 C"), ids=True)
    assert len(json.loads(capsys.readouterr().out)) == int(said.err.split()[0])


def test_prompt_is_shown_before_anything_is_trained(
    trained: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = RequestContext("2024-02-03T19:00", "rain, 3 C")
    show_prompt(trained, "p01", context, ids=True)
    expected = capsys.readouterr().out
    untrained = _copy(trained, tmp_path)
    shutil.rmtree(untrained.run / "adapters")
    show_prompt(untrained, "p01", context, ids=True)
    assert capsys.readouterr().out == expected


def _copy(config: Config, folder: Path) -> Config:
    shutil.copytree(config.run, folder / "another")
    return config.model_copy(update={"run": folder / "another"})


def _result(items: list[int], probabilities: list[float]) -> SearchResult:
    return SearchResult(np.array(items), np.log(np.array(probabilities, np.float32)), True, -math.inf, 1)
