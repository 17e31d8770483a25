"""`evaluate` from the configuration to the files: who ranks, what is kept, and what a killed run continues with."""

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
from safetensors.torch import load_file, save_file

from whereupon.config import Config, load_config
from whereupon.decode import windows as ranking
from whereupon.decode.adapters import current_adapter
from whereupon.errors import DataError, ModelError
from whereupon.eval import FAMILIES, answers, rankings, run
from whereupon.eval.ablation import ablate
from whereupon.eval.answers import evaluate_model
from whereupon.eval.protocol import read_task
from whereupon.eval.rankings import Rankings, evaluation_folder, read_rankings, slug_of, slugs_in, write_rankings
from whereupon.eval.run import evaluate
from whereupon.eval.stacking import calibrate_run, choose_priors
from whereupon.files import read_json, write_json
from whereupon.histories import Histories, prepare, read_histories
from whereupon.histories.candidates import EvaluatedSplit
from whereupon.histories.questions import evaluated_events
from whereupon.rankers import saved
from whereupon.rankers.protocol import Family, Fitted, UnfitDataError

pytestmark = pytest.mark.slow  # all together

Town = Callable[..., Config]
BASELINES = ["own counts", "own counts + transitions"]
OVERRIDES = ["prompts.budget_tokens=100", f"evaluate.baselines={json.dumps(BASELINES)}"]


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
        config = load_config(prepared, [f"run={tmp_path / 'run'}", *OVERRIDES, *overrides])
        if not config.run.exists():
            shutil.copytree(prepared.parent / "run" / "histories", config.run / "histories")
        return config

    return simulated


@dataclass
class Model:
    """What a model ranks: the first event answered in each window; it can be killed after so many windows."""

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
    monkeypatch.setattr(answers, "SAVE_EVERY_S", -1.0)
    return model


def _killed(config: Config, model: Model, after: int) -> None:
    model.windows, model.dies_after = [], after
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, split="test", use_adapter=False)
    model.windows, model.dies_after = [], math.inf


def _folder(config: Config, split: str = "test", limit: int | None = None) -> Path:
    return evaluation_folder(config.run, split, limit)


def _summary(config: Config, split: str = "test", limit: int | None = None) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((_folder(config, split, limit) / "summary.json").read_text())
    return summary


def _frame(config: Config, slug: str = "zero-shot") -> pl.DataFrame:
    return pl.read_parquet(_folder(config) / f"{slug}.parquet")


def test_evaluation_compares_the_model_with_the_baselines_on_the_same_events(
    simulated: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulated()
    results = evaluate(config, split="test", use_adapter=False)
    assert [result.name for result in results] == [*BASELINES, "zero-shot model"]
    histories = read_histories(config.run)
    assert {result.num_events for result in results} == {int((histories.split_N == 2).sum())}
    said = capsys.readouterr()
    assert said.out.splitlines()[0].strip() == "test split, 5 items in the catalogue"
    assert {"zero-shot", "model"} <= {*said.out.split()}, "a name may take two lines"
    assert said.err.rstrip().endswith(str(_folder(config)))
    assert slugs_in(_folder(config)) == ["own-counts", "own-counts-transitions", "zero-shot"]
    for result, slug in zip(results, slugs_in(_folder(config)), strict=True):
        frame = _frame(config, slug)
        chosen = histories.events[frame["row"].to_list()]
        assert frame.select("user_id", "item_id", "time").equals(chosen.select("user_id", "item_id", "time"))
        assert result.metrics["recall@1"] == pytest.approx(float((frame["rank"] == 1).mean()))
        assert ("log_prob" in frame.columns) == ("log-loss" in result.metrics)
        truth = pl.Series(histories.item_idx_N[frame["row"].to_numpy()])
        rank = frame.select(pl.col("items").list.eval(pl.element()).alias("items"), truth.alias("truth")).select(
            (pl.col("items").list.len() == 5) & pl.col("items").list.contains(pl.col("truth"))
        )
        assert rank.to_series().all(), "all five items are ranked, the true one among them"


def test_facts_say_what_was_ranked_by_which_ranker_and_how(simulated: Town) -> None:
    config = simulated()
    evaluate(config, split="test", use_adapter=False)
    histories = read_histories(config.run)
    _, model = read_rankings(_folder(config), "zero-shot")
    _, counts = read_rankings(_folder(config), "own-counts-transitions")
    for facts, name, kind in ((model, "zero-shot model", "model"), (counts, BASELINES[1], "baseline")):
        assert (facts["name"], facts["kind"], facts["split"], facts["seed"]) == (name, kind, "test", config.seed)
        assert (facts["data_hash"], facts["catalogue_hash"]) == (histories.data_hash, histories.catalogue_hash)
        assert (facts["num_items"], facts["k"], facts["protocol"]["repeats"]) == (5, 10, "allowed")
        assert facts["protocol"]["split"]["protocol"] == "global_time"
        assert facts["wall_s"] > 0
        assert "numpy" in facts["versions"]
    assert model["task"] == counts["task"]
    assert (model["exact_share"], model["adapter"], model["probabilities"]) == (1.0, {}, "of the whole catalogue")
    assert counts["settings"] in [trial["settings"] for trial in counts["tuned"]["trials"]]
    best = max(trial["metrics"]["nDCG@10"] for trial in counts["tuned"]["trials"])
    [chosen] = [trial for trial in counts["tuned"]["trials"] if trial["settings"] == counts["settings"]]
    assert chosen["metrics"]["nDCG@10"] == best
    summary = _summary(config)
    assert [(one["slug"], one["kind"]) for one in summary["results"]] == [
        ("own-counts", "baseline"), ("own-counts-transitions", "baseline"), ("zero-shot", "model"),
    ]  # fmt: skip
    assert (summary["task"], summary["num_items"], summary["split"]) == (model["task"], 5, "test")


def test_evaluation_of_a_sample_asks_every_ranker_about_it(simulated: Town) -> None:
    config = simulated('evaluate.baselines=["own counts"]')
    results = evaluate(config, split="test", use_adapter=False, limit=5)
    assert [result.num_events for result in results] == [5, 5]
    evaluate(config, split="test", use_adapter=False)
    for slug in ("own-counts", "zero-shot"):
        part, _ = read_rankings(_folder(config, limit=5), slug)
        whole, _ = read_rankings(_folder(config), slug)
        whole = whole.take(np.isin(whole.row_E, part.row_E))
        assert whole.rank_E.tolist() == part.rank_E.tolist()
        for limit in (5, None):
            facts = read_rankings(_folder(config, limit=limit), slug)[1]
            assert facts["num_split_events"] == len(evaluated_events(read_histories(config.run), "test"))
        if slug == "zero-shot":
            assert part.log_prob_E == pytest.approx(whole.log_prob_E, abs=1e-4)


def test_sample_that_takes_all_is_taken_from_the_whole_split(simulated: Town, model: "Model") -> None:
    config = simulated("evaluate.baselines=[]")
    [whole] = evaluate(config, split="test", use_adapter=False)
    model.windows = []
    for limit in (whole.num_events, 999):
        [sample] = evaluate(config, split="test", use_adapter=False, limit=limit)
        assert (sample.num_events, sample.metrics, model.windows) == (whole.num_events, whole.metrics, [])


def test_baselines_need_no_model(simulated: Town) -> None:
    config = simulated("model.base=/nowhere")
    assert [result.name for result in evaluate(config, split="valid", baselines_only=True)] == BASELINES
    assert [one["name"] for one in _summary(config, "valid")["results"]] == BASELINES


def test_stack_that_was_chosen_is_ranked_without_a_model(simulated: Town) -> None:
    config = simulated("model.base=/nowhere", "evaluate.baselines=[popularity]", "priors=[own counts, popularity]")
    assert [one.name for one in evaluate(config, split="test", baselines_only=True)] == ["popularity"]
    choose_priors(config)
    found = evaluate(config, split="test", baselines_only=True)
    assert [one.name for one in found] == ["stack of priors", "popularity"]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_baselines_on_the_events_that_they_were_tuned_on_are_reported(
    simulated: Town, split: EvaluatedSplit, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(simulated(), split=split, baselines_only=True)
    assert ("have chosen the settings of baselines" in capsys.readouterr().err) == (split == "valid")


def _unfit() -> Fitted:
    """Wants what these data have not."""
    raise UnfitDataError("It wants coordinates.")


def test_baseline_that_does_not_fit_is_left_out_and_that_is_said(
    simulated: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "FAMILIES", {**FAMILIES, "own counts": Family.counting("own counts", [{}], _unfit)})
    results = evaluate(simulated(), split="test", baselines_only=True)
    assert [result.name for result in results] == BASELINES[1:]
    assert "own counts is left out: It wants coordinates.\n" in capsys.readouterr().err


def test_ranker_that_is_complete_is_not_run_again(simulated: Town, model: "Model") -> None:
    config = simulated()
    first = evaluate(config, split="test", use_adapter=False)
    written = {path: path.stat().st_mtime_ns for path in _folder(config).glob("*.parquet")}
    model.windows = []
    assert evaluate(config, split="test", use_adapter=False) == first
    assert model.windows == []
    assert {path: path.stat().st_mtime_ns for path in _folder(config).glob("*.parquet")} == written


def test_rankings_by_an_earlier_version_of_the_rankers_are_made_again_and_that_is_said(
    simulated: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulated('evaluate.baselines=["own counts", popularity]')
    slugs = ["own-counts", "popularity"]

    def written() -> dict[str, int]:
        evaluate(config, split="test", baselines_only=True)
        return {slug: (_folder(config) / f"{slug}.parquet").stat().st_mtime_ns for slug in slugs}

    with monkeypatch.context() as earlier:
        for module in (run, rankings):
            earlier.setattr(module, "FORMAT", saved.FORMAT - 1)
        first = written()
    assert "earlier version" not in capsys.readouterr().err
    assert read_rankings(_folder(config), "popularity")[1]["rankers_format"] == saved.FORMAT - 1
    second = written()
    assert all(second[slug] > first[slug] for slug in slugs)
    assert "2 rankings in" in (said := capsys.readouterr().err)
    assert "earlier version of the rankers and are made again: own-counts, popularity" in said
    assert written() == second
    assert "earlier version" not in capsys.readouterr().err


def test_complete_baseline_shows_the_trials_of_the_grid_that_it_was_chosen_from(simulated: Town) -> None:
    config = simulated()
    name = next(name for name in BASELINES if len(FAMILIES[name].grid()) > 1)
    evaluate(config, split="test", baselines_only=True)
    path = _folder(config) / f"{slug_of(name)}.json"
    whole = read_json(path)
    shorter = {**whole["tuned"], "trials": whole["tuned"]["trials"][:1]}
    write_json(path, {**whole, "tuned": shorter})
    evaluate(config, split="test", baselines_only=True)
    assert len(whole["tuned"]["trials"]) == len(FAMILIES[name].grid())
    assert read_json(path) == whole


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1")], ids=["gone", "cut off"])
def test_ranker_whose_answers_are_lost_is_run_again(simulated: Town, damage: Callable[[Path], object]) -> None:
    config = simulated('evaluate.baselines=["own counts"]')
    first = evaluate(config, split="test", use_adapter=False)
    for slug in ("zero-shot", "own-counts"):
        damage(_folder(config) / f"{slug}.parquet")
    again = evaluate(config, split="test", use_adapter=False)
    assert [result.metrics for result in again] == [result.metrics for result in first]


def test_rankers_of_earlier_runs_stay_in_the_summary_unless_they_ranked_something_else(
    simulated: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(simulated(), split="test", baselines_only=True)
    evaluate(simulated('evaluate.baselines=["own counts"]'), split="test", baselines_only=True)
    assert [one["name"] for one in _summary(simulated())["results"]] == BASELINES
    other = simulated("evaluate.repeats=excluded", 'evaluate.baselines=["own counts"]')
    evaluate(other, split="test", baselines_only=True)
    assert [one["name"] for one in _summary(other)["results"]] == ["own counts"]
    assert "own-counts-transitions: rankings of other data or events, left out" in capsys.readouterr().err


def test_summary_holds_two_rankers_of_one_name(simulated: Town) -> None:
    """As when a run file was imported before the model whose name it took."""
    config = simulated('evaluate.baselines=["own counts"]')
    evaluate(config, split="test", baselines_only=True)
    rankings, facts = read_rankings(_folder(config), "own-counts")
    write_rankings(_folder(config), "theirs", rankings, {**facts, "kind": "run file"})
    evaluate(config, split="test", baselines_only=True)
    assert [one["slug"] for one in _summary(config)["results"]] == ["own-counts", "theirs"]


@pytest.mark.parametrize("slug", ["zero-shot", "own-counts"])
def test_run_file_is_not_replaced_by_rankings_of_its_slug(
    simulated: Town, monkeypatch: pytest.MonkeyPatch, slug: str
) -> None:
    monkeypatch.setattr("whereupon.decode.models.load_engine", lambda *_, **__: pytest.fail("loaded"))
    config = simulated()
    evaluate(config, split="test", baselines_only=True)
    rankings, facts = read_rankings(_folder(config), "own-counts")
    write_rankings(_folder(config), slug, rankings, {**facts, "name": "theirs", "kind": "run file"})
    kind = "model" if slug == "zero-shot" else "baseline"
    message = rf"free for the rankings '{slug}' of a {kind} but holds those of a run file; move {slug}\.json and"
    with pytest.raises(DataError, match=message):
        evaluate(config, split="test", use_adapter=False)
    assert read_rankings(_folder(config), slug)[1]["name"] == "theirs"


@pytest.mark.parametrize("changed", ["base model", "adapter", "number format", "pools"])
def test_other_weights_under_the_same_names_are_run_again(
    town_copy: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: str
) -> None:
    config = town_copy()
    base = Path(shutil.copytree(config.model.base, tmp_path / "base"))
    config = town_copy(f"model.base={base}", "evaluate.baselines=[]")
    uses_adapter = changed != "base model"
    for _ in range(2):
        evaluate(config, split="valid", use_adapter=uses_adapter)
    assert "answered before" in capsys.readouterr().err
    if changed == "number format":
        config = config.model_copy(update={"model": config.model.model_copy(update={"dtype": "float32"})})
        evaluate(config, split="valid", use_adapter=uses_adapter)
        assert "answered before" in capsys.readouterr().err, "auto is float32 here"
        config = config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})})
    elif changed == "pools":
        calibrate_run(config, limit=3)
    else:
        folder = base if changed == "base model" else current_adapter(config.run)
        file = folder / ("model.safetensors" if changed == "base model" else "adapter_model.safetensors")
        weights = load_file(file)
        next(iter(weights.values())).view(-1)[0] += 1
        save_file(weights, file, metadata={"format": "pt"})
    evaluate(config, split="valid", use_adapter=uses_adapter)
    assert "answered before" not in capsys.readouterr().err


def test_rankings_of_another_task_are_replaced_and_that_is_said(
    simulated: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _folder(simulated())
    output = {
        slug: f"the rankings {slug!r} in {folder} are of other data, events or candidates, and are replaced"
        for slug in ("zero-shot", "own-counts")
    }
    baseline = 'evaluate.baselines=["own counts"]'
    for overrides, is_said in (([], False), (["evaluate.k=11"], False), (["evaluate.repeats=excluded"], True)):
        evaluate(simulated(baseline, *overrides), split="test", use_adapter=False)
        lines = capsys.readouterr().err.splitlines()
        assert {slug: line in lines for slug, line in output.items()} == dict.fromkeys(output, is_said)


def test_repeats_excluded_leave_events_and_items_out_for_everybody(
    simulated: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulated("evaluate.repeats=excluded")
    evaluate(config, split="test", use_adapter=False)
    histories = read_histories(config.run)
    task = read_task(histories, "test", config.evaluate)
    assert 0 < len(task.row_E) < task.num_without
    said = capsys.readouterr().err
    assert f"{task.num_without} events are left out: their item is no candidate\n" in said
    assert "leaving candidates out changes no probability" in said
    allowed_EI = task.candidates.allowed(task.row_E)
    for slug in slugs_in(_folder(config)):
        rankings, facts = read_rankings(_folder(config), slug)
        assert rankings.row_E.tolist() == task.row_E.tolist()
        assert facts["num_split_events"] == len(task.row_E), "the whole split is no sample"
        assert (rankings.rank_E > 0).all()
        for held_I, item_K in zip(allowed_EI, rankings.item_EK, strict=True):
            assert sorted(item_K[item_K >= 0]) == np.flatnonzero(held_I).tolist()


def test_model_ranks_altered_histories_and_judged_by_the_true_ones(simulated: Town) -> None:
    config = simulated()
    histories = read_histories(config.run)
    task, folder = read_task(histories, "test", config.evaluate), _folder(config)
    dry = histories.events.with_columns(precipitation_mm=pl.lit(0.0))
    altered = Histories(**{**vars(histories), "events": dry})
    whole, _ = evaluate_model(config, histories, task, "whole", "whole", folder, adapter=None)
    without, facts = evaluate_model(
        config, altered, task, "dry", "dry", folder, adapter=None, facts={"altered": "weather"}
    )
    assert (facts["name"], facts["slug"], facts["altered"], facts["task"]) == ("dry", "dry", "weather", task.hash)
    assert whole.row_E.tolist() == without.row_E.tolist()
    assert whole.log_prob_E is not None
    assert without.log_prob_E is not None
    assert (np.abs(whole.log_prob_E - without.log_prob_E) > 1e-3).any()
    others = Histories(**{**vars(histories), "item_idx_N": histories.item_idx_N[::-1]})
    with pytest.raises(ValueError, match="row by row"):
        evaluate_model(config, others, task, "other", "other", folder, adapter=None)


def test_model_that_is_missing_is_reported(simulated: Town) -> None:
    with pytest.raises(ModelError, match="finetune` first"):
        evaluate(simulated(), split="test")


@pytest.mark.parametrize("verb", ["evaluate", "calibrate", "ablate"])
def test_adapter_that_was_trained_on_other_data_is_refused_before_weights_are_read(
    town_copy: Town, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """As after another split, protocol or seed: it may have learnt the very events that it is evaluated on."""
    monkeypatch.setattr("whereupon.decode.models.load_base_model", lambda *_: pytest.fail("read"))
    config = town_copy()
    path = current_adapter(config.run) / "whereupon.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data_hash": "of yesterday"}))
    verbs: dict[str, Callable[[], object]] = {
        "evaluate": lambda: evaluate(config, split="test"),
        "calibrate": lambda: calibrate_run(config),
        "ablate": lambda: ablate(config, split="test"),
    }
    wanted = read_histories(config.run).data_hash[:16]
    message = rf"on other data than this run holds: expected data_hash {wanted}\.\.\., found of yesterday\. Run `where"
    with pytest.raises(DataError, match=message):
        verbs[verb]()


def _rankings(config: Config, slug: str = "zero-shot") -> list[Any]:
    found: Rankings = read_rankings(_folder(config), slug)[0]
    return [None if array is None else array.tolist() for array in vars(found).values()]


def test_killed_evaluation_goes_on_where_it_was(
    simulated: Town, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulated()
    results = evaluate(config, split="test", use_adapter=False)
    windows, expected = model.windows, _rankings(config)
    assert len(windows) > 3
    (_folder(config) / "zero-shot.json").unlink()
    for after in (0, 2):
        _killed(config, model, after)
    again = evaluate(config, split="test", use_adapter=False)
    assert model.windows == windows[2:]
    assert "events were answered before" in capsys.readouterr().err
    assert _rankings(config) == expected
    assert [result.metrics for result in again] == [result.metrics for result in results]
    assert not list(config.run.rglob("partial-*"))


@pytest.mark.parametrize(
    "other",
    [
        "decode.max_expansions=7",
        "prompts.profile_tokens=0",
        "evaluate.k=11",
        "evaluate.repeats=excluded",
        "evaluate.split=test",
    ],
)
def test_partial_answers_to_another_question_are_not_gone_on_with(simulated: Town, model: Model, other: str) -> None:
    _killed(simulated(), model, after=2)
    evaluate(simulated(other), split="test", use_adapter=False)
    first = model.windows[0] == _rankings(simulated())[0][0]
    assert first == (other != "evaluate.split=test"), "only the same question goes on where it was"


def test_answers_are_kept_until_the_rankings_are_written(
    simulated: Town, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = simulated()
    with monkeypatch.context() as patch:
        patch.setattr(answers, "write_rankings", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            evaluate(config, split="test", use_adapter=False)
    asked, model.windows = model.windows, []
    evaluate(config, split="test", use_adapter=False)
    assert (len(asked) > 3, model.windows) == (True, [])


def test_search_out_of_budget_is_reported(simulated: Town, capsys: pytest.CaptureFixture[str]) -> None:
    config = simulated("decode.max_expansions=1")
    evaluate(config, split="test", use_adapter=False, limit=10)
    rankings, facts = read_rankings(_folder(config, limit=10), "zero-shot")
    assert rankings.exact_E is not None
    assert facts["exact_share"] == rankings.exact_E.mean() < 1
    assert "of the rankings are proven exact; raise decode.max_expansions for more" in capsys.readouterr().err
