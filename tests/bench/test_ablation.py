"""The ablation of an example on a tiny town: what is done is not done again, and the table says of what it is."""

from collections.abc import Callable
from pathlib import Path

import ablation
import pytest
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.files import read_json


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The verbs that were run, each with its words; in this process, as a new one takes seconds to begin."""
    done: list[list[str]] = []

    def whereupon(verb: str, path: Path, *words: str) -> None:
        done.append([verb, *words])
        result = CliRunner().invoke(app, [verb, str(path), *words])
        assert result.exit_code == 0, result.output

    monkeypatch.setattr(ablation, "whereupon", whereupon)
    return done


def _bench(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["ablation.py", "town", *words])
    return ablation.main()


def _short(verbs: list[list[str]]) -> list[str]:
    """Of each verb its run, where it names one, and what its prompts leave out."""
    told = []
    for verb, *words in verbs:
        values = dict(word.split("=", 1) for word in words if "=" in word)
        run = Path(values["run"]).name if "run" in values else ""
        told.append(" ".join(filter(None, [verb, run, values.get("prompts.leave_out", "")])))
    return told


def test_example_is_trained_without_each_kind_and_ablated_once(
    make_town: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbs: list[list[str]]
) -> None:
    monkeypatch.setattr("record.RESULTS", tmp_path / "results")
    monkeypatch.setattr(ablation, "ROOT", tmp_path)
    config = make_town(tmp_path / "examples", people=4)
    config.write_text(config.read_text().replace("epochs: 4", "epochs: 0.1"))
    assert _bench(monkeypatch, "--limit", "6") == 0
    without = ["finetune run-without-time [time]", "finetune run-without-weather [weather]"]
    assert _short(verbs) == ["prepare", "finetune run", *without, "ablate run"]
    told = read_json(tmp_path / "results" / "ablation_town.json")
    assert told["command"] == "python bench/ablation.py town --limit 6"
    assert (told["seeds"], told["bars"]) == ([7], [])
    model = [row for row in told["rows"] if row["baseline"] == "fine-tuned model"]
    ways = {(row["ablated"], row["how"]) for row in model}
    assert ways == {(kind, how) for kind in ("time", "weather") for how in ("removed", "shuffled", "retrained")}
    assert len(model) == 6 * 3, "recall@1, nDCG@10 and log-loss of each"
    for row in model:
        assert (row["seed"], row["num_events"]) == (7, 6)
        assert 0 <= row["p"] <= row["p_holm"] <= 1

    verbs.clear()
    (tmp_path / "examples" / "run-without-time" / "adapter.checkpoint.pt").touch()  # as a killed training leaves it
    assert _bench(monkeypatch, "--limit", "6", "--without", "time") == 0
    assert _short(verbs) == ["finetune run-without-time [time]", "ablate run"]

    verbs.clear()
    assert _bench(monkeypatch, "--limit", "6", "--seeds", "7", "8", "--without") == 0
    assert _short(verbs) == ["ablate run", "finetune run-seed-8", "ablate run-seed-8"]
    told = read_json(tmp_path / "results" / "ablation_town.json")
    assert {row["seed"] for row in told["rows"]} == {7, 8}
