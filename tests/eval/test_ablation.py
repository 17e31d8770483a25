"""What is taken away must be missed exactly where it decides: here the weather does, and districts say nothing."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from whereupon.cli import app
from whereupon.config import Config, load_config
from whereupon.decode.adapters import current_adapter
from whereupon.errors import ConfigError, DataError, ModelError
from whereupon.eval import answers
from whereupon.eval.ablation import BASELINE, ablate
from whereupon.eval.ablation_table import TESTED, Ablation, as_json, as_markdown, as_tables, compare_ablations
from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.rankings import read_rankings, slugs_in, write_rankings
from whereupon.eval.run import evaluate
from whereupon.eval.shuffling import exchange
from whereupon.histories import read_histories
from whereupon.rankers.families import FAMILIES
from whereupon.rankers.own import WITHOUT_CLOCK

pytestmark = pytest.mark.slow  # all together

TownCopy = Callable[..., Config]
LEARNT = ["finetune.epochs=5", "finetune.learning_rate=0.01", "finetune.batch_tokens=512"]
WITHOUT = ["prompts.leave_out=[weather]", *LEARNT, "finetune.epochs=3"]
MODEL = "fine-tuned model"


@dataclass(frozen=True)
class Planted:
    """The town's configuration, and the ablation table of its model: a row a test."""

    config: Path
    without: Path
    stdout: str
    stderr: str

    @property
    def folder(self) -> Path:
        return self.config.parent / "run" / "evaluation" / "test"

    def test(self, what: str, how: str, metric: str = "recall@1", whole: str = MODEL) -> dict[str, Any]:
        said = json.loads((self.folder / "ablation.json").read_text())
        [row] = [row for row in said["tests"] if (row["ablated"], row["how"], row["metric"], row["baseline"])
                 == (what, how, metric, whole)]  # fmt: skip
        return dict(row)


def _run(verb: str, config: Path, *options: str, overrides: list[str]) -> Result:
    sets = [part for override in overrides for part in ("--set", override)]
    result = CliRunner().invoke(app, [verb, str(config), *options, *sets])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def planted(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Trained with everything and without the weather, and ablated, all through the command line."""
    config = make_town(tmp_path_factory.mktemp("town"), people=16, days=20, hidden=64)
    _add_districts(config)
    without = config.parent / "without"
    _run("prepare", config, overrides=[])
    shutil.copytree(config.parent / "run" / "histories", without / "histories")
    _run("finetune", config, overrides=LEARNT)
    _run("finetune", config, overrides=[f"run={without}", *WITHOUT])
    result = _run("ablate", config, "--retrained", f"weather={without}", overrides=[])
    return Planted(config, without, result.stdout, result.stderr)


def _add_districts(config: Path) -> None:
    """Each visit gets a district that has nothing to do with anything, and the template shows it."""
    folder, random = config.parent, np.random.default_rng(3)
    head, *lines = (folder / "events.csv").read_text().splitlines()
    placed = [f"{line},{random.choice(['day', 'any'])}" for line in lines]  # words that the toy tokenizer knows
    (folder / "events.csv").write_text("\n".join([f"{head},district", *placed]) + "\n")
    shutil.copytree(Path(__file__).parents[2] / "prompts" / "templates" / "plain", folder / "template")
    line = "{{ district }}, {{ weekday }} {{ hour12 }}{% if weather %}, {{ weather }}{% endif %}:"
    (folder / "template" / "context.j2").write_text(line)
    text = config.read_text().replace("time_zone: UTC", "time_zone: UTC\n  context_columns: [district]")
    more = f"profile_tokens: 24, template: {folder / 'template'}, column_kinds: {{district: place}}"
    config.write_text(text.replace("profile_tokens: 24", more))


@pytest.mark.parametrize("how", ["removed", "shuffled", "retrained"])
def test_weather_that_decides_is_missed(planted: Planted, how: str) -> None:
    for metric, worse in (("recall@1", -1), ("nDCG@10", -1), ("log-loss", 1)):
        row = planted.test("weather", how, metric)
        assert worse * row["difference"] > 0.1, metric
        assert row["p_holm"] < 0.05
        assert worse * row["low"] > 0 < worse * row["high"]
        assert not row["is_better"]


@pytest.mark.parametrize("how", ["removed", "shuffled"])
def test_place_that_says_nothing_is_not_missed(planted: Planted, how: str) -> None:
    row, weather = planted.test("place", how), planted.test("weather", how)
    assert row["p_holm"] > 0.05
    assert abs(row["difference"]) < 0.25 * abs(weather["difference"])
    assert row["changed_share"] > 0.3, "and yet it was said"


def test_every_ablation_is_a_ranking_of_the_same_events_that_says_what_it_is(planted: Planted) -> None:
    whole, of = read_rankings(planted.folder, "fine-tuned")
    assert of["kind"] == "model"
    slugs = [slug for slug in slugs_in(planted.folder) if slug.startswith("fine-tuned-")]
    said = set()
    for slug in slugs:
        rankings, facts = read_rankings(planted.folder, slug)
        assert np.array_equal(rankings.row_E, whole.row_E)
        assert (facts["kind"], facts["of"], facts["task"]) == ("ablation", "fine-tuned", of["task"])
        assert facts["of_key"] == of["key"]
        said.add((facts["ablated"], facts["how"]))
        assert facts["name"].startswith(f"{MODEL}, {facts['ablated']} {facts['how']}")
    both = {(kind, how) for kind in ("time", "place", "weather") for how in ("removed", "shuffled")}
    assert said == both | {("weather", "retrained")}
    assert len(said) == len(slugs)
    summary = json.loads((planted.folder / "summary.json").read_text())
    assert {row["slug"] for row in summary["results"] if row["kind"] == "ablation"} >= {*slugs}


def test_table_is_printed_written_and_says_how_the_trainings_differ(planted: Planted) -> None:
    text = (planted.folder / "ablation.md").read_text()
    for metric in TESTED:
        assert f"## {metric}" in text
        assert f"{metric}, test split" in planted.stdout
    assert "- weather: without was trained with other settings too: epochs 3.0 for 5.0" in text
    assert re.search(
        r"\| fine-tuned model, weather removed \| \d+% \| 0\.\d{3} \| \u22120\.\d{3} \| .* \| (0\.00\d|< 0\.001) \|",
        text,
    )
    num = len(json.loads((planted.folder / "ablation.json").read_text())["tests"])
    assert f"Holm over all {num} tests shown" in text
    assert num == 3 * 7 + 2  # six at test time and one retrained by three metrics; the baseline has no log-loss
    assert "8 passes over" in planted.stderr


def test_baseline_without_time_is_a_row_of_its_own(planted: Planted) -> None:
    row = planted.test("time", "removed", "nDCG@10", BASELINE)
    _, facts = read_rankings(planted.folder, "context-weighted-own-events-time-removed")
    _, of = read_rankings(planted.folder, "context-weighted-own-events")
    assert (facts["kind"], facts["of"], facts["of_key"]) == ("ablation", "context-weighted-own-events", of["key"])
    assert row["ranker"] == f"{BASELINE}, time removed"


def test_model_trained_without_weather_never_sees_it(planted: Planted) -> None:
    without = [f"run={planted.without}", *WITHOUT]
    options = ["--user", "p03", "--at", "2024-01-21T14:00"]
    sets = [part for override in without for part in ("--set", override)]
    shown = CliRunner().invoke(app, ["prompt", "show", str(planted.config), *options, *sets])
    assert shown.exit_code == 0, shown.output
    assert "mild" not in shown.stdout
    assert re.search(r"^(day|any), Sunday 2:$", shown.stdout.splitlines()[-1])
    refused = CliRunner().invoke(app, ["recommend", str(planted.config), *options, "--weather", "rain", *sets])
    assert refused.exit_code == 1
    assert "prompts.leave_out names weather" in refused.stderr


def test_adapter_is_refused_where_other_kinds_are_left_out(planted: Planted) -> None:
    for overrides in (["prompts.leave_out=[weather]"], [f"run={planted.without}"]):
        sets = [part for override in overrides for part in ("--set", override)]
        result = CliRunner().invoke(app, ["evaluate", str(planted.config), "--limit", "2", *sets])
        assert result.exit_code == 1
        assert re.search(r"was trained for another set of prompt settings \(.*leave_out: .*weather", result.stderr)


def test_what_was_answered_is_not_run_again(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_ask_all", lambda *_: pytest.fail("asked again"))
    before = (planted.folder / "ablation.md").read_text()
    _run("ablate", planted.config, "--retrained", f"weather={planted.without}", overrides=[])
    assert (planted.folder / "ablation.md").read_text() == before


@pytest.mark.slow
def test_finished_ablation_without_the_key_of_its_whole_gets_it_and_is_not_run_again(
    town_copy: TownCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = town_copy("evaluate.baselines=[]")
    ablate(config, split="test", limit=2)
    folder, slug = config.run / "evaluation" / "test-2", "fine-tuned-weather-removed"
    rankings, facts = read_rankings(folder, slug)
    write_rankings(folder, slug, rankings, {name: value for name, value in facts.items() if name != "of_key"})
    monkeypatch.setattr(answers, "_ask_all", lambda *_: pytest.fail("asked again"))
    ablate(config, split="test", limit=2)
    assert read_rankings(folder, slug)[1] == facts


@pytest.mark.slow
def test_killed_ablation_goes_on_where_it_was(town_copy: TownCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    config, original, asked = town_copy("evaluate.baselines=[]"), answers._ask_all, [0]

    def ask_all(*arguments: Any) -> pl.DataFrame:
        if asked[0] == 2:
            raise KeyboardInterrupt
        asked[0] += 1
        return original(*arguments)

    monkeypatch.setattr(answers, "_ask_all", ask_all)
    with pytest.raises(KeyboardInterrupt):
        ablate(config, split="test", limit=6)
    assert slugs_in(config.run / "evaluation" / "test-6") == ["fine-tuned", "fine-tuned-time-removed"]
    asked[0] = -100
    compared = ablate(config, split="test", limit=6)
    assert asked[0] == -97, "time shuffled, weather removed and shuffled were still to be asked"
    assert set(compared["num_events"]) == {6}


def test_evaluation_that_is_finished_is_the_whole_of_the_ablation(
    town_copy: TownCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, original, asked = town_copy("evaluate.baselines=[]"), answers._ask_all, [0]

    def ask_all(*arguments: Any) -> pl.DataFrame:
        asked[0] += 1
        return original(*arguments)

    monkeypatch.setattr(answers, "_ask_all", ask_all)
    evaluate(config, split="test", limit=5)
    assert asked == [1]
    ablate(config, split="test", limit=5)
    assert asked == [1 + 4], "time and weather, removed and shuffled"


def test_sample_is_taken_from_what_was_answered_of_the_whole_split(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_ask_all", lambda *_: pytest.fail("asked again"))
    _run("ablate", planted.config, "--limit", "20", "--retrained", f"weather={planted.without}", overrides=[])
    folder = planted.folder.with_name("test-20")
    for slug in ("fine-tuned", "fine-tuned-time-shuffled", "fine-tuned-weather-retrained-without"):
        (part, facts), (whole, of_whole) = read_rankings(folder, slug), read_rankings(planted.folder, slug)
        at = np.searchsorted(whole.row_E, part.row_E)
        assert len(part.row_E) == facts["num_events"] == 20
        assert np.array_equal(part.rank_E, whole.rank_E[at])
        assert part.log_prob_E is not None
        assert whole.log_prob_E is not None
        assert np.array_equal(part.log_prob_E, whole.log_prob_E[at])
        assert facts["wall_s"] == pytest.approx(of_whole["wall_s"] * 20 / len(whole.row_E))
        assert facts["task"] != of_whole["task"]


def test_kind_that_no_prompt_shows_is_not_evaluated(town_copy: TownCopy, capsys: pytest.CaptureFixture[str]) -> None:
    config = town_copy("evaluate.baselines=[]")
    compared = ablate(config, split="test", limit=4)
    assert set(compared["ablated"]) == {"time", "weather"}
    assert (
        "place: these prompts do not show it, so there is nothing to take away; titles stay" in capsys.readouterr().err
    )


@pytest.mark.parametrize("given", ["weather", "wether=runs/x", "=runs/x", "weather="])
def test_retrained_run_without_kind_or_folder_is_one_sentence(town_copy: TownCopy, given: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^--retrained {given}: expected KIND=RUN, .* among time, place, weather\.$"
    ):
        ablate(town_copy(), split="test", retrained=[given])


def test_run_trained_with_everything_is_refused_as_retrained(town_copy: TownCopy) -> None:
    config = town_copy()
    with pytest.raises(ModelError, match=r"was trained with prompts\.leave_out: \[\], not \[weather\]"):
        ablate(config, split="test", retrained=[f"weather={config.run}"])


def _retrained(config: Config, folder: Path, **changes: Any) -> Path:
    """A run that seems to be trained without weather, with a card of some other changes."""
    shutil.copytree(config.run, folder)
    path = current_adapter(folder) / "whereupon.json"
    card = json.loads(path.read_text())
    card["prompts"] |= {"leave_out": ["weather"], "column_kinds": {}}
    path.write_text(json.dumps({**card, **changes}))
    return folder


def test_run_trained_on_other_data_is_refused_as_retrained(town_copy: TownCopy, tmp_path: Path) -> None:
    config = town_copy()
    with pytest.raises(DataError, match="was trained on other data than"):
        ablate(config, split="test", retrained=[f"weather={_retrained(config, tmp_path / 'o', data_hash='other')}"])


def test_run_trained_for_another_template_is_refused_before_anything_is_ranked(
    town_copy: TownCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_ask_all", lambda *_: pytest.fail("asked"))
    config = town_copy()
    other = _retrained(config, tmp_path / "other", template_hash="other")
    with pytest.raises(ModelError, match="was trained for another prompt template"):
        ablate(config, split="test", retrained=[f"weather={other}"])


def test_two_retrained_runs_of_one_name_are_refused(town_copy: TownCopy, tmp_path: Path) -> None:
    config = town_copy()
    runs = [f"weather={_retrained(config, tmp_path / part / 'without')}" for part in "ab"]
    with pytest.raises(ConfigError, match="two runs for weather would have files called weather-without; rename one"):
        ablate(config, split="test", retrained=runs)


def test_two_retrained_runs_whose_files_would_have_one_name_are_refused(town_copy: TownCopy, tmp_path: Path) -> None:
    config = town_copy()
    runs = [f"weather={_retrained(config, tmp_path / name)}" for name in ("without", "other", "Without!")]
    with pytest.raises(ConfigError, match="two runs for weather would have files called weather-without; rename one"):
        ablate(config, split="test", retrained=runs)


def test_column_of_no_kind_is_shown_to_stay(planted: Planted) -> None:
    """That districts are places, only `prompts.column_kinds` knows."""
    result = _run("ablate", planted.config, "--limit", "3", overrides=["prompts.column_kinds={}"])
    assert "district: context of no kind, never taken away; prompts.column_kinds can say" in result.stderr
    assert "place: these prompts do not show it" in result.stderr


def test_baseline_without_time_knows_neither_hour_nor_weekend(planted: Planted) -> None:
    """Whatever local times are exchanged, it says the same; with time, it does not."""
    config = load_config(planted.config)
    histories = read_histories(config.run)
    exchanged = exchange(histories, "test", "time", {}, 1)
    family = FAMILIES[BASELINE]
    for settings, is_same in ((dict(family.grid()[0]), False), ({**family.grid()[0], **WITHOUT_CLOCK}, True)):
        ranks = [
            rank(family.ranker(said, "test", settings, 0), read_task(said, "test", config.evaluate), 10).rank_E
            for said in (histories, exchanged)
        ]
        assert np.array_equal(*ranks) == is_same


def _ablation(name: str, what: str, how: str, value_E: list[float]) -> Ablation:
    return Ablation(name, what, how, 0.5 if what else None, {"recall@1": np.array(value_E)})


WHOLE = _ablation("whole", "", "", [1.0, 1.0, 1.0, 1.0])
USERS = np.array([0, 1, 2, 3])


def test_differences_by_hand_are_the_ablations_less_the_wholes() -> None:
    worse, same = (
        _ablation("worse", "time", "removed", [0.0, 1.0, 0.0, 0.0]),
        _ablation("same", "place", "removed", [1.0] * 4),
    )
    compared = compare_ablations([(WHOLE, [worse, same])], USERS, seed=0)
    rows = {row["ranker"]: row for row in as_json(compared)["tests"]}
    assert [rows[name]["difference"] for name in ("worse", "same")] == [-0.75, 0.0]
    # Three users differ, and all fall together or rise together in a quarter of all coin tosses.
    assert rows["worse"]["p"] == pytest.approx(0.25, abs=0.02)
    assert (rows["same"]["p"], rows["same"]["p_holm"]) == (1.0, 1.0)
    assert rows["worse"]["p_holm"] == pytest.approx(2 * rows["worse"]["p"])
    assert (rows["worse"]["ablated"], rows["worse"]["how"], rows["worse"]["changed_share"]) == ("time", "removed", 0.5)


def test_p_values_are_corrected_over_all_groups_together() -> None:
    worse = _ablation("worse", "time", "removed", [0.0, 1.0, 0.0, 0.0])
    alone = compare_ablations([(WHOLE, [worse])], USERS, seed=0)
    other = _ablation("other", "", "", [1.0] * 4), [_ablation("other's", "time", "removed", [0.0] * 4)]
    both = compare_ablations([(WHOLE, [worse]), other], USERS, seed=0)
    assert (as_json(alone)["num_tests"], as_json(both)["num_tests"]) == (1, 2)
    assert both["p_holm"][1] == pytest.approx(2 * both["p"][1])


def test_nothing_ablated_is_an_empty_table() -> None:
    compared = compare_ablations([(WHOLE, [])], USERS, seed=0)
    assert as_json(compared) == {"num_tests": 0, "tests": []}
    assert list(as_tables(compared, "test split")) == []
    assert as_markdown(compared, "test split", ["place: not said"]).rstrip().endswith("- place: not said")


def test_figure_that_there_is_not_is_a_dash() -> None:
    """Infinitely wrong, and so without interval or test."""
    whole = Ablation("whole", "", "", None, {"log-loss": np.array([1.0, 2.0])})
    less = Ablation("a|b", "time", "removed", None, {"log-loss": np.array([np.inf, 2.0])})
    compared = compare_ablations([(whole, [less])], np.array([0, 1]), seed=0)
    assert "| a\\|b | – | ∞ | +∞ | – | – |" in as_markdown(compared, "test split")  # noqa: RUF001
    [row] = as_json(compared)["tests"]
    assert [row[name] for name in ("mean", "difference", "p", "p_holm", "low")] == [None] * 5
