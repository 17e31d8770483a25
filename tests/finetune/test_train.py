"""What a training leaves, and when it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel

from whereupon.decode.adapters import adapter_versions, current_adapter
from whereupon.decode.models import adapter_identity, load_base_model, load_engine, load_tokenizer
from whereupon.errors import ModelError
from whereupon.finetune.train import finetune
from whereupon.finetune.validation import Validator
from whereupon.histories import read_histories
from whereupon.tests.finetune.short_training import SHORT, Town, log_of

pytestmark = pytest.mark.slow  # all together


def test_adapter_is_a_peft_folder_with_a_card(town: Town) -> None:
    config = town(*SHORT, "finetune.temperature=0.5")
    folder = finetune(config)
    assert folder == current_adapter(config.run) == config.run / "adapters" / "0001"
    card = json.loads((folder / "whereupon.json").read_text())
    histories = read_histories(config.run)
    _, encoder, read = load_engine(
        config.model,
        config.prompts,
        histories.items,
        histories.events,
        "outcome",
        folder,
        title_recipe=histories.title_recipe,
    )
    bound = adapter_identity(config.model, encoder, load_tokenizer(config.model), histories.title_recipe)
    assert bound.items() <= card.items()
    assert bound["title_recipe"] == {"title": None, "title_attributes": []}
    assert card | {"adapter_hash": read["adapter_hash"]} == read
    assert card["complete"] is True
    assert card["data_hash"] == read_histories(config.run).data_hash
    assert (card["seed"], card["temperature"]) == (7, 0.5)
    assert card["finetune"] == config.finetune.model_dump(mode="json")
    assert {"torch", "peft", "whereupon"} <= card["versions"].keys()
    assert {"recall@1", "recall@10", "nDCG@10", "log-loss"} <= card["validation"].keys()
    assert card["step"] in [entry["step"] for entry in log_of(folder)]
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"---\nbase_model: {config.model.base}\nlibrary_name: peft\n")
    assert f"| nDCG@10 | {card['validation']['nDCG@10']:.4f} |" in readme
    peft = PeftModel.from_pretrained(load_base_model(config.model), str(folder)).peft_config["default"]
    assert (peft.r, peft.peft_type.value) == (16, "LORA")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "curve.svg", "log.jsonl", "pools.json",
        "steps.jsonl", "whereupon.json",
    ]  # fmt: skip


def test_log_shows_each_validation(town: Town) -> None:
    entries = log_of(finetune(town(*SHORT)))
    assert [entry["step"] for entry in entries] == sorted({entry["step"] for entry in entries})
    assert all(entry["train_loss"] > 0 and 0 <= entry["nDCG@10"] <= 1 for entry in entries)
    assert entries[-1]["learning_rate"] == pytest.approx(0.0, abs=1e-9)  # the cosine has come down
    assert len(entries) == 2


def test_training_stops_when_patience_runs_out_and_keeps_the_best(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.2, 0.5, 0.4, 0.5, 0.9])
    monkeypatch.setattr(Validator, "validate", lambda *_: {"nDCG@10": next(scores)})
    folder = finetune(town("finetune.epochs=9", "finetune.patience=2"))
    assert [entry["nDCG@10"] for entry in log_of(folder)] == [0.2, 0.5, 0.4, 0.5]
    card = json.loads((folder / "whereupon.json").read_text())
    assert (card["validation"], card["step"]) == ({"nDCG@10": 0.5}, log_of(folder)[1]["step"])


def test_without_validation_events_the_training_loss_decides(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Validator, "validate", lambda *_: {})
    folder = finetune(town(*SHORT))
    assert all(entry.keys() == {"step", "train_loss", "learning_rate"} for entry in log_of(folder))
    assert json.loads((folder / "whereupon.json").read_text())["step"] == log_of(folder)[-1]["step"]


@pytest.mark.parametrize(
    ("validations", "how"), [(1, "(weights|scores) are no numbers any more"), (0, "the loss is nan")]
)
def test_diverging_training_is_one_sentence_and_keeps_no_ruin(town: Town, validations: int, how: str) -> None:
    steep = ("finetune.learning_rate=1.0e30", "finetune.warmup_fraction=0")
    config = town(*steep, f"finetune.validations_per_epoch={validations}")
    with pytest.raises(ModelError, match=rf"diverged at step \d \({how}\): lower finetune\.learning_rate; the best"):
        finetune(config)
    assert not any(version.card for version in adapter_versions(config.run))


def test_error_in_a_validation_that_is_no_divergence_is_not_called_one(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise ModelError("sees at most 5 tokens")

    monkeypatch.setattr(Validator, "validate", failing)
    with pytest.raises(ModelError, match=r"^sees at most 5 tokens$"):
        finetune(town(*SHORT))


@pytest.mark.slow
def test_accelerate_launch_runs_the_command_line(town: Town, prepared: Path) -> None:
    config = town("finetune.epochs=0.1")
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "1",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "whereupon.cli", "finetune", str(prepared)]
    command += ["--set", f"run={config.run}", "--set", "finetune.epochs=0.1"]
    result = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert current_adapter(config.run).is_dir()
    assert "finetune" in json.loads((config.run / "run.json").read_text())
