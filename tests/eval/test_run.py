"""`evaluate` from the configuration to the files: who ranks what, and what is written."""

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from whereupon.config import Config
from whereupon.decode.adapters import current_adapter
from whereupon.errors import DataError, ModelError
from whereupon.eval import FAMILIES, run
from whereupon.eval.ablation import ablate
from whereupon.eval.answers import evaluate_model
from whereupon.eval.protocol import read_task
from whereupon.eval.rankings import read_rankings, slugs_in
from whereupon.eval.run import evaluate
from whereupon.eval.stacking import calibrate_run, choose_priors
from whereupon.histories import Histories, read_histories
from whereupon.histories.candidates import EvaluatedSplit
from whereupon.histories.questions import evaluated_events
from whereupon.rankers.protocol import Family, Fitted, UnfitDataError
from whereupon.tests.eval.simulated_run import BASELINES, Town, folder_of, summary_of

pytestmark = pytest.mark.slow  # all together


def _frame(config: Config, slug: str = "zero-shot") -> pl.DataFrame:
    return pl.read_parquet(folder_of(config) / f"{slug}.parquet")


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
    assert said.err.rstrip().endswith(str(folder_of(config)))
    assert slugs_in(folder_of(config)) == ["own-counts", "own-counts-transitions", "zero-shot"]
    for result, slug in zip(results, slugs_in(folder_of(config)), strict=True):
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
    _, model = read_rankings(folder_of(config), "zero-shot")
    _, counts = read_rankings(folder_of(config), "own-counts-transitions")
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
    summary = summary_of(config)
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
        part, _ = read_rankings(folder_of(config, limit=5), slug)
        whole, _ = read_rankings(folder_of(config), slug)
        whole = whole.take(np.isin(whole.row_E, part.row_E))
        assert whole.rank_E.tolist() == part.rank_E.tolist()
        for limit in (5, None):
            facts = read_rankings(folder_of(config, limit=limit), slug)[1]
            assert facts["num_split_events"] == len(evaluated_events(read_histories(config.run), "test"))
        if slug == "zero-shot":
            assert part.log_prob_E == pytest.approx(whole.log_prob_E, abs=1e-4)


def test_baselines_need_no_model(simulated: Town) -> None:
    config = simulated("model.base=/nowhere")
    assert [result.name for result in evaluate(config, split="valid", baselines_only=True)] == BASELINES
    assert [one["name"] for one in summary_of(config, "valid")["results"]] == BASELINES


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
    for slug in slugs_in(folder_of(config)):
        rankings, facts = read_rankings(folder_of(config), slug)
        assert rankings.row_E.tolist() == task.row_E.tolist()
        assert facts["num_split_events"] == len(task.row_E), "the whole split is no sample"
        assert (rankings.rank_E > 0).all()
        for held_I, item_K in zip(allowed_EI, rankings.item_EK, strict=True):
            assert sorted(item_K[item_K >= 0]) == np.flatnonzero(held_I).tolist()


def test_model_ranks_altered_histories_and_judged_by_the_true_ones(simulated: Town) -> None:
    config = simulated()
    histories = read_histories(config.run)
    task, folder = read_task(histories, "test", config.evaluate), folder_of(config)
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


def test_search_out_of_budget_is_reported(simulated: Town, capsys: pytest.CaptureFixture[str]) -> None:
    config = simulated("decode.max_expansions=1")
    evaluate(config, split="test", use_adapter=False, limit=10)
    rankings, facts = read_rankings(folder_of(config, limit=10), "zero-shot")
    assert rankings.exact_E is not None
    assert facts["exact_share"] == rankings.exact_E.mean() < 1
    assert "of the rankings are proven exact; raise decode.max_expansions for more" in capsys.readouterr().err
