"""bench/equal_time.py on a tiny town, and the table that is made of its figures."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equal_time
import leaderboard_text
import pytest

from whereupon.config import load_config
from whereupon.errors import DataError
from whereupon.eval.stacking import choose_priors
from whereupon.files import read_json
from whereupon.histories import prepare


@pytest.fixture
def source(make_town: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared run with rankers, of the only example that there is."""
    (tmp_path / "examples").mkdir()
    path = make_town(tmp_path / "examples", people=6, days=12)
    example = path.with_name("flights-demo.yaml")
    shutil.move(path, example)
    with example.open("a", encoding="utf-8") as file:
        file.write("\npriors: [popularity, own counts]\n")
    config = load_config(example)
    prepare(config.histories, config.catalogue, config.run, config.seed)
    choose_priors(config)
    monkeypatch.setattr(equal_time, "ROOT", tmp_path)
    monkeypatch.setattr("equal_time.RESULTS", tmp_path / "results")
    monkeypatch.setattr("record.RESULTS", tmp_path / "results")
    monkeypatch.setattr(equal_time, "in_process", lambda function, *given: function(*given))
    return config.run


def _main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["equal_time.py", *words])
    return equal_time.main()


def test_four_rankers_of_the_same_events_and_the_same_steps_are_compared(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"flights-demo={source}", "--minutes", "0.002", "--events", "15", "--calibrate", "20")
    assert _main(monkeypatch, *words) == 1  # the other examples are not measured
    said = read_json(tmp_path / "results" / "equal_time.json")
    table = said["tables"]["flights-demo"]
    assert [row["ranker"] for row in table["rows"]] == list(equal_time.SLUGS)
    assert table["events"] == 15
    assert table["training"]["on top"]["steps"] == table["training"]["alone"]["steps"] >= 1
    assert [one["name"] for one in said["bars"] if one["value"] == 0][:2] == [
        "nyc-checkins, measured", "movielens-100k, measured"
    ]  # fmt: skip
    assert "on top: nDCG@10" in capsys.readouterr().out
    text = leaderboard_text.equal_time(said)
    assert f"| flights-demo | 15 | {table['training']['on top']['steps']} | on top | " in text
    assert text.count("\n|  |  |  | ") == 3
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    _main(monkeypatch, *words)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")} == before
    assert read_json(tmp_path / "results" / "equal_time.json")["tables"] == said["tables"]


def test_run_without_rankers_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(source / "priors")
    with pytest.raises(DataError, match="has no priors: run `whereupon prepare` and `whereupon priors`"):
        _main(monkeypatch, f"flights-demo={source}")


def test_significant_loss_misses_a_bar_and_a_chance_does_not() -> None:
    def row(difference: float, p: float) -> dict[str, Any]:
        return {"ranker": "model alone", "nDCG@10 difference": {"difference": difference, "p_holm": p}}

    rows = [{"ranker": "on top"}, row(0.02, 0.01), row(0.02, 0.2), row(-0.02, 0.01)]
    assert [one["ok"] for one in equal_time.bars_of("town", rows)] == [False, True, True]
