"""`whereupon export` and `whereupon import-run`, there and back."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.errors import DataError
from whereupon.eval.ablation import ablate
from whereupon.eval.exchange import export, import_run
from whereupon.eval.protocol import read_task
from whereupon.eval.rankings import evaluation_folder, read_rankings, write_rankings
from whereupon.eval.run import evaluate
from whereupon.eval.stacking import calibrate_run
from whereupon.histories import CAVEATS, read_histories

Town = Callable[..., Config]
RANKERS = ["popularity", "own counts"]


@pytest.fixture
def town(town_copy: Town) -> Config:
    """Two baselines have ranked the test split."""
    config = town_copy(f"evaluate.baselines={json.dumps(RANKERS)}")
    evaluate(config, split="test", baselines_only=True)
    return config


def test_exported_rankings_imported_again_are_the_same_and_score_the_same(
    town: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = export(town, tmp_path / "out", format="trec", split="test")
    assert [file.name for file in files] == ["qrels.txt", "queries.tsv", "own-counts.run", "popularity.run"]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    [result] = import_run(town, tmp_path / "out" / "own-counts.run", name="theirs", split="test")
    folder = evaluation_folder(town.run, "test")
    ours, _ = read_rankings(folder, "own-counts")
    theirs, facts = read_rankings(folder, "theirs")
    assert theirs.item_EK.tolist() == ours.item_EK.tolist()
    assert theirs.rank_E.tolist() == ours.rank_E.tolist()  # the town has five items: all are in the lists
    assert (facts["kind"], facts["settings"]["tag"], facts["wall_s"]) == ("run file", "own-counts", None)
    summary = json.loads((folder / "summary.json").read_text())["results"]
    by_name = {one["name"]: one["metrics"] for one in summary}
    assert by_name["theirs"] == by_name["own counts"]
    assert result.metrics == pytest.approx(by_name["theirs"])


def test_queries_and_judgements_say_what_was_to_be_predicted(town: Config, tmp_path: Path) -> None:
    export(town, tmp_path, format="trec", split="test", names=["popularity"])
    histories = read_histories(town.run)
    task = read_task(histories, "test", town.evaluate)
    events = histories.events[task.row_E]
    queries = pl.read_csv(tmp_path / "queries.tsv", separator="\t", try_parse_dates=True)
    assert queries.columns == ["query", "row", "user_id", "time"]
    assert queries["row"].to_list() == task.row_E.tolist()
    assert queries["user_id"].to_list() == events["user_id"].to_list()
    judged = [line.split(" ") for line in (tmp_path / "qrels.txt").read_text().splitlines()]
    truth = zip(queries["query"], events["item_id"], strict=True)
    assert judged == [[query, "0", item, "1"] for query, item in truth]
    assert not (tmp_path / "own-counts.run").exists()


def test_parquet_has_the_same_in_columns(town: Config, tmp_path: Path) -> None:
    files = export(town, tmp_path, format="parquet", split="test", names=["own counts"])
    assert [file.name for file in files] == ["qrels.parquet", "own-counts.parquet"]
    frame, qrels = (pl.read_parquet(file) for file in (tmp_path / "own-counts.parquet", tmp_path / "qrels.parquet"))
    ours, _ = read_rankings(evaluation_folder(town.run, "test"), "own-counts")
    assert frame["item_idx"].to_list() == [item for items in ours.item_EK.tolist() for item in items if item >= 0]
    found = frame.join(qrels, on=["query", "item_id"])["rank"].to_list()
    assert sorted(found) == sorted(ours.rank_E.tolist())


def test_export_without_rankings_still_says_what_to_predict(
    town_copy: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = export(town_copy(), tmp_path, format="parquet", split="valid")
    assert [file.name for file in files] == ["qrels.parquet"]


def test_rankings_of_other_events_are_left_out_of_an_export_and_named(
    town: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluation_folder(town.run, "test")
    rankings, facts = read_rankings(folder, "popularity")
    write_rankings(folder, "popularity", rankings, {**facts, "task": "another"})
    files = export(town, tmp_path, format="parquet", split="test")
    assert [file.name for file in files] == ["qrels.parquet", "own-counts.parquet"]
    assert "popularity: rankings of other data or events, left out" in capsys.readouterr().err


def test_what_a_run_file_lacks_is_counted_and_reported(
    town: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(town, tmp_path, format="trec", split="test", names=["popularity"])
    lines = (tmp_path / "popularity.run").read_text().splitlines()
    first = [line for line in lines if line.startswith(lines[0].split()[0] + " ")]
    (tmp_path / "one.run").write_text("\n".join(first) + "\n")
    [result] = import_run(town, tmp_path / "one.run", name="one", split="test")
    said = capsys.readouterr().err
    assert f"missing queries: {result.num_events - 1}, counted as answered by nothing" in said
    rankings, facts = read_rankings(evaluation_folder(town.run, "test"), "one")
    assert (rankings.rank_E[1:] == 0).all()
    assert facts["settings"]["counts"]["missing queries"] == result.num_events - 1


def test_name_of_another_kind_of_ranker_is_refused_and_ones_own_is_replaced(town: Config, tmp_path: Path) -> None:
    export(town, tmp_path, format="trec", split="test", names=["popularity"])
    for _ in range(2):
        import_run(town, tmp_path / "popularity.run", name="theirs", split="test")
    with pytest.raises(DataError, match=r"holds rankings 'own-counts' of another kind \(baseline\) already; choose"):
        import_run(town, tmp_path / "popularity.run", name="Own counts", split="test")


def test_name_of_the_same_files_as_another_is_refused(town: Config, tmp_path: Path) -> None:
    export(town, tmp_path, format="trec", split="test", names=["popularity"])
    import_run(town, tmp_path / "popularity.run", name="their model", split="test")
    with pytest.raises(DataError, match=r"holds rankings 'their-model' of the name 'their model' already; choose"):
        import_run(town, tmp_path / "popularity.run", name="their+model", split="test")


def test_name_without_a_letter_that_a_file_name_is_made_of_is_refused(town: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^The name '模型' should have letters a-z or digits, of which its files"):
        import_run(town, tmp_path / "any.run", name="模型", split="test")


def test_name_that_a_model_has_is_refused_though_its_files_are_called_otherwise(town: Config, tmp_path: Path) -> None:
    export(town, tmp_path, format="trec", split="test", names=["popularity"])
    folder = evaluation_folder(town.run, "test")
    rankings, facts = read_rankings(folder, "popularity")
    write_rankings(folder, "fine-tuned", rankings, {**facts, "name": "fine-tuned model", "kind": "model"})
    with pytest.raises(DataError, match=r"holds rankings 'fine-tuned' of the name 'fine-tuned model' already; choose"):
        import_run(town, tmp_path / "popularity.run", name="fine-tuned model", split="test")


def test_catch_of_the_protocol_is_reported_by_everything_that_shows_figures(
    town: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = town.run / "histories" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["split"]["protocol"] = "leave_one_out"
    path.write_text(json.dumps(manifest))
    verbs: dict[str, Callable[[], object]] = {
        "export": lambda: export(town, tmp_path, format="trec", split="test"),
        "import-run": lambda: import_run(town, tmp_path / "popularity.run", name="theirs", split="test"),
        "calibrate": lambda: calibrate_run(town, limit=2),
        "ablate": lambda: ablate(town, split="test", limit=2),
    }
    message = f"leave_one_out: {CAVEATS['leave_one_out']}"
    for name, verb in verbs.items():
        capsys.readouterr()
        verb()
        assert capsys.readouterr().err.splitlines().count(message) == 1, name
    folder = evaluation_folder(town.run, "test", 2)
    assert message in json.loads((folder / "ablation.json").read_text())["notes"]
    assert f"- {message}" in (folder / "ablation.md").read_text().splitlines()


def test_export_into_a_file_is_refused(town: Config, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match=r"out should be a folder but is a file; name another one\.$"):
        export(town, tmp_path / "out", format="trec", split="test")
