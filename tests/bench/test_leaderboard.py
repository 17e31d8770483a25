"""The leaderboard of a simulated town: everybody in it, tested as `significance` tests, and nothing of this machine."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import leaderboard
import pytest
from leaderboard_text import command_of, context, own_settings, table

from whereupon.eval.metrics import evaluate_rankings
from whereupon.eval.rankings import read_rankings, slug_of, slugs_in, write_rankings
from whereupon.eval.report.runs import read_datasets
from whereupon.eval.significance import compare
from whereupon.eval.wording import NONE
from whereupon.files import read_json, write_json
from whereupon.histories import read_histories
from whereupon.tests.eval.report_town import MODEL, STRONGEST, write_town

DEMO = "flights-demo"
CONFIG = "examples/nyc-checkins.yaml"
RANKERS = {MODEL, STRONGEST, "own counts", "popularity", "random"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("leaderboard") / "town")


def _main(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("record.RESULTS", folder / "bench")
    monkeypatch.setattr("sys.argv", ["leaderboard.py", *arguments, "--out", str(folder / "RESULTS.md")])
    return leaderboard.main()


def _told(folder: Path) -> tuple[str, dict[str, Any]]:
    return (folder / "RESULTS.md").read_text(encoding="utf-8"), read_json(folder / "RESULTS.json")


def test_every_ranker_has_intervals_a_test_and_a_command(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _main(tmp_path, monkeypatch, f"nyc-checkins={town}")
    text, said = _told(tmp_path)
    [data] = said["datasets"]
    assert {row["name"] for row in data["rankers"]} == RANKERS
    assert data["best_baseline"] == STRONGEST
    for row in data["rankers"]:
        for one in row["metrics"].values():
            assert one["low"] <= one["mean"] <= one["high"]
        assert (row["difference"] is None) == (row["name"] == STRONGEST)
        assert f"| {row['name']} | {row['metrics']['nDCG@10']['mean']:.3f} (" in text
        assert f"`{row['command']}`" in text
    missed = [bar["name"] for bar in said["bars"] if not bar["ok"]]
    asked = ("the model without fine-tuning", "baselines not ranked")
    assert (code, missed) == (1, [f"nyc-checkins, {what}" for what in asked])
    assert "Not ranked: recent popularity, " in text
    assert "Rank it by `whereupon evaluate examples/nyc-checkins.yaml --no-adapter`." in text
    for part in (
        "## nyc-checkins",
        "### How each line",
        "### Beyond accuracy",
        "| coverage@10 |",
        "| Time of day | night |",
    ):
        assert part in text
    assert "Left out: 2 parts of fewer than 20 events." in text
    shown = capsys.readouterr().out
    apart = "| nDCG@10 | nDCG@10 first visits | nDCG@10 repeats | recall@10 |"
    assert apart in shown
    assert apart in text
    assert f"| nyc-checkins | **{MODEL}** |" in shown
    assert "| random |" not in shown, "the short table has the best baselines alone"


def test_differences_are_those_of_the_significance_test(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _main(tmp_path, monkeypatch, f"nyc-checkins={town}", "--seed", "3")
    found = {row["name"]: row["difference"] for row in _told(tmp_path)[1]["datasets"][0]["rankers"]}
    folder, histories = town / "evaluation" / "test", read_histories(town)
    read = [read_rankings(folder, slug) for slug in slugs_in(folder)]
    values = {facts["name"]: evaluate_rankings(one, ["nDCG@10"]) for one, facts in read if facts["kind"] != "ablation"}
    user_E = histories.user_idx_N[read[0][0].row_E]
    for row in compare(values, user_E, baseline=STRONGEST, seed=3).iter_rows(named=True):
        expected = {"mean": row["difference"], **{name: row[name] for name in ("low", "high", "p", "p_holm")}}
        assert found[row["ranker"]] == pytest.approx(expected)


def test_example_without_rankings_is_reported_with_the_command_that_makes_them(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(tmp_path, monkeypatch, f"nyc-checkins={town}", f"flights-demo={tmp_path / 'nothing'}") == 1
    text, said = _told(tmp_path)
    assert "## flights-demo\n\nNot ranked. `whereupon evaluate examples/flights-demo.yaml` does it." in text
    assert str(tmp_path) not in text
    assert [bar["name"] for bar in said["bars"] if not bar["ok"]][-1] == "flights-demo, rankers"
    assert "flights-demo is left out" in capsys.readouterr().err


def test_base_model_is_one_of_those_requested(town: Path, tmp_path: Path) -> None:
    run = tmp_path / "town"
    shutil.copytree(town, run)
    ranked, facts = read_rankings(run / "evaluation" / "test", "random")
    write_rankings(
        run / "evaluation" / "test", "zero-shot", ranked, {**facts, "name": "zero-shot toy", "kind": "model"}
    )
    [found] = leaderboard.work_out(leaderboard.Example("nyc-checkins", (run,)), 7)
    said = {one["name"].removeprefix("nyc-checkins, "): one["value"] for one in leaderboard.bars_of(found)}
    assert (said["fine-tuned models"], said["the model without fine-tuning"]) == (1, 1)
    assert "without fine-tuning. Rank it" not in leaderboard.section(found)


@pytest.mark.parametrize(("repeats", "missed"), [("excluded", 0), ("allowed", 2)])
def test_own_counts_are_requested_where_items_repeat(repeats: str, missed: int, town: Path, tmp_path: Path) -> None:
    run = tmp_path / "town"
    shutil.copytree(town, run)
    folder = run / "evaluation" / "test"
    (folder / "own-counts.json").unlink()
    for slug in slugs_in(folder):
        write_json(folder / f"{slug}.json", {**read_json(folder / f"{slug}.json"), "protocol": {"repeats": repeats}})
    [found] = leaderboard.work_out(leaderboard.Example("nyc-checkins", (run,)), 7)
    assert len({"own counts", "own counts by hour of week"} & set(found.missing)) == missed
    assert "own counts + transitions" in found.missing


def test_model_is_no_baseline_where_there_is_none(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "town"
    shutil.copytree(town, run)
    folder = run / "evaluation" / "test"
    for slug in set(slugs_in(folder)) - {slug_of(MODEL), "random"}:
        (folder / f"{slug}.json").unlink()
    write_json(folder / "random.json", {**read_json(folder / "random.json"), "kind": "run file"})
    _main(tmp_path, monkeypatch, f"nyc-checkins={run}")
    text, said = _told(tmp_path)
    assert said["datasets"][0]["best_baseline"] is None
    assert f"| the best ranker | {NONE} |" in text
    assert "| the best baseline |" not in text
    shown = capsys.readouterr().out
    assert " from the best ranker; p " in shown


def test_nothing_is_written_where_nothing_is_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _main(tmp_path, monkeypatch, f"flights-demo={tmp_path / 'nothing'}") == 1
    assert not list(tmp_path.iterdir())


def test_example_that_there_is_not_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"found no chess\.yaml"):
        _main(tmp_path, monkeypatch, "chess")


def test_ablations_are_reported_where_they_are_of_this_data(town: Path, tmp_path: Path) -> None:
    run = tmp_path / "town"
    shutil.copytree(town, run)
    [dataset] = read_datasets([run])
    assert context(dataset, CONFIG) == ""
    folder = run / "evaluation" / "test"
    (folder / "ablation.md").write_text("# What it is worth\n\n## nDCG@10\n")
    write_json(folder / "ablation.json", {"data_hash": dataset.histories.data_hash})
    assert context(dataset, CONFIG).startswith("### What it is worth\n\n#### nDCG@10\n")
    write_json(folder / "ablation.json", {"data_hash": "other"})
    assert context(dataset, CONFIG) == ""
    folder.with_name("test-40").mkdir()
    for path in folder.glob("ablation.*"):
        path.rename(folder.with_name("test-40") / path.name)
    assert context(dataset, CONFIG) == ""
    write_json(folder.with_name("test-40") / "ablation.json", {"data_hash": dataset.histories.data_hash})
    assert context(dataset, CONFIG).endswith(f"Made by `whereupon ablate {CONFIG} --limit 40`.\n")


@pytest.mark.parametrize(
    ("typed", "portable"),
    [
        (
            "whereupon evaluate /home/me/mine.yaml --set run=/tmp/run --limit 5",
            f"whereupon evaluate {CONFIG} --limit 5",
        ),
        (
            "whereupon evaluate other.yml --set decode.calibration='own counts'",
            f"whereupon evaluate {CONFIG} --set 'decode.calibration=own counts'",
        ),
        (
            "python bench/exact_nyc.py --fused rrf --set=run=/tmp/run --set=seed=8",
            "python bench/exact_nyc.py --fused rrf --set seed=8",
        ),
        ("python bench/exact_nyc.py --set run=runs/other", "python bench/exact_nyc.py"),
        ("python bench/exact_nyc.py", "python bench/exact_nyc.py"),
        ("whereupon import-run a.yaml /x/bm25.run", f"whereupon import-run {CONFIG} bm25.run"),
        ("", ""),
    ],
)
def test_command_is_freed_of_the_places_of_this_machine(typed: str, portable: str) -> None:
    assert command_of(SimpleNamespace(facts={"command": typed}, is_baseline=False), CONFIG) == portable  # type: ignore[arg-type]


def test_command_of_a_baseline_names_it_and_its_seed() -> None:
    facts = {"command": "whereupon evaluate mine.yaml", "name": "own counts", "seed": 3}
    command = command_of(SimpleNamespace(facts=facts, is_baseline=True), CONFIG)  # type: ignore[arg-type]
    assert command == f"whereupon evaluate {CONFIG} --baselines-only --baseline 'own counts' --set seed=3"


def test_command_of_a_baseline_keeps_the_overrides_that_were_typed() -> None:
    typed = (
        "whereupon evaluate mine.yaml --set run=runs/mine --set evaluate.k=20 --set seed=3 --set histories.in=/tmp/x "
        "--set=evaluate.repeats=excluded --set 'evaluate.baselines=[\"EASE\"]'"
    )
    facts = {"command": typed, "name": "EASE", "seed": 3}
    command = command_of(SimpleNamespace(facts=facts, is_baseline=True), CONFIG)  # type: ignore[arg-type]
    made = f"whereupon evaluate {CONFIG} --baselines-only --baseline EASE"
    assert command == f"{made} --set evaluate.k=20 --set evaluate.repeats=excluded --set seed=3"


def test_examples_that_are_not_named_stay_as_they_are(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, folder = tmp_path / "RESULTS.md", tmp_path / "bench"
    for place in ("record.RESULTS", "leaderboard.RESULTS"):
        monkeypatch.setattr(place, folder)
    monkeypatch.setattr(leaderboard, "OUT", out)
    out.write_text("# Results\n\n## nyc-checkins\n\nold\n\n## flights-demo\n\n### Part\n\nkept\n", encoding="utf-8")
    bars = [{"name": f"{name}, rankers", "value": 1, "bound": ">= 1", "ok": True} for name in ("nyc-checkins", DEMO)]
    kept = {"example": DEMO, "rankers": ["of before"]}
    write_json(folder / "leaderboard.json", {"bars": bars, "datasets": [{"example": "nyc-checkins"}, kept]})
    monkeypatch.setattr("sys.argv", ["leaderboard.py", f"nyc-checkins={town}"])
    leaderboard.main()
    text, said = out.read_text(encoding="utf-8"), read_json(folder / "leaderboard.json")
    assert text.endswith("\n## flights-demo\n\n### Part\n\nkept\n")
    assert text.count("## nyc-checkins") == 1
    assert "\nold\n" not in text
    assert [one["example"] for one in said["datasets"]] == ["nyc-checkins", DEMO]
    assert said["datasets"][1] == kept
    assert said["bars"][-1] == bars[1]
    assert bars[0] not in said["bars"]
    _main(tmp_path / "others", monkeypatch, f"nyc-checkins={town}")
    assert DEMO not in _told(tmp_path / "others")[0], "a file of its own holds what was asked for"


def test_settings_of_a_model_are_not_repeated() -> None:
    of = [own_settings(SimpleNamespace(facts={"settings": one})) for one in ({"model": {}}, {"a": 1}, None)]  # type: ignore[arg-type]
    assert of == [{}, {"a": 1}, {}]


def test_bar_in_a_name_does_not_end_a_cell() -> None:
    assert table(["ranker", "x"], [["a|b", "1"]]) == "| ranker | x |\n| --- | ---: |\n| a\\|b | 1 |\n"
