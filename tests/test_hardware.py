"""The formulas of docs/hardware.py agree with what torch and peft do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from whereupon.docs import hardware
from whereupon.docs.hardware import BATCH_TOKENS, MACHINES, MODELS, RANK, Model


@pytest.mark.parametrize(
    ("name", "billions"), [("SmolLM2-135M", 0.1345), ("Qwen2.5-1.5B", 1.5437), ("Qwen2.5-7B", 7.6156)]
)
def test_weights_are_those_of_the_published_model(name: str, billions: float) -> None:
    [model] = [model for model in MODELS if model.name == name]
    assert model.weights / 1e9 == pytest.approx(billions, rel=1e-3)


@pytest.fixture
def one_precision() -> Iterator[None]:
    """Accelerate allows one precision a process, and other tests train in float32."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("one_precision")
@pytest.mark.parametrize("shape", [Model("a", 2, 128, 512, 64, 256), Model("b", 3, 192, 384, 192, 256, tied=False)])
def test_weights_adapter_and_activations_are_those_of_a_real_model(shape: Model) -> None:
    import torch
    from accelerate import Accelerator
    from transformers import AutoModelForCausalLM, LlamaConfig

    from whereupon.finetune.memory import _cost_of_length
    from whereupon.finetune.model import add_lora
    from whereupon.finetune.settings import FinetuneSettings

    base = AutoModelForCausalLM.from_config(
        LlamaConfig(
            hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=shape.layers,
            vocab_size=shape.vocabulary, num_attention_heads=shape.hidden // 32,
            num_key_value_heads=shape.key_width // 32, tie_word_embeddings=shape.tied,
        ),
        dtype=torch.bfloat16,
    )  # fmt: skip
    norms = shape.hidden * (2 * shape.layers + 1)
    assert sum(p.numel() for p in base.parameters()) == shape.weights + norms
    adapted = add_lora(base, FinetuneSettings(rank=RANK))
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == shape.adapter_weights
    saved = _cost_of_length(adapted.get_base_model(), Accelerator(cpu=True, mixed_precision="bf16"), False)
    assert (saved(128) - saved(64)) / 64 == pytest.approx(hardware.activation_bytes(shape), rel=0.01)


def test_defaults_of_the_page_are_those_of_the_settings() -> None:
    from whereupon.finetune.settings import FinetuneSettings

    assert (FinetuneSettings().rank, FinetuneSettings().batch_tokens) == (RANK, BATCH_TOKENS)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: str(machine.name))
def test_machine_holds_its_models_and_larger_ones_are_slower(machine: hardware.Machine) -> None:
    assert all(hardware.training_bytes(model) < 0.9e9 * machine.memory_gb for model in machine.models)
    rates = [hardware.tokens_per_s(model, machine) for model in machine.models]
    assert rates == sorted(rates, reverse=True)


def test_measured_model_keeps_its_measured_speed() -> None:
    [machine] = [machine for machine in MACHINES if machine.measured]
    assert hardware.tokens_per_s(hardware.SMOLLM2_135M, machine) == 280


def test_checkpointing_and_nf4_need_less_memory() -> None:
    for model in MODELS:
        plain = hardware.training_bytes(model)
        both = hardware.training_bytes(model, nf4=True, checkpointing=True)
        assert both < hardware.training_bytes(model, nf4=True) < plain
        assert both < hardware.training_bytes(model, checkpointing=True) < plain
