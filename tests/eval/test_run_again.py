"""`evaluate` run again: what is kept, what is made anew, and what a killed run continues with."""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from whereupon.config import Config
from whereupon.decode import windows as ranking
from whereupon.decode.adapters import current_adapter
from whereupon.errors import DataError
from whereupon.eval import FAMILIES, answers, rankings, run
from whereupon.eval.rankings import Rankings, read_rankings, slug_of, write_rankings
from whereupon.eval.run import evaluate
from whereupon.eval.stacking import calibrate_run
from whereupon.files import read_json, write_json
from whereupon.rankers import saved
from whereupon.tests.eval.simulated_run import BASELINES, Town, folder_of, summary_of

pytestmark = pytest.mark.slow  # all together


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


def test_sample_that_takes_all_is_taken_from_the_whole_split(simulated: Town, model: Model) -> None:
    config = simulated("evaluate.baselines=[]")
    [whole] = evaluate(config, split="test", use_adapter=False)
    model.windows = []
    for limit in (whole.num_events, 999):
        [sample] = evaluate(config, split="test", use_adapter=False, limit=limit)
        assert (sample.num_events, sample.metrics, model.windows) == (whole.num_events, whole.metrics, [])


def test_ranker_that_is_complete_is_not_run_again(simulated: Town, model: Model) -> None:
    config = simulated()
    first = evaluate(config, split="test", use_adapter=False)
    written = {path: path.stat().st_mtime_ns for path in folder_of(config).glob("*.parquet")}
    model.windows = []
    assert evaluate(config, split="test", use_adapter=False) == first
    assert model.windows == []
    assert {path: path.stat().st_mtime_ns for path in folder_of(config).glob("*.parquet")} == written


def test_rankings_by_an_earlier_version_of_the_rankers_are_made_again_and_that_is_said(
    simulated: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulated('evaluate.baselines=["own counts", popularity]')
    slugs = ["own-counts", "popularity"]

    def written() -> dict[str, int]:
        evaluate(config, split="test", baselines_only=True)
        return {slug: (folder_of(config) / f"{slug}.parquet").stat().st_mtime_ns for slug in slugs}

    with monkeypatch.context() as earlier:
        for module in (run, rankings):
            earlier.setattr(module, "FORMAT", saved.FORMAT - 1)
        first = written()
    assert "earlier version" not in capsys.readouterr().err
    assert read_rankings(folder_of(config), "popularity")[1]["rankers_format"] == saved.FORMAT - 1
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
    path = folder_of(config) / f"{slug_of(name)}.json"
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
        damage(folder_of(config) / f"{slug}.parquet")
    again = evaluate(config, split="test", use_adapter=False)
    assert [result.metrics for result in again] == [result.metrics for result in first]


def test_rankers_of_earlier_runs_stay_in_the_summary_unless_they_ranked_something_else(
    simulated: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(simulated(), split="test", baselines_only=True)
    evaluate(simulated('evaluate.baselines=["own counts"]'), split="test", baselines_only=True)
    assert [one["name"] for one in summary_of(simulated())["results"]] == BASELINES
    other = simulated("evaluate.repeats=excluded", 'evaluate.baselines=["own counts"]')
    evaluate(other, split="test", baselines_only=True)
    assert [one["name"] for one in summary_of(other)["results"]] == ["own counts"]
    assert "own-counts-transitions: rankings of other data or events, left out" in capsys.readouterr().err


def test_summary_holds_two_rankers_of_one_name(simulated: Town) -> None:
    """As when a run file was imported before the model whose name it took."""
    config = simulated('evaluate.baselines=["own counts"]')
    evaluate(config, split="test", baselines_only=True)
    rankings, facts = read_rankings(folder_of(config), "own-counts")
    write_rankings(folder_of(config), "theirs", rankings, {**facts, "kind": "run file"})
    evaluate(config, split="test", baselines_only=True)
    assert [one["slug"] for one in summary_of(config)["results"]] == ["own-counts", "theirs"]


@pytest.mark.parametrize("slug", ["zero-shot", "own-counts"])
def test_run_file_is_not_replaced_by_rankings_of_its_slug(
    simulated: Town, monkeypatch: pytest.MonkeyPatch, slug: str
) -> None:
    monkeypatch.setattr("whereupon.decode.models.load_engine", lambda *_, **__: pytest.fail("loaded"))
    config = simulated()
    evaluate(config, split="test", baselines_only=True)
    rankings, facts = read_rankings(folder_of(config), "own-counts")
    write_rankings(folder_of(config), slug, rankings, {**facts, "name": "theirs", "kind": "run file"})
    kind = "model" if slug == "zero-shot" else "baseline"
    message = rf"free for the rankings '{slug}' of a {kind} but holds those of a run file; move {slug}\.json and"
    with pytest.raises(DataError, match=message):
        evaluate(config, split="test", use_adapter=False)
    assert read_rankings(folder_of(config), slug)[1]["name"] == "theirs"


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
    folder = folder_of(simulated())
    output = {
        slug: f"the rankings {slug!r} in {folder} are of other data, events or candidates, and are replaced"
        for slug in ("zero-shot", "own-counts")
    }
    baseline = 'evaluate.baselines=["own counts"]'
    for overrides, is_said in (([], False), (["evaluate.k=11"], False), (["evaluate.repeats=excluded"], True)):
        evaluate(simulated(baseline, *overrides), split="test", use_adapter=False)
        lines = capsys.readouterr().err.splitlines()
        assert {slug: line in lines for slug, line in output.items()} == dict.fromkeys(output, is_said)


def _rankings(config: Config, slug: str = "zero-shot") -> list[Any]:
    found: Rankings = read_rankings(folder_of(config), slug)[0]
    return [None if array is None else array.tolist() for array in vars(found).values()]


def test_killed_evaluation_goes_on_where_it_was(
    simulated: Town, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulated()
    results = evaluate(config, split="test", use_adapter=False)
    windows, expected = model.windows, _rankings(config)
    assert len(windows) > 3
    (folder_of(config) / "zero-shot.json").unlink()
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
