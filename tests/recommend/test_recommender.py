"""The public way to answers, as a library user takes it."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import whereupon
from whereupon.config import Config
from whereupon.errors import CatalogueError, ConfigError, DataError, PromptError
from whereupon.histories import read_histories
from whereupon.recommend import Recommender, Request, RequestContext, RequestFilters
from whereupon.recommend.shown import recommend_verb
from whereupon.recommend.store import open_store
from whereupon.recommend.store.event import Event, PastEvent

AT = "2024-01-20T12:00:00"


@pytest.fixture
def config(town_copy: Callable[..., Config]) -> Config:
    return town_copy()


@pytest.fixture
def recommender(config: Config) -> Iterator[Recommender]:
    with Recommender.load(config) as recommender:
        yield recommender


def _store(config: Config, *events: Event) -> None:
    store = open_store(config.events_address)
    store.append(events)
    store.close()


def _event(user: str, item: str, time: Any, number: int = 1) -> Event:
    return Event(event_id=f"e{number}", user_id=user, item_id=item, time=time)


def _prepared(config: Config, user: str) -> pl.DataFrame:
    return read_histories(config.run).events.filter(pl.col("user_id") == user)


def test_recommendations_are_a_frame_with_a_row_an_item(recommender: Recommender) -> None:
    found = recommender.recommend(["p00", "p01"], at=AT, weather="rain, 18 C", k=3)
    assert found.schema == {"user_id": pl.String, "rank": pl.Int32, "item_id": pl.String, "title": pl.String,
                            "probability": pl.Float64}  # fmt: skip
    assert found["user_id"].to_list() == ["p00"] * 3 + ["p01"] * 3
    assert found["rank"].to_list() == [1, 2, 3] * 2
    assert found.filter(user_id="p00")["probability"].is_sorted(descending=True)
    assert recommender.recommend("p01", at=AT, weather="rain, 18 C", k=3).equals(found.filter(user_id="p01"))
    assert recommender.recommend([]).height == 0


def test_filters_leave_items_out_and_no_item_is_an_empty_frame(recommender: Recommender) -> None:
    new = recommender.recommend("p00", filters=RequestFilters(only=["bar1", "park"]))
    assert set(new["item_id"]) == {"bar1", "park"}
    none = recommender.recommend("p00", filters=RequestFilters(only=[]))
    assert (none.height, none.schema) == (0, new.schema)


def test_all_users_are_ranked_and_those_without_an_answer_counted(
    recommender: Recommender, capsys: pytest.CaptureFixture[str]
) -> None:
    found = recommender.recommend_all(k=2, at=AT)
    assert found.equals(recommender.recommend(recommender.user_ids, k=2, at=AT))
    assert recommender.recommend_all(at="2024-01-01T00:00").height == 0
    assert "not answered: 4 users" in capsys.readouterr().err


def test_log_probabilities_of_named_items_are_those_of_the_whole_catalogue(recommender: Recommender) -> None:
    whole = recommender.log_probs("p00", ["cinema", "park", "bar1", "bar2", "bar3"], at=AT)
    assert whole["item_id"].to_list() == ["cinema", "park", "bar1", "bar2", "bar3"]
    assert whole["log_prob"].exp().sum() == pytest.approx(1.0, abs=1e-5)
    ranked = recommender.recommend("p00", at=AT, k=5).join(whole, on="item_id")
    assert ranked["probability"].to_list() == pytest.approx(ranked["log_prob"].exp().to_list(), rel=1e-5)
    assert recommender.log_probs("p00", ["bar2", "bar2"], at=AT)["log_prob"].n_unique() == 1
    with pytest.raises(CatalogueError, match="nowhere"):
        recommender.log_probs("p00", ["nowhere"])


def test_what_cannot_be_answered_is_one_sentence(recommender: Recommender) -> None:
    with pytest.raises(DataError, match=r"'p0'.*did you mean p0"):
        recommender.recommend("p0")
    with pytest.raises(PromptError, match="soon"):
        recommender.recommend("p00", at="soon")
    with pytest.raises(DataError, match="neither"):
        recommender.question(Request())


@pytest.mark.parametrize("kind", ["yaml", "dictionary", "run folder"])
def test_configuration_comes_in_every_form(config: Config, barely_trained: Path, kind: str) -> None:
    expected = Recommender.load(config).recommend("p00", at=AT)
    (config.run / "run.json").write_text(json.dumps({"finetune": {"started": "2026", "config": config.shown()}}))
    sources: dict[str, Any] = {
        "yaml": (barely_trained, [f"run={config.run}"]),
        "dictionary": (config.model_dump(mode="json"), []),
        "run folder": (config.run, []),
    }
    assert whereupon.Recommender.load(*sources[kind]).recommend("p00", at=AT).equals(expected)


def test_folder_in_which_nothing_ran_is_refused_in_a_sentence(tmp_path: Path, config: Config) -> None:
    with pytest.raises(ConfigError, match=r"no run folder.*YAML"):
        Recommender.load(tmp_path)
    hidden = config.shown() | {"serve": {"events": "postgresql://a:***@b/c"}}
    (config.run / "run.json").write_text(json.dumps({"serve": {"started": "2026", "config": hidden}}))
    with pytest.raises(ConfigError, match="password"):
        Recommender.load(config.run)


def test_event_that_is_stored_and_prepared_counts_once(config: Config) -> None:
    last = _prepared(config, "p00").row(-1, named=True)
    with Recommender.load(config) as plain:
        expected = plain.recommend("p00", at=AT)
        num_events = plain.question(Request("p00", None, RequestContext(AT))).prompt.num_events
    _store(config, _event("p00", last["item_id"], last["time"] + timedelta(milliseconds=700)))
    with Recommender.load(config) as after:
        assert after.question(Request("p00", None, RequestContext(AT))).prompt.num_events == num_events
        assert after.recommend("p00", at=AT).equals(expected)
    _store(config, _event("p00", last["item_id"], last["time"] + timedelta(minutes=5), 2))
    with Recommender.load(config) as after:
        assert after.question(Request("p00", None, RequestContext(AT))).prompt.num_events == num_events + 1


def test_event_that_is_stored_and_sent_along_counts_once_and_two_alike_count_twice(recommender: Recommender) -> None:
    config = recommender.config
    time = _prepared(config, "p00")["time"][-1] + timedelta(hours=2)  # type: ignore[arg-type]
    stored = [_event("p00", "bar1", time, 1), _event("p00", "bar1", time, 2)]
    _store(config, *stored)  # type: ignore[arg-type]
    with Recommender.load(config) as after:
        base = recommender.question(Request("p00", None, RequestContext(AT))).prompt.num_events
        sent = [PastEvent(item_id="bar1", time=time)]
        for given, num in ((None, 2), (sent, 2), (sent * 3, 3)):
            assert after.question(Request("p00", given, RequestContext(AT))).prompt.num_events == base + num


def test_command_line_and_library_know_the_same_events(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    """Both read prepared and stored events; users that only the store knows are users, too."""
    time = _prepared(config, "p00")["time"][-1] + timedelta(hours=3)
    _store(config, _event("p00", "bar3", time), _event("new", "cinema", time, 2))
    capsys.readouterr()
    recommend_verb(config, "p00", RequestContext(AT), RequestFilters(), k=5, versus=None, as_json=True)
    [printed] = json.loads(capsys.readouterr().out)
    with Recommender.load(config) as recommender:
        ranked = recommender.recommend("p00", at=AT, k=5)
        assert [item["probability"] for item in printed["items"]] == ranked["probability"].to_list()
        assert recommender.question(Request("p00", None, RequestContext(AT))).prompt.item_M[-1] == 3 + 1
        assert recommender.user_ids == ["new", "p00", "p01", "p02", "p03"]
        assert set(recommender.recommend_all(k=1, at=AT)["user_id"]) == set(recommender.user_ids)


def test_evaluate_takes_a_dictionary_and_gives_a_row_a_ranker(config: Config) -> None:
    settings = config.model_dump(mode="json") | {"evaluate": {"baselines": ["popularity"]}}
    found = whereupon.evaluate(settings)
    assert "popularity" in found["ranker"].to_list()
    assert {"nDCG@10", "recall@10"} <= set(found.columns)


@pytest.mark.slow
def test_example_in_python_runs_from_tables_to_recommendations(
    root: Path, make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import runpy

    words = ["Monday evening 18 cold: Book\n", "Tuesday evening 19 hot: Ice Cream\n", "Friday mild: Hot Soup, Tea\n"]
    model = make_model(tmp_path / "model", words * 3)
    monkeypatch.setattr("sys.argv", ["shop.py", str(model)])
    runpy.run_path(str(root / "examples" / "shop.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "popularity" in printed
    assert {"Hot Soup", "Ice Cream"} <= {word for word in ("Hot Soup", "Ice Cream") if word in printed}


def test_edit_by_another_process_is_noticed(config: Config, recommender: Recommender) -> None:
    with Recommender.load(config) as another:
        another.catalogues.edit(lambda saved: saved.remove(["cinema"]))
    assert "cinema" not in recommender.recommend("p00", at=AT)["item_id"]


def test_budget_of_searches_does_not_hide_log_probabilities(config: Config, town_copy: Callable[..., Config]) -> None:
    items = ["cinema", "park", "bar1", "bar2", "bar3"]
    with Recommender.load(town_copy("decode.max_expansions=1")) as bounded, Recommender.load(config) as whole:
        assert bounded.log_probs("p00", items, at=AT).equals(whole.log_probs("p00", items, at=AT))
        assert bounded.log_probs("p00", "park", at=AT).height == 1


def test_mistake_in_the_time_is_no_users_lack_of_an_answer(recommender: Recommender) -> None:
    for wrong in ({"weather": "hot"}, {"at": "soon"}, {"place": "here"}, {"at": "0001-01-01T00:00+14:00"}):
        with pytest.raises(PromptError):
            recommender.recommend_all(**wrong)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="k should be at least 1, not 0"):
        recommender.recommend("p00", k=0)


def test_time_zone_of_the_configuration_says_what_a_time_with_an_offset_shows(town_copy: Callable[..., Config]) -> None:
    config = town_copy("histories.time_zone=America/New_York")
    with Recommender.load(config) as recommender:
        context = RequestContext("2024-01-21T02:00:00+00:00")
        for request in (Request(None, [], context), Request("p00", None, context)):
            tokens = recommender.question(request).prompt.tokens_L.tolist()
            assert recommender.tokenizer.decode(tokens).splitlines()[-1].startswith("Saturday evening 9")


def test_run_folder_of_a_training_in_python_is_a_configuration(config: Config, tmp_path: Path) -> None:
    settings = config.model_dump(mode="json") | {
        "run": str(tmp_path / "another"),
        "model": {"base": Path(config.model.base), "device": "cpu"},
    }
    settings["finetune"] = settings["finetune"] | {"epochs": 0.1}
    whereupon.prepare(settings)
    whereupon.finetune(settings)
    with Recommender.load(tmp_path / "another") as recommender:
        assert recommender.recommend("p00", at=AT).height == 5
