"""What the settings and accelerate's launcher say: accumulation, precision, attention, trackers, files to launch by."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from accelerate import Accelerator, DistributedType
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from whereupon.config import Config
from whereupon.errors import ConfigError
from whereupon.finetune import FinetuneSettings, launch
from whereupon.finetune.launch import accelerator_of, as_launched, attention, set_up_base
from whereupon.finetune.optimizers import make_optimizer
from whereupon.finetune.train import finetune
from whereupon.tests.texts import says

Town = Callable[..., Config]
FILES = sorted((Path(__file__).resolve().parents[2] / "examples" / "accelerate").glob("*.yaml"))
SHORT = ("finetune.epochs=1", "finetune.validations_per_epoch=0", "finetune.log_every=1")


def _losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "adapter_model.safetensors"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.stem))
def test_launch_file_is_read_by_accelerate_and_says_what_it_does(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# What it does: ")
    assert "examples/accelerate/" + file.name in lines[1] or file.stem == "nodes"
    chosen = load_config_from_file(str(file))
    arguments = launch_command_parser().parse_args(["--config_file", str(file), "-m", "whereupon.cli"])
    read, _, _ = _validate_launch_command(arguments)
    assert (read.num_processes, read.use_cpu) == (chosen.num_processes, file.stem == "cpu")
    kind = {"gpu": "NO", "fsdp2": "FSDP"}.get(file.stem, "MULTI_GPU")
    assert chosen.distributed_type == DistributedType(kind)
    assert (read.multi_gpu, read.use_fsdp) == (kind == "MULTI_GPU", kind == "FSDP")
    assert str(getattr(read, "fsdp_version", None)) == "2" or kind != "FSDP"


def test_launch_files_are_found() -> None:
    assert {path.stem for path in FILES} == {"cpu", "ddp", "fsdp2", "gpu", "nodes"}


def test_accumulation_of_the_launcher_is_that_of_the_training(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")
    assert as_launched(town()).finetune.accumulate == 3
    assert as_launched(town("finetune.accumulate=3")).finetune.accumulate == 3
    with pytest.raises(ConfigError, match="in one place only"):
        as_launched(town("finetune.accumulate=2"))


@pytest.mark.slow
def test_batches_that_are_added_up_make_the_step_of_all_their_titles(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows have different numbers of titles: each title of the step must weigh the same."""
    whole = town(*SHORT, "finetune.batch_tokens=4096", run="whole")
    parts = town(*SHORT, "finetune.batch_tokens=200", run="parts")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "64")
    found = finetune(parts)
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    expected = finetune(whole)
    assert _losses(found) == pytest.approx(_losses(expected), abs=1e-5)
    assert len(_losses(found)) == 1
    assert json.loads((found / "whereupon.json").read_text())["finetune"]["accumulate"] == 64


@pytest.mark.slow
def test_recomputed_activations_change_no_weight(town: Town) -> None:
    more = (*SHORT, "finetune.dropout=0.2", "finetune.batch_tokens=400")
    plain = finetune(town(*more, run="plain"))
    saved = finetune(town(*more, "finetune.gradient_checkpointing=true", run="saved"))
    assert all(torch.equal(one, _weights(saved)[name]) for name, one in _weights(plain).items())


@pytest.mark.slow
def test_attention_of_training_gives_nearly_the_same_losses(town: Town) -> None:
    one, other = (finetune(town(*SHORT, f"finetune.attn_implementation={n}", run=n)) for n in ("eager", "sdpa"))
    assert _losses(one) == pytest.approx(_losses(other), abs=1e-4)


def _llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    ))  # fmt: skip


def test_attention_is_that_of_before_once_the_training_ends() -> None:
    model = _llama()
    before = model.config._attn_implementation
    with attention(model, "eager"):
        assert model.config._attn_implementation == "eager"
        with attention(model, before):
            assert model.config._attn_implementation == before
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == before
    with attention(model, "auto"):
        assert model.config._attn_implementation == before


def test_attention_that_is_not_there_is_one_sentence() -> None:
    with (
        pytest.raises(ConfigError, match=r"^finetune\.attn_implementation is flash_attention_3, which cannot"),
        attention(_llama(), "flash_attention_3"),
    ):
        pass


def test_model_without_recomputation_is_one_sentence() -> None:
    class Plain:
        def gradient_checkpointing_enable(self, _: object) -> None:
            raise ValueError("Plain does not support gradient checkpointing.")

    set_up_base(Plain(), FinetuneSettings())
    with pytest.raises(ConfigError, match=r"^finetune\.gradient_checkpointing: Plain does not support"):
        set_up_base(Plain(), FinetuneSettings(gradient_checkpointing=True))


def test_gpu_has_one_kernel_for_all_parameters_and_a_cpu_the_plain_optimizer() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    assert make_optimizer(parameters, FinetuneSettings(), torch.device("cuda")).defaults["fused"] is True
    assert make_optimizer(parameters, FinetuneSettings(), torch.device("cpu")).defaults["fused"] is None


def test_tracker_that_is_not_installed_is_one_sentence(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(ConfigError, match=says("finetune.track names mlflow", "not installed", "pip install mlflow")):
        accelerator_of(town("finetune.track=[tensorboard, mlflow]"))


@pytest.mark.parametrize(
    ("kind", "version", "said"),
    [(DistributedType.DEEPSPEED, 2, "DEEPSPEED"), (DistributedType.FSDP, 1, "set fsdp_version to 2"),
     (DistributedType.MULTI_CPU, 2, "FSDP, which needs a GPU")],
)  # fmt: skip
def test_way_to_share_a_training_that_would_be_passed_over_is_refused(
    monkeypatch: pytest.MonkeyPatch, kind: DistributedType, version: int, said: str
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    accelerator = cast(Accelerator, SimpleNamespace(distributed_type=kind, is_fsdp2=version == 2))
    with pytest.raises(ConfigError, match=said):
        launch._check_kind(accelerator)
