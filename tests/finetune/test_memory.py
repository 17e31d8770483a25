"""The memory plan, and what is done where memory runs out."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.autograd.graph import saved_tensors_hooks

from whereupon.config import Config
from whereupon.decode.models import adapter_identity, build_encoder, load_base_model, load_tokenizer
from whereupon.errors import ModelError
from whereupon.finetune.dataset import open_examples
from whereupon.finetune.memory import MemoryPlan, _cost_of_length, memory_plan
from whereupon.finetune.model import CatalogueModel, add_lora
from whereupon.finetune.schedule import Schedule
from whereupon.finetune.train import finetune
from whereupon.histories import read_histories
from whereupon.tests.texts import says

Town = Callable[..., Config]
SHORT = ("finetune.epochs=2", "finetune.validations_per_epoch=1", "finetune.log_every=1")
PLAN = MemoryPlan(weights=600, adapter=10, gradients=10, optimizer=20, activations=800, edges=100, there=1000)


def test_plan_adds_up_and_splits_until_it_fits() -> None:
    assert (PLAN.fixed, PLAN.total) == (640, 1540)
    assert PLAN.split == 4  # 900 bytes of a batch in 0.92 * 1000 - 640 = 280
    assert replace(PLAN, there=10_000).split == 1
    assert replace(PLAN, there=100).split == 1, "no number of parts helps weights that are too large"


def test_plan_is_said_in_units_that_can_be_read() -> None:
    said = replace(PLAN, weights=2_500_000_000, there=24_000_000_000).line()
    assert re.search(says("of 24.00 GB there", "weights 2.50 GB", "activations 1 kB", "decision edges 0 kB"), said)


def _planned(config: Config) -> tuple[MemoryPlan, CatalogueModel, Any]:
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    identity = adapter_identity(config.model, encoder, tokenizer, histories.title_recipe)
    examples = open_examples(config.run, histories, encoder, identity, config.finetune)
    schedule = Schedule(examples.length_W, config.finetune, config.seed, 1)
    trie = encoder.catalogue.trie
    adapted = add_lora(load_base_model(config.model), config.finetune)
    module = CatalogueModel(adapted, 1.0)
    accelerator = Accelerator(mixed_precision="no", cpu=True)
    largest = max(schedule.batches(0), key=lambda batch: len(batch) * int(examples.length_W[batch].max()))
    return memory_plan(module, examples, schedule, trie, accelerator), module, examples[largest]


def test_planned_bytes_are_those_of_the_model_and_of_its_largest_batch(town: Town) -> None:
    """A step as it is: everything that the largest batch of the first epoch keeps for its backward pass."""
    plan, module, batch = _planned(town())
    sizes = {trained: 0 for trained in (False, True)}
    for p in module.parameters():
        sizes[p.requires_grad] += p.numel() * p.element_size()
    assert (plan.weights, plan.adapter, plan.optimizer) == (sizes[False], sizes[True], 2 * sizes[True])
    held = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in held:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = module(batch)
    assert plan.activations + plan.edges == pytest.approx(sum(kept.values()), rel=0.15)
    assert loss.isfinite()


def test_plan_takes_no_random_number_and_leaves_the_model_in_training(town: Town) -> None:
    module = _planned(town("finetune.dropout=0.5"))[1]
    assert module.training
    accelerator = Accelerator(mixed_precision="no", cpu=True)
    before = torch.get_rng_state()
    _cost_of_length(module.model.get_base_model(), accelerator, recomputed=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_recomputation_is_planned_with_fewer_activations(town: Town) -> None:
    plain, _, _ = _planned(town())
    saving, _, _ = _planned(town("finetune.gradient_checkpointing=true"))
    assert saving.activations < plain.activations


def _out_of_memory(monkeypatch: pytest.MonkeyPatch, too_many: int) -> list[int]:
    """As a GPU that cannot hold so many windows at once; the sizes that were tried."""
    forward, tried = CatalogueModel.forward, list[int]()

    def passing(self: CatalogueModel, batch: Any) -> torch.Tensor:
        tried.append(len(batch.tokens_RL))
        if self.training and len(batch.tokens_RL) >= too_many:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, batch)

    monkeypatch.setattr(CatalogueModel, "forward", passing)
    return tried


def _losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_memory_that_runs_out_makes_smaller_batches_and_the_same_steps(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = finetune(town(*SHORT, run="whole"))
    tried = _out_of_memory(monkeypatch, too_many=4)
    found = finetune(town(*SHORT, run="split"))
    assert max(tried) >= 4 > max(tried[-3:])
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(says("step 1 does not fit into memory", "passed in 2 parts", "stay the same"), said)
    assert _losses(found) == pytest.approx(_losses(whole), abs=1e-5)
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, found))
    assert all(torch.allclose(one[name], other[name], atol=1e-3) for name in one)


@pytest.mark.slow
def test_window_that_does_not_fit_alone_is_one_sentence(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = _out_of_memory(monkeypatch, too_many=1)
    with pytest.raises(ModelError, match=says("not enough memory", "one window", "gradient_checkpointing")):
        finetune(town(*SHORT))
    assert tried[-1] == 1
    assert np.all(np.diff(tried) <= 0)
