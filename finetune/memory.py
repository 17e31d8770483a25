"""The bytes that a training will need, by what they are for, before its first step; and batches in parts if need be.

Activations are measured, not guessed: what one short text saves for the backward pass, at three lengths, gives what a
token costs in this model, whatever its layers are. Shapes: P decisions of a batch, J their edges, U tokens on these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from torch.autograd.graph import saved_tensors_hooks

from ..arrays import Int64
from ..catalogue import Trie
from ..console import say
from ..decode.transformers_engine import split_model
from .dataset import Examples
from .model import CatalogueModel
from .schedule import Schedule

_LENGTHS: Final = (32, 64, 128)
_BYTES_AN_EDGE: Final = 24 + 16 + 16  # three int64 numbers, its logit through to the loss, and the way back
_SHARE: Final = 0.92  # of the memory that may be planned: allocators lose some between blocks


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one process in the largest step: fixed ones, and those of a batch; `there`: how many it may use."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    edges: int
    there: int

    @property
    def fixed(self) -> int:
        return self.weights + self.adapter + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        return self.fixed + self.activations + self.edges

    @property
    def split(self) -> int:
        """The least number of parts of each batch with which all is within what is there."""
        free = _SHARE * self.there - self.fixed
        return max(1, math.ceil((self.activations + self.edges) / free)) if free > 0 else 1

    def line(self) -> str:
        """For a person."""
        parts = ", ".join(
            f"{name.replace('edges', 'decision edges')} {_size(getattr(self, name))}"
            for name in ("weights", "adapter", "gradients", "optimizer", "activations", "edges")
        )
        return f"memory of the largest step: {_size(self.total)} of {_size(self.there)} there ({parts})"


def plan_memory(
    module: CatalogueModel, examples: Examples, schedule: Schedule, trie: Trie, accelerator: Accelerator
) -> int:  # fmt: skip
    """Say what a training will need, and give the number of parts of each batch with which it fits.

    The parts are as many on all processes, and 1 on a CPU, whose system can lend more than there is. The module is one
    that is not wrapped for several processes yet.
    """
    plan = memory_plan(module, examples, schedule, trie, accelerator)
    on_gpu, split = accelerator.device.type == "cuda", 1
    if on_gpu:
        wanted = torch.tensor([plan.split], device=accelerator.device)
        split = int(accelerator.gather(wanted).max())
    if accelerator.is_main_process:
        say(plan.line())
        if split > 1:
            say(f"batches are passed in {split} parts, so that they fit; the steps stay the same")
        elif plan.total > plan.there:
            say("that is more than there is: lower finetune.batch_tokens (and raise finetune.accumulate for it) or set "
                "finetune.gradient_checkpointing", "yellow")  # fmt: skip
    return split


def memory_plan(
    module: CatalogueModel, examples: Examples, schedule: Schedule, trie: Trie, accelerator: Accelerator
) -> MemoryPlan:  # fmt: skip
    """The plan for the largest batches of the first epoch. Takes no random numbers."""
    base: Any = module.model.get_base_model()
    parts = list(module.model.parameters())
    weights, adapter = (
        sum(p.numel() * p.element_size() for p in parts if p.requires_grad == trained) for trained in (False, True)
    )
    if module.teacher is not None:
        weights += sum(p.numel() * p.element_size() for p in module.teacher.model.parameters())
    cost = _cost_of_length(base, accelerator, schedule.settings.gradient_checkpointing)
    batches = [batch for batch in schedule.batches(0) if len(batch)]
    costs = [len(batch) * cost(int(examples.length_W[batch].max())) for batch in batches]
    edges = [int(examples.decisions_W[batch].sum()) for batch in batches]
    vocabulary, width = base.get_output_embeddings().weight.shape
    at_all_tokens = 8 * int(vocabulary) if module.objective == "plain" else 0  # logits and their gradient
    found = max(
        at_all_tokens * edges[number] or _edge_bytes(examples, batches[number], trie, int(width))
        for number in {int(np.argmax(costs)), int(np.argmax(edges))}
    )
    there = _there(accelerator.device, weights + adapter)
    if accelerator.is_fsdp2:  # each process keeps its part
        weights, adapter = weights // accelerator.num_processes, adapter // accelerator.num_processes
    copies = 2 if accelerator.num_processes > 1 else 1  # gradients, and the buckets in which they are averaged
    # AdamW has two numbers for each weight, of 32 bits (as the adapter is) or of 8.
    states = 2 * adapter if schedule.settings.optimizer == "adamw" else adapter // 2
    return MemoryPlan(weights, adapter, copies * adapter, states, int(max(costs)), found, there)


def _there(device: torch.device, held: int) -> int:
    """Bytes that this process holds already, as weights, and may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + int(torch.cuda.memory_reserved(device))
    return int(psutil.virtual_memory().available) + held


def _cost_of_length(base: Any, accelerator: Accelerator, recomputed: bool) -> Any:
    """From the length of a text to the bytes that it saves for the backward pass: fixed + a * length + b * length^2.

    `recomputed`: with gradient checkpointing, which keeps what goes into each layer, and one layer's activations.
    """
    backbone, _ = split_model(base)
    saved = np.array([_saved_bytes(backbone, length, accelerator) for length in _LENGTHS], np.float64)
    _, a, b = np.linalg.solve(np.vander(np.array(_LENGTHS, np.float64), increasing=True), saved)
    a, b = max(0.0, float(a)), max(0.0, float(b))
    if recomputed:
        text: Any = base.config.get_text_config()
        layers = int(text.num_hidden_layers)
        a, b = a / layers + layers * int(text.hidden_size) * 4, b / layers
    return lambda length: a * length + b * length * length


def _saved_bytes(backbone: Any, length: int, accelerator: Accelerator) -> int:
    """What one text of so many tokens keeps for the backward pass, without the weights and without dropout."""
    skipped = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skipped:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = backbone.training
    backbone.eval()
    tokens_RL = torch.zeros(1, length, dtype=torch.int64, device=accelerator.device)
    with saved_tensors_hooks(note, lambda tensor: tensor), accelerator.autocast():
        hidden = backbone(input_ids=tokens_RL, use_cache=False).last_hidden_state
    total = sum(kept.values())  # as long as `hidden` holds them
    del hidden
    backbone.train(was_training)
    return total


def _edge_bytes(examples: Examples, windows: Int64, trie: Trie, width: int) -> int:
    """Of the decisions of a batch: their edges, and the logits of all tokens on any of them at each decision."""
    read = examples.read(windows)
    num_P = sum(len(one.position_P) for one in read)
    if examples.prior is not None:
        decision_P = np.concatenate([one.decision_P for one in read if one.decision_P is not None])
        num_J = int(examples.prior.count_D[decision_P].sum())
        num_U = min(num_J, len(np.unique(trie.child_token_C)))
    else:
        node_P = np.concatenate([one.node_P for one in read])
        num_J = int((trie.child_ptr_B1[node_P + 1] - trie.child_ptr_B1[node_P]).sum())
        nodes = np.unique(node_P)
        edges = [trie.child_token_C[trie.child_ptr_B1[n] : trie.child_ptr_B1[n + 1]] for n in nodes.tolist()]
        num_U = len(np.unique(np.concatenate(edges))) if edges else 0
    return _BYTES_AN_EDGE * num_J + 8 * num_P * num_U + 4 * num_U * width


def _size(num_bytes: int) -> str:
    """In the largest unit that it has one of."""
    for unit, power in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= power:
            return f"{num_bytes / power:.2f} {unit}"
    return f"{num_bytes / 1e3:.0f} kB"
