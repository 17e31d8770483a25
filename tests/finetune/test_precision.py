"""The number formats of a training: of its steps, of the base model and of the weights that learn."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from peft import PeftModel
from transformers import (
    PreTrainedModel,
)

from whereupon.config import load_config
from whereupon.decode.hardware import choose_device
from whereupon.decode.models import load_base_model
from whereupon.errors import ConfigError
from whereupon.finetune import FinetuneSettings, launch, train
from whereupon.finetune.train import finetune
from whereupon.tests.finetune.short_training import SHORT, Town, weights_of

pytestmark = pytest.mark.slow  # all together


def test_mixed_precision_no_is_a_word_in_yaml(tmp_path: Path) -> None:
    """YAML itself reads it as false."""
    file = tmp_path / "one.yaml"
    file.write_text(
        "run: run\nhistories: {events: {path: e.csv}, items: {path: i.csv}}\nfinetune: {mixed_precision: no}\n"
    )
    assert load_config(file).finetune.mixed_precision == "no"
    assert load_config(file, ["finetune.mixed_precision=no"]).finetune.mixed_precision == "no"


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
    assert launch._precision(FinetuneSettings(mixed_precision=setting), torch.device("cuda")) == expected


@pytest.mark.parametrize(("capabilities", "expected"), [({"amx_bf16": True}, "bf16"), ({"avx2": True}, "no")])
def test_mixed_precision_of_a_cpu_is_bf16_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert launch._precision(FinetuneSettings(), torch.device("cpu")) == expected
    with pytest.raises(ConfigError, match=r"^finetune\.mixed_precision is fp16 but training runs on a CPU: set it to"):
        launch._precision(FinetuneSettings(mixed_precision="fp16"), torch.device("cpu"))


def test_training_runs_on_the_device_of_evaluation_on_a_mac_too(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def accelerator(mixed_precision: str, cpu: bool) -> None:
        asked.append(cpu)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(launch, "Accelerator", accelerator)
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
    assert {weight.dtype for weight in weights_of(folder).values()} == {torch.float32}
