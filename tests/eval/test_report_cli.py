"""`whereupon report` and `whereupon compare` as they are typed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from whereupon.cli import app
from whereupon.eval.rankings import read_rankings, slug_of, write_rankings
from whereupon.histories import read_histories
from whereupon.tests.eval.report_town import MODEL, write_town

pytestmark = pytest.mark.slow  # all together


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    (folder / "town.yaml").write_text("run: town\nhistories: {recipe: nycflights13}\n")
    return write_town(folder / "town")


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("named", ["town", "town.yaml"])
def test_report_of_a_run_or_of_its_configuration_is_one_file(named: str, town: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.html"
    result = _run("report", town.parent / named, "-o", out)
    assert (result.exit_code, result.stdout) == (0, f"{out}\n"), result.output
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert " kB in " in result.stderr


def test_compare_takes_configurations_too(town: Path) -> None:
    result = _run("compare", f"{town.parent / 'town.yaml'}:{MODEL}", f"{town}:random", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["a"]["name"] == MODEL


def test_compare_prints_tables_on_stdout_and_nothing_else(town: Path) -> None:
    result = _run("compare", f"{town}:own counts", f"{town}:random", "--metric", "recall@10")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert "recall@10 on 2,000 events" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "{town}", "--metric", "nDCG"], "nDCG needs a cutoff"),
        (["report", "{town}", "--split", "valid"], "should hold the split 'valid' but holds test"),
        (["report", "nowhere"], "run `whereupon evaluate`"),
        (["report", "nowhere.yaml"], "does not exist; examples/ holds some"),
        (["compare", "{town}:random", "{town}:nobody"], "should hold the rankings 'nobody'"),
    ],
)
def test_users_error_is_one_sentence(arguments: list[str], sentence: str, town: Path, tmp_path: Path) -> None:
    output = ["-o", str(tmp_path / "report.html")] if arguments[0] == "report" else []
    result = _run(*(argument.format(town=town) for argument in arguments), *output)
    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_help_says_what_it_takes(verb: str) -> None:
    result = _run(verb, "--help")
    assert result.exit_code == 0
    assert "--metric" in result.stdout


def test_report_never_replaces_a_folder(town: Path) -> None:
    before = sorted(town.rglob("*"))
    result = _run("report", town, "-o", town)
    assert result.exit_code == 1
    assert "is a folder; name the HTML file to write" in result.stderr
    assert sorted(town.rglob("*")) == before


@pytest.mark.slow
def test_report_of_validation_says_that_it_was_chosen_on(town: Path, tmp_path: Path) -> None:
    shutil.copytree(town, tmp_path / "town")
    (tmp_path / "town" / "evaluation" / "test").rename(tmp_path / "town" / "evaluation" / "valid")
    said = "These events have chosen the settings of baselines"
    for run, expected in ((town, False), (tmp_path / "town", True)):
        assert _run("report", run, "-o", tmp_path / "page.html").exit_code == 0
        assert (said in (tmp_path / "page.html").read_text(encoding="utf-8")) == expected


def test_compare_finds_a_ranker_by_its_slug_or_by_the_name_that_tables_show(town: Path, tmp_path: Path) -> None:
    shutil.copytree(town, tmp_path / "town")
    folder = tmp_path / "town" / "evaluation" / "test"
    for ending in ("json", "parquet"):
        (folder / f"{slug_of(MODEL)}.{ending}").rename(folder / f"mine.{ending}")
    for name in ("mine", MODEL):
        result = _run("compare", f"{tmp_path / 'town'}:{name}", f"{town}:random", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["a"]["name"] == MODEL


def test_metric_deeper_than_the_rankings_is_reported_as_such(town: Path, tmp_path: Path) -> None:
    shutil.copytree(town, tmp_path / "town")
    folder = tmp_path / "town" / "evaluation" / "test"
    ranked, facts = read_rankings(folder, "random")
    known = replace(ranked, rank_E=np.where(ranked.rank_E > ranked.k, 0, ranked.rank_E))
    write_rankings(folder, "random", known, facts, read_histories(town).events)
    result = _run("compare", f"{town}:{MODEL}", f"{tmp_path / 'town'}:random", "--metric", "recall@5000")
    assert result.exit_code == 1
    expected = f"random has no recall@5000, as {ranked.k} items of each ranking were kept"
    assert expected in " ".join(result.stderr.split())
