"""A model that is trained on top of rankers: what is trained is what is evaluated, recommended and served."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.config import Config
from whereupon.decode.adapter_card import read_card
from whereupon.decode.adapters import current_adapter
from whereupon.errors import ConfigError, DataError
from whereupon.eval.ablation import ablate
from whereupon.eval.parts import other_items, read_parts
from whereupon.eval.rankings import evaluation_folder, parts_file, read_rankings
from whereupon.eval.run import evaluate
from whereupon.eval.stacking import calibrate_run, choose_priors, run_stack
from whereupon.finetune.train import finetune
from whereupon.histories import Histories, prepare, read_histories
from whereupon.rankers.stack import StackRanker
from whereupon.recommend import Recommender, Request, RequestContext, RequestFilters
from whereupon.recommend.store import open_store
from whereupon.recommend.store.event import Event, PastEvent

pytestmark = pytest.mark.slow  # all together

TownCopy = Callable[..., Config]
PRIORS = "priors=[popularity, own counts, transitions]"
OTHER = "priors=[popularity, transitions]"
ITEMS = ["cinema", "park", "bar1", "bar2", "bar3"]


@pytest.fixture
def config(on_top_copy: TownCopy) -> Config:
    return on_top_copy("evaluate.baselines=[popularity]", "decode.k=50")


def _ranked(config: Config, request: Request, **changes: Any) -> dict[str, float]:
    """Probability of each item, of an answer with the whole catalogue."""
    with Recommender.load(config) as recommender:
        answer = recommender.answer(recommender.question(request))
    assert answer.result.exact
    found = {str(row["item_id"]): float(row["probability"]) for row in answer.rows()}
    assert sum(found.values()) == pytest.approx(1, abs=1e-4)
    return found


def _last_rows(histories: Histories) -> list[tuple[str, int, str]]:
    """Users whose last event is to be predicted: id, its row, and a time right then."""
    rows = (int(end) - 1 for end in histories.offset_U1[1:])
    return [
        (histories.user_ids[user], row, histories.events["local_time"][row].isoformat())
        for user, row in enumerate(rows) if histories.events["split"][row] == "test"
    ]  # fmt: skip


def test_training_leaves_pools_and_stack_and_its_card_names_the_stack(config: Config) -> None:
    adapter = current_adapter(config.run)
    pools = json.loads((adapter / "pools.json").read_text())
    recipe = json.loads((config.run / "priors" / "recipe.json").read_text())
    stack = run_stack(config, read_histories(config.run), "test")
    assert stack is not None
    assert stack.recipe.as_json() == recipe["recipe"]
    assert read_card(adapter)["priors"] == pools["priors"] == stack.recipe.identity
    assert (config.run / "priors" / "stack" / "stack.json").is_file()


def test_evaluation_names_model_and_stack_and_neither_is_a_baseline(config: Config) -> None:
    results = evaluate(config, split="test")
    assert [result.name for result in results] == ["stack of priors", "popularity", "fine-tuned model, on top"]
    summary = json.loads((evaluation_folder(config.run, "test") / "summary.json").read_text())
    assert {one["name"]: one["kind"] for one in summary["results"]} == {
        "stack of priors": "stack", "popularity": "baseline", "fine-tuned model, on top": "model"
    }  # fmt: skip
    alone, facts = read_rankings(evaluation_folder(config.run, "test"), "stack-of-priors")
    assert np.exp(alone.score_EK[:, : len(ITEMS)]).sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert "own counts" in json.dumps(facts["settings"]), "which is not asked for as a baseline"


def test_parts_of_the_log_odds_lie_beside_the_rankings_and_add_up(config: Config) -> None:
    results = evaluate(config, split="test")
    assert {"nDCG@10 first visits", "nDCG@10 repeats"} & results[0].metrics.keys() in (
        set(), {"nDCG@10 first visits", "nDCG@10 repeats"}
    )  # fmt: skip
    folder = evaluation_folder(config.run, "test")
    rankings, _ = read_rankings(folder, "fine-tuned-on-top")
    parts = read_parts(folder, "fine-tuned-on-top", rankings.row_E)
    assert parts is not None
    assert {"gate", "normaliser", "model"} < parts.keys()
    assert rankings.log_prob_E is not None
    item_E = read_histories(config.run).item_idx_N[rankings.row_E].astype(np.int64)
    _, other_E = other_items(rankings, item_E)
    assert sum(parts.values()) == pytest.approx(rankings.log_prob_E - other_E, abs=1e-4)
    alone, _ = read_rankings(folder, "stack-of-priors")
    assert parts_file(folder, "stack-of-priors").is_file() is False
    other, at_E = other_items(rankings, item_E)[0], np.arange(len(item_E))
    score_EI = np.full((len(item_E), len(ITEMS)), np.nan)
    score_EI[at_E[:, None], alone.item_EK[:, : len(ITEMS)]] = alone.score_EK[:, : len(ITEMS)]
    expected = score_EI[at_E, item_E] - score_EI[at_E, other]
    pools = json.loads((current_adapter(config.run) / "pools.json").read_text())["pools"]
    if {pool["weight"] for pool in pools.values()} == {1.0}:
        assert sum(one for name, one in parts.items() if name != "model") == pytest.approx(expected, abs=1e-3)
    file = parts_file(folder, "fine-tuned-on-top")
    file.unlink()
    evaluate(config, split="test")
    assert file.is_file(), "of rankings that are complete, the parts alone are made"


def test_stack_alone_is_not_ranked_twice(config: Config) -> None:
    file = evaluation_folder(config.run, "test") / "stack-of-priors.json"
    evaluate(config, split="test")
    first = file.read_text()
    evaluate(config, split="test")
    assert file.read_text() == first


def test_what_is_evaluated_is_what_is_recommended(config: Config) -> None:
    evaluate(config, split="test")
    rankings, _ = read_rankings(evaluation_folder(config.run, "test"), "fine-tuned-on-top")
    histories, compared = read_histories(config.run), 0
    with Recommender.load(config) as recommender:
        for user, row, at in _last_rows(histories):
            found = recommender.recommend(user, at=at, weather=_weather(histories, row))
            place = int(np.flatnonzero(rankings.row_E == row)[0])
            items = [histories.items["item_id"][int(item)] for item in rankings.item_EK[place, :5]]
            evaluated = dict(zip(items, np.exp(rankings.score_EK[place, :5]), strict=True))
            said = dict(zip(found["item_id"], found["probability"], strict=True))
            assert said == pytest.approx(evaluated, abs=1e-4)
            assert sum(said.values()) == pytest.approx(1, abs=1e-4)
            compared += 1
    assert compared


def _weather(histories: Histories, row: int) -> str:
    event = histories.events.row(row, named=True)
    return f"{'rain' if event['precipitation_mm'] else 'dry'}, {event['temperature_c']:.0f} C"


def test_all_users_at_once_get_what_each_alone_gets(config: Config) -> None:
    with Recommender.load(config) as recommender:
        together = recommender.recommend_all(at="2024-01-20T12:00")
        for user in recommender.user_ids:
            alone = recommender.recommend(user, at="2024-01-20T12:00")
            assert together.filter(user_id=user)["item_id"].to_list() == alone["item_id"].to_list()
            probabilities = together.filter(user_id=user)["probability"].to_list()
            assert probabilities == pytest.approx(alone["probability"].to_list(), abs=1e-4)


@pytest.mark.parametrize(("priors", "now"), [("priors=none", "none"), (OTHER, "another one now")])
def test_other_rankers_than_those_of_the_training_are_refused(on_top_copy: TownCopy, priors: str, now: str) -> None:
    config = on_top_copy(priors, "evaluate.baselines=[]")
    if priors == OTHER:
        choose_priors(config)
    message = rf"^The adapter in \S+ was trained on top of rankers \(priors \w+\), and this run has {now}: run [^\n]*$"
    with pytest.raises(ConfigError, match=message):
        Recommender.load(config)
    with pytest.raises(ConfigError, match=message):
        evaluate(config, split="test")


def test_rankers_of_an_adapter_trained_alone_must_be_pooled_first(town_copy: TownCopy) -> None:
    config = town_copy(PRIORS, "evaluate.baselines=[]")
    with pytest.raises(DataError, match=r"^There are no fitted rankers in \S+: run `whereupon priors` again\.$"):
        Recommender.load(config)
    choose_priors(config)
    message = (
        r"^The adapter in \S+ was not pooled with the rankers of this run yet: run `whereupon calibrate` first, or"
    )
    for verb in (lambda: Recommender.load(config), lambda: evaluate(config, split="test")):
        with pytest.raises(ConfigError, match=message):
            verb()
    calibrate_run(config)
    assert [result.name for result in evaluate(config, split="test")] == ["stack of priors", "fine-tuned model, pooled"]
    _ranked(config, Request("p00"))
    with pytest.raises(ConfigError, match=message):
        _ranked(config.model_copy(update={"priors": _chosen(config, OTHER)}), Request("p00"))


def _chosen(config: Config, override: str) -> list[str]:
    """The list of an override, its stack fitted for the run."""
    names = override.partition("[")[2].rstrip("]").split(", ")
    choose_priors(config.model_copy(update={"priors": names}))
    return names


def test_killed_between_training_and_calibration_answers_as_it_was_trained(config: Config) -> None:
    adapter = current_adapter(config.run)
    (adapter / "pools.json").unlink()
    _ranked(config, Request("p00"))
    shutil.rmtree(config.run / "priors" / "stack")
    with pytest.raises(DataError, match=r"^There are no fitted rankers in \S+: run `whereupon priors` again\.$"):
        Recommender.load(config)
    evaluate(config, split="test")  # fits what is missing
    as_trained = _ranked(config, Request("p00"))
    calibrate_run(config)
    assert _ranked(config, Request("p00")) != pytest.approx(as_trained, abs=1e-4)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("how", [_cut, Path.unlink])
@pytest.mark.parametrize("name", ["stack.json", "gate.safetensors", "00/ranker.json"])
def test_damaged_stack_is_one_sentence_and_can_be_fitted_again(
    config: Config, name: str, how: Callable[[Path], None]
) -> None:
    before = _ranked(config, Request("p00"))
    how(config.run / "priors" / "stack" / name)
    with pytest.raises(DataError, match=r"^[^\n]* run `whereupon priors` again\.$"):
        Recommender.load(config)
    choose_priors(config)
    assert _ranked(config, Request("p00")) == pytest.approx(before, abs=1e-6)


def test_adapter_of_other_rankers_is_replaced_by_one_that_was_trained_on_top_of_these(
    town_copy: TownCopy, capsys: pytest.CaptureFixture[str]
) -> None:
    """However well it did: nothing would answer with it."""
    config = town_copy(PRIORS, "finetune.epochs=0.1")
    before = current_adapter(config.run)
    card = json.loads((before / "whereupon.json").read_text())
    card["validation"] |= {"nDCG@10": 1.0}
    (before / "whereupon.json").write_text(json.dumps(card))
    finetune(config)
    assert "adapter 0002 is in use now; 0001 was trained for other" in capsys.readouterr().err
    _ranked(config, Request("p00"))


def test_training_without_validation_events_leaves_what_answers_need(town_copy: TownCopy) -> None:
    config = town_copy(PRIORS, "finetune.epochs=0.1")
    shutil.rmtree(config.run / "adapters")
    events = config.run / "histories" / "events.parquet"
    no_longer = pl.when(pl.col("split") == "valid").then(pl.lit("train")).otherwise("split").alias("split")
    pl.read_parquet(events).with_columns(no_longer).write_parquet(events)
    finetune(config)
    _ranked(config, Request("p00"))


def test_histories_prepared_again_go_on_with_the_rankers_of_the_adapter_fitted_to_them(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on = read_card(current_adapter(config.run))["priors"]
    assert config.histories.items is not None
    text = config.histories.items.path.read_text()
    (tmp_path / "items.csv").write_text(f"{text}tea,Tea House\n")
    items = config.histories.items.model_copy(update={"path": tmp_path / "items.csv"})
    config = config.model_copy(update={"histories": config.histories.model_copy(update={"items": items})})
    prepare(config.histories, config.catalogue, config.run, config.seed)
    with pytest.raises(DataError, match="were fitted to other histories"):
        Recommender.load(config)
    choose_priors(config)
    assert "the adapter's rankers are kept and fitted to the histories" in capsys.readouterr().err
    stack = run_stack(config, read_histories(config.run), "test")
    assert stack is not None
    assert stack.recipe.identity == trained_on
    assert _ranked(config, Request("p00")).keys() == {*ITEMS, "tea"}


def test_other_candidates_are_evaluated_with_the_rankers_of_the_adapter(on_top_copy: TownCopy) -> None:
    config = on_top_copy("evaluate.baselines=[]", "evaluate.repeats=excluded")
    names = [result.name for result in evaluate(config, split="test")]
    assert names == ["stack of priors", "fine-tuned model, on top"]


def test_stack_of_other_histories_is_refused(config: Config) -> None:
    manifest = config.run / "histories" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"data_hash": "other"}))
    with pytest.raises(
        DataError, match=r"^The rankers in \S+ were fitted to other histories .* `whereupon priors` again"
    ):
        Recommender.load(config)


def _store(config: Config, *events: tuple[str, str, Any]) -> None:
    store = open_store(config.events_address)
    store.append(
        [Event(event_id=f"{user} {time}", user_id=user, item_id=item, time=time) for user, item, time in events]
    )
    store.close()


def _later(config: Config, hours: float) -> Any:
    return read_histories(config.run).events["time"].max() + timedelta(hours=hours)  # type: ignore[operator]


AT = RequestContext("2024-01-20T12:00")


def test_somebody_without_anything_known_is_answered(config: Config) -> None:
    found = _ranked(config, Request(None, [], AT))
    assert found.keys() == set(ITEMS)


def test_user_who_is_stored_only_is_answered_and_counted(config: Config) -> None:
    _store(config, *(("new", "bar3", _later(config, hour)) for hour in range(1, 9)))
    stored, unknown = _ranked(config, Request("new", None, AT)), _ranked(config, Request(None, [], AT))
    assert stored["bar3"] > unknown["bar3"]
    sent = [PastEvent(item_id="bar3", time=_later(config, hour)) for hour in range(1, 9)]
    assert _ranked(config, Request(None, sent, AT)) == pytest.approx(stored, abs=1e-4)


def test_time_place_and_weather_of_a_request_are_fine(config: Config) -> None:
    context = RequestContext("2024-01-20T22:30", "rain, 3 C", "52.5,13.4")
    _ranked(config, Request("p00", None, context, RequestFilters()))


def test_event_that_arrives_moves_the_prior_at_once(config: Config) -> None:
    histories = read_histories(config.run)
    context = RequestContext("2024-01-20T12:00", "rain, 18 C")
    with Recommender.load(config, keeps_events=True) as recommender:
        version = recommender.catalogues.current

        def again() -> float:
            query = recommender.question(Request("p00", None, context)).prompt.query
            change = version.change_of(query)
            return sum(float(pool.prior.of_item(np.zeros(1, np.int64), np.array([4]))[0]) for pool in change.pools
                       if pool.prior is not None)  # fmt: skip

        before, ranked = again(), recommender.recommend("p00", at=AT.at)
        assert histories.items["item_id"][4] == "bar3"
        _store(config, *(("p00", "bar3", _later(config, hour)) for hour in range(1, 6)))
        assert again() > before
        after = recommender.recommend("p00", at=AT.at)
    chances = [float(one.filter(item_id="bar3")["probability"][0]) for one in (ranked, after)]
    assert chances[1] > chances[0]


@pytest.mark.parametrize("request_", [Request("p00", None, AT), Request(None, [], AT)], ids=["known", "unknown"])
def test_items_come_and_go(config: Config, request_: Request) -> None:
    before = _ranked(config, request_)
    new = pl.DataFrame({"item_id": ["tea", "bar4"], "title": ["Tea House", "Bar Four"]})
    with Recommender.load(config) as recommender:
        recommender.catalogues.edit(lambda saved: saved.add(new))
    added = _ranked(config, request_)
    assert added.keys() == before.keys() | {"tea", "bar4"}
    assert min(added["tea"], added["bar4"]) > 1e-6
    with Recommender.load(config) as recommender:
        recommender.catalogues.edit(lambda saved: saved.remove(["cinema", "bar1"]))
    assert _ranked(config, request_).keys() == added.keys() - {"cinema", "bar1"}


def test_user_who_chose_only_what_is_no_longer_there_is_answered(config: Config) -> None:
    _store(config, ("new", "bar3", _later(config, 1)))
    with Recommender.load(config) as recommender:
        recommender.catalogues.edit(lambda saved: saved.remove(["bar3"]))
    assert _ranked(config, Request("new", None, AT)).keys() == set(ITEMS) - {"bar3"}


def test_user_who_chose_everything_is_answered(config: Config) -> None:
    _store(config, *(("new", item, _later(config, hour)) for hour, item in enumerate(ITEMS, 1)))
    assert _ranked(config, Request("new", None, AT)).keys() == set(ITEMS)


def test_user_who_chose_only_what_was_added_is_answered(config: Config) -> None:
    with Recommender.load(config) as recommender:
        new = pl.DataFrame({"item_id": ["tea"], "title": ["Tea House"]})
        recommender.catalogues.edit(lambda saved: saved.add(new))
    _store(config, ("new", "tea", _later(config, 1)))
    assert _ranked(config, Request("new", None, AT)).keys() == {*ITEMS, "tea"}


def test_ablation_asks_with_the_stack_and_takes_time_from_it(
    on_top_copy: TownCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, said = on_top_copy("evaluate.baselines=[]"), []
    honest = StackRanker.on.__globals__["Stack"].on

    def on(stack: Any, histories: Histories, known: Histories | None = None) -> Any:
        said.append(histories.events["local_time"].n_unique())
        return honest(stack, histories, known)

    monkeypatch.setattr("whereupon.rankers.stack.Stack.on", on)
    compared = ablate(config, split="test", limit=4)
    assert set(compared["ablated"]) == {"time", "weather"}
    whole, without_time = [False, False], [True]  # the whole model's parts are kept, too: see `eval.parts`
    assert [n == 1 for n in said] == [*whole, *without_time, False, False, False]
    assert parts_file(evaluation_folder(config.run, "test", 4), "fine-tuned-on-top").is_file()
    assert len([*evaluation_folder(config.run, "test", 4).glob("*.parts.parquet")]) == 1
