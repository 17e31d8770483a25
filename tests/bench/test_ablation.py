"""The ablation of an example on a tiny town: what is done is not done again, and the table says of what it is."""

from collections.abc import Callable
from pathlib import Path

import ablation
import numpy as np
import pytest
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.config import load_config
from whereupon.decode.adapter_card import ADAPTER_CARD
from whereupon.files import read_json
from whereupon.finetune.schedule import Schedule
from whereupon.finetune.training_examples import make_examples
from whereupon.prompts import ContextKind


def _bench(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["ablation.py", "town", *words])
    return ablation.main()


def _short(verbs: list[list[str]]) -> list[str]:
    """Of each verb its run, where it names one, and what its prompts leave out."""
    said = []
    for verb, *words in verbs:
        values = dict(word.split("=", 1) for word in words if "=" in word)
        run = Path(values["run"]).name if "run" in values else ""
        said.append(" ".join(filter(None, [verb, run, values.get("prompts.leave_out", "")])))
    return said


@pytest.mark.slow
def test_example_is_trained_without_each_kind_and_ablated_once(
    make_town: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbs: list[list[str]]
) -> None:
    monkeypatch.setattr("record.RESULTS", tmp_path / "results")
    monkeypatch.setattr(ablation, "ROOT", tmp_path)
    monkeypatch.setattr(ablation, "_batch_tokens", lambda config, kind: 512)
    config = make_town(tmp_path / "examples", people=4)
    config.write_text(config.read_text().replace("epochs: 4", "epochs: 0.1"))
    assert _bench(monkeypatch, "--limit", "6") == 0
    without = ["finetune run-without-time [time]", "finetune run-without-weather [weather]"]
    assert _short(verbs) == ["prepare", "finetune run", *without, "ablate run"]
    cards = {
        path.parents[1].name: read_json(path / ADAPTER_CARD) for path in tmp_path.glob("examples/run*/adapters/0001")
    }
    sizes = {name: card["finetune"]["batch_tokens"] for name, card in cards.items()}
    assert sizes == {"run": 1024, "run-without-time": 512, "run-without-weather": 512}
    said = read_json(tmp_path / "results" / "ablation_town.json")
    assert said["command"] == "python bench/ablation.py town --limit 6"
    assert (said["seeds"], said["bars"]) == ([7], [])
    model = [row for row in said["rows"] if row["baseline"] == "fine-tuned model"]
    ways = {(row["ablated"], row["how"]) for row in model}
    assert ways == {(kind, how) for kind in ("time", "weather") for how in ("removed", "shuffled", "retrained")}
    assert len(model) == 6 * 3, "recall@1, nDCG@10 and log-loss of each"
    for row in model:
        assert (row["seed"], row["num_events"]) == (7, 6)
        assert 0 <= row["p"] <= row["p_holm"] <= 1

    verbs.clear()
    (tmp_path / "examples" / "run-without-time" / "adapters" / "0002").mkdir()  # as a killed training leaves it
    assert _bench(monkeypatch, "--limit", "6", "--without", "time") == 0
    assert _short(verbs) == ["finetune run-without-time [time]", "ablate run"]

    verbs.clear()
    monkeypatch.setattr(ablation, "_batch_tokens", lambda config, kind: 520)
    with pytest.raises(SystemExit, match=r"-time was trained with finetune\.batch_tokens 512, not 520: remove it"):
        _bench(monkeypatch, "--limit", "6", "--without", "time")
    assert _short(verbs) == []

    verbs.clear()
    assert _bench(monkeypatch, "--limit", "6", "--seeds", "7", "8", "--without") == 0
    assert _short(verbs) == ["ablate run", "finetune run-seed-8", "ablate run-seed-8"]
    said = read_json(tmp_path / "results" / "ablation_town.json")
    assert {row["seed"] for row in said["rows"]} == {7, 8}


def test_training_without_a_kind_takes_as_many_steps(make_town: Callable[..., Path], tmp_path: Path) -> None:
    path = make_town(tmp_path, people=30)
    assert CliRunner().invoke(app, ["prepare", str(path)]).exit_code == 0
    config = load_config(path)
    histories, encoder = ablation._texts(config)

    def num_steps(size: int, *without: ContextKind) -> int:
        lengths = np.array([len(one.tokens_L) for one in make_examples(histories, encoder.without(without))])
        settings = config.finetune.model_copy(update={"batch_tokens": size})
        return Schedule(lengths, settings, config.seed, num_processes=1).num_steps()

    whole, size = config.finetune.batch_tokens, ablation._batch_tokens(config, "time")
    assert num_steps(whole, "time") < num_steps(whole)
    assert num_steps(size, "time") == pytest.approx(num_steps(whole), rel=0.1)
    assert size < whole
