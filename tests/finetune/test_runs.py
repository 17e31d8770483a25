"""`whereupon runs`."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.errors import DataError
from whereupon.files import write_json
from whereupon.finetune.runs import list_runs, table_of
from whereupon.tests.texts import says


def _adapter(run: Path, name: str, ndcg: float | None = None, complete: bool = True) -> None:
    folder = run / "adapters" / name
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text("{}")
    if ndcg is not None:
        scores = {"nDCG@10": ndcg, "log-loss": 1.5}
        write_json(folder / "whereupon.json", {
            "temperature": 1.0, "base_model": "models/tiny", "step": 1200, "complete": complete, "validation": scores,
            "validated_on": "0123456789abcdef",
        })  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    _adapter(tmp_path / "runs" / "a", "0001", 0.25)
    _adapter(tmp_path / "runs" / "a", "0002", 0.5)
    (tmp_path / "runs" / "a" / "adapters" / "CURRENT").write_text("0002\n")
    _adapter(tmp_path / "runs" / "deep" / "b", "0001", 0.125, complete=False)
    _adapter(tmp_path / "runs" / "deep" / "c", "0001")  # killed before its first validation
    write_json(tmp_path / "runs" / "a" / "run.json", {"finetune": {"started": "2026-11-30T02:00:00+00:00"}})
    return tmp_path / "runs"


def test_runs_are_listed_with_figures_and_state(runs: Path) -> None:
    found = [(one.run, one.adapter, one.state, one.figures.get("nDCG@10")) for one in list_runs(runs)]
    assert found == [
        ("a", "0001", "finished", 0.25), ("a", "0002", "in use", 0.5), ("deep/b", "0001", "unfinished", 0.125),
        ("deep/c", "0001", "unfinished", None),
    ]  # fmt: skip
    first = list_runs(runs)[0]
    assert (first.base, first.step, first.events, first.started[:10]) == ("tiny", 1200, "01234567", "2026-11-30")


def test_one_run_folder_is_listed_too(runs: Path) -> None:
    assert [(one.run, one.adapter) for one in list_runs(runs / "a")] == [("a", "0001"), ("a", "0002")]


def test_table_has_a_dash_for_what_is_not_known(runs: Path) -> None:
    console = Console(width=200)
    with console.capture() as written:
        console.print(table_of(list_runs(runs)))
    lines = written.get().splitlines()
    assert re.search(says("in use", "0.5000", "1,200"), lines[2])
    assert lines[4].count("\N{EN DASH}") == 4


def test_runs_as_json_are_for_programs(runs: Path) -> None:
    result = CliRunner().invoke(app, ["runs", str(runs), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)[1]["figures"] == {"nDCG@10": 0.5, "log-loss": 1.5}


@pytest.mark.parametrize(("folder", "said"), [("nowhere", "is no folder"), (".", "There is no run below")])
def test_folder_without_runs_is_one_sentence(tmp_path: Path, folder: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        list_runs(tmp_path / folder)
    assert CliRunner().invoke(app, ["runs", str(tmp_path / folder)]).exit_code == 1
