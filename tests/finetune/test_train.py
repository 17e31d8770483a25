import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from accelerate.state import AcceleratorState
from peft import PeftModel
from safetensors.torch import load_file
from transformers import PreTrainedModel

from whereupon.config import Config
from whereupon.decode.hardware import choose_device
from whereupon.decode.models import adapter_identity, load_base_model, load_engine, load_tokenizer
from whereupon.errors import ConfigError, DataError, ModelError
from whereupon.finetune import FinetuneSettings, train
from whereupon.finetune.progress import TrainingProgress
from whereupon.finetune.train import Schedule, finetune
from whereupon.finetune.validation import Validator
from whereupon.histories import read_histories

Town = Callable[..., Config]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Stop training, as Ctrl-C would, in that step; every step before it has left a checkpoint."""
    original = TrainingProgress.step

    def stepping(self: TrainingProgress, now: int, *numbers: Any) -> None:
        if now == step:
            raise KeyboardInterrupt
        original(self, now, *numbers)

    monkeypatch.setattr(TrainingProgress, "step", stepping)
    monkeypatch.setattr(train, "CHECKPOINT_EVERY_S", -1.0)


def _interrupted(config: Config, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)


SHORT = ("finetune.epochs=2", "finetune.validations_per_epoch=1")


def test_adapter_is_a_peft_folder_with_a_card(town: Town) -> None:
    config = town(*SHORT, "finetune.temperature=0.5")
    folder = finetune(config)
    assert folder == config.run / "adapter"
    card = json.loads((folder / "whereupon.json").read_text())
    histories = read_histories(config.run)
    _, encoder, read = load_engine(
        config.model, config.prompts, histories.items, "outcome", folder, title_recipe=histories.title_recipe
    )
    bound = adapter_identity(config.model, encoder, load_tokenizer(config.model), histories.title_recipe)
    assert bound.items() <= card.items()
    assert bound["title_recipe"] == {"title": None, "title_attributes": []}
    assert card | {"adapter_hash": read["adapter_hash"]} == read
    assert card["data_hash"] == read_histories(config.run).data_hash
    assert (card["seed"], card["temperature"]) == (7, 0.5)
    assert card["finetune"] == config.finetune.model_dump(mode="json")
    assert {"torch", "peft", "whereupon"} <= card["versions"].keys()
    assert {"recall@1", "recall@10", "nDCG@10", "log-loss"} <= card["validation"].keys()
    assert card["step"] in [entry["step"] for entry in _log(folder)]
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"---\nbase_model: {config.model.base}\nlibrary_name: peft\n")
    assert f"| nDCG@10 | {card['validation']['nDCG@10']:.4f} |" in readme
    peft = PeftModel.from_pretrained(load_base_model(config.model), str(folder)).peft_config["default"]
    assert (peft.r, peft.peft_type.value) == (16, "LORA")
    assert not (config.run / "adapter.checkpoint.pt").exists()


def _items(config: Config) -> pl.DataFrame:
    return read_histories(config.run).items


@pytest.mark.parametrize(
    ("capability", "setting", "expected"),
    [((9, 0), "auto", "bf16"), ((8, 0), "auto", "bf16"), ((7, 5), "auto", "fp16"), ((7, 0), "auto", "fp16"),
     ((6, 1), "auto", "no"), ((7, 5), "bf16", "bf16"), ((9, 0), "fp16", "fp16"), ((9, 0), "no", "no")],
)  # fmt: skip
def test_mixed_precision_of_a_gpu_is_never_emulated(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], setting: Any, expected: str
) -> None:
    gpu = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert train._precision(FinetuneSettings(mixed_precision=setting), torch.device("cuda")) == expected


@pytest.mark.parametrize(("capabilities", "expected"), [({"amx_bf16": True}, "bf16"), ({"avx2": True}, "no")])
def test_mixed_precision_of_a_cpu_is_bf16_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert train._precision(FinetuneSettings(), torch.device("cpu")) == expected
    with pytest.raises(ConfigError, match=r"^finetune\.mixed_precision is fp16 but training runs on a CPU: set it to"):
        train._precision(FinetuneSettings(mixed_precision="fp16"), torch.device("cpu"))


def test_training_runs_on_the_device_of_evaluation_on_a_mac_too(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def accelerator(mixed_precision: str, cpu: bool) -> None:
        asked.append(cpu)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(train, "Accelerator", accelerator)
    config = town("model.device=auto")
    with pytest.raises(KeyboardInterrupt):
        finetune(config)
    assert asked == [choose_device(config.model).type == "cpu"] == [True]


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_training_keeps_base_weights_in_the_format_of_evaluation(
    town: Town, tmp_path: Path, stored: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = town(*SHORT)
    base = Path(shutil.copytree(config.model.base, tmp_path / "half"))
    load_base_model(config.model).to(stored).save_pretrained(base)
    added: list[torch.dtype] = []
    original = train.add_lora

    def add_lora(model: PreTrainedModel, settings: FinetuneSettings) -> PeftModel:
        added.append(model.dtype)
        return original(model, settings)

    monkeypatch.setattr(train, "add_lora", add_lora)
    finetune(town("finetune.epochs=0.1", f"model.base={base}"))
    assert added == [torch.float32]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_base_weights_in_bfloat16_are_trained_on_in_float32(town: Town, precision: str) -> None:
    """As `model.dtype: auto` has it on a GPU: only the base is rounded, not what learns."""
    settings = ("model.dtype=bfloat16", f"finetune.mixed_precision='{precision}'")
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate allows one precision a process
    try:
        folder = finetune(town("finetune.epochs=0.1", *settings))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert {weight.dtype for weight in _weights(folder).values()} == {torch.float32}


def test_log_tells_each_validation(town: Town) -> None:
    entries = _log(finetune(town(*SHORT)))
    assert [entry["step"] for entry in entries] == sorted({entry["step"] for entry in entries})
    assert all(entry["train_loss"] > 0 and 0 <= entry["nDCG@10"] <= 1 for entry in entries)
    assert entries[-1]["learning_rate"] == pytest.approx(0.0, abs=1e-9)  # the cosine has come down
    assert len(entries) == 2


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_interrupted_and_resumed_run_ends_as_an_uninterrupted_one(
    town: Town, capsys: pytest.CaptureFixture[str], dropout: float
) -> None:
    settings = (*SHORT, f"finetune.dropout={dropout}", "finetune.batch_tokens=400")
    whole = finetune(town(*settings, run="whole"))
    last = _log(whole)[-1]["step"]
    config = town(*settings, run="cut")
    for step in (3, last - 1):
        _interrupted(config, step)
    cut = finetune(config)
    said = capsys.readouterr().err
    assert f"resuming at step {last - 2}" in said
    assert _log(cut) == _log(whole)
    one, other = _weights(whole), _weights(cut)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_checkpoint_of_other_settings_is_not_used(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    _interrupted(town(*SHORT), 2)
    folder = finetune(town(*SHORT, "finetune.learning_rate=0.01"))
    assert "belongs to other settings or data: training starts anew" in capsys.readouterr().err
    fresh = finetune(town(*SHORT, "finetune.learning_rate=0.01", run="fresh"))
    assert _log(folder) == _log(fresh)


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_checkpoint_that_cannot_be_read_is_told_and_left_alone(
    town: Town, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    config = town("finetune.epochs=0.1")
    path = config.run / "adapter.checkpoint.pt"
    torch.save(torch.zeros(3), path) if content is None else path.write_bytes(content)
    finetune(config)
    assert "adapter.checkpoint.pt cannot be read: training starts anew" in capsys.readouterr().err


def test_training_stops_when_patience_runs_out_and_keeps_the_best(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.2, 0.5, 0.4, 0.5, 0.9])
    monkeypatch.setattr(Validator, "validate", lambda *_: {"nDCG@10": next(scores)})
    folder = finetune(town("finetune.epochs=9", "finetune.patience=2"))
    assert [entry["nDCG@10"] for entry in _log(folder)] == [0.2, 0.5, 0.4, 0.5]
    card = json.loads((folder / "whereupon.json").read_text())
    assert (card["validation"], card["step"]) == ({"nDCG@10": 0.5}, _log(folder)[1]["step"])


def test_without_validation_events_the_training_loss_decides(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Validator, "validate", lambda *_: {})
    folder = finetune(town(*SHORT))
    assert all(entry.keys() == {"step", "train_loss", "learning_rate"} for entry in _log(folder))
    assert json.loads((folder / "whereupon.json").read_text())["step"] == _log(folder)[-1]["step"]


@pytest.mark.parametrize(
    ("validations", "how"), [(1, "(weights|scores) are no numbers any more"), (0, "the loss is nan")]
)
def test_diverging_training_is_one_sentence_and_keeps_no_ruin(town: Town, validations: int, how: str) -> None:
    steep = ("finetune.learning_rate=1.0e30", "finetune.warmup_fraction=0")
    config = town(*steep, f"finetune.validations_per_epoch={validations}")
    with pytest.raises(ModelError, match=rf"diverged at step \d \({how}\): lower finetune\.learning_rate; the best"):
        finetune(config)
    assert not (config.run / "adapter").exists()


def test_unknown_target_modules_name_what_the_model_has(town: Town) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.target_modules .* \(.*q_proj.*\), not \['quer'\]\.$"):
        finetune(town("finetune.target_modules=[quer]"))


def test_budget_beyond_what_the_model_sees_is_told_before_training(town: Town) -> None:
    told = r"^prompts\.budget_tokens is 100000 but the model .* at most (\d+) tokens: set it to at most \1\.$"
    with pytest.raises(ConfigError, match=told):
        finetune(town("prompts.budget_tokens=100000"))


def test_no_training_events_are_one_sentence(town: Town) -> None:
    config = town()
    path = config.run / "histories" / "events.parquet"
    pl.read_parquet(path).with_columns(split=pl.lit("test")).write_parquet(path)
    with pytest.raises(DataError, match=r"^There are no training events"):
        finetune(config)


def _schedule(epochs: float, num_processes: int = 1) -> Schedule:
    length_W = np.random.default_rng(0).integers(50, 400, 40)
    return Schedule(length_W, FinetuneSettings(epochs=epochs, batch_tokens=1000), 7, num_processes)


def test_steps_are_those_of_whole_epochs_and_a_share_of_the_last() -> None:
    per_epoch = [len(_schedule(1).batches(epoch)) for epoch in range(2)]
    assert _schedule(1).num_steps() == per_epoch[0]
    assert _schedule(1.5).num_steps() == per_epoch[0] + round(per_epoch[1] / 2)
    assert _schedule(0.001).num_steps() == 1


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_share_an_epoch_evenly_and_miss_no_window(num_processes: int) -> None:
    batches = _schedule(1, num_processes).batches(0)
    assert len(batches) % num_processes == 0
    assert set(np.concatenate(batches).tolist()) == set(range(40))
    assert _schedule(1, num_processes).num_steps() == len(batches) // num_processes


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
    assert (config.run / "adapter" / "whereupon.json").is_file()
    assert "finetune" in json.loads((config.run / "run.json").read_text())
