"""`whereupon finetune --estimate`: how long the training will take on this machine, from a few steps of it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..console import say
from ..decode.models import adapter_identity, build_encoder, load_base_model, load_tokenizer
from ..histories import read_histories
from .continual import check_start
from .dataset import open_examples
from .launch import accelerator_of, as_launched, attention, set_up_base
from .memory import plan_memory
from .model import CatalogueModel, add_lora
from .optimizers import make_optimizer
from .schedule import Schedule

if TYPE_CHECKING:
    from ..config import Config

CPU_STEPS, GPU_STEPS = 2, 5  # the first one, which warms up, is not counted


@dataclass(frozen=True)
class Estimate:
    """Tokens of the whole training, and how many this machine trains on in a second."""

    num_steps: int
    num_tokens: int
    tokens_per_s: float

    @property
    def minutes(self) -> float:
        """Of the steps alone; validation and the choice of rankers come on top."""
        return self.num_tokens / self.tokens_per_s / 60


def estimate(config: Config) -> Estimate:
    """Take a few steps, and say how long all of them would take. Raises what `finetune` raises.

    What is kept are the examples that the training will read. On top of rankers these need the rankers, so that others
    are made for the estimate and not kept.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return _estimated(as_launched(config), Path(scratch) if config.on_top else config.run)


def _estimated(config: Config, folder: Path) -> Estimate:
    """`folder`: where the examples are."""
    check_start(config.finetune, None)
    settings, accelerator, histories = config.finetune, accelerator_of(config), read_histories(config.run)
    tokenizer = load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    identity = adapter_identity(config.model, encoder, tokenizer, histories.title_recipe)
    with accelerator.main_process_first():
        examples = open_examples(folder, histories, encoder, identity, settings)
    schedule = Schedule(examples.length_W, settings, config.seed, accelerator.num_processes)
    steps = [batches for batches, _ in schedule.steps()]
    mine = [batch for batches in steps for batch in batches[accelerator.process_index :: accelerator.num_processes]]
    base = load_base_model(config.model)
    set_up_base(base, settings)
    trie = encoder.catalogue.trie
    module = CatalogueModel(add_lora(base, settings), config.temperature, settings)
    split = plan_memory(module, examples, schedule, trie, accelerator)
    optimizer = make_optimizer([p for p in module.parameters() if p.requires_grad], settings, accelerator.device)
    module, optimizer = accelerator.prepare(module, optimizer)
    num = CPU_STEPS if accelerator.device.type == "cpu" else GPU_STEPS
    chosen = [part for batch in (mine * num)[:num] for part in np.array_split(batch, split) if len(part)]
    seconds, tokens = 0.0, 0
    with attention(base, settings.attn_implementation):
        for number, windows in enumerate(chosen):
            began = time.perf_counter()
            with accelerator.autocast():
                loss = module(examples[windows].to(accelerator.device))
            accelerator.backward(loss)
            optimizer.step()
            loss.item()  # a GPU has done it only then
            if number:
                seconds, tokens = seconds + time.perf_counter() - began, tokens + int(examples.length_W[windows].sum())
            optimizer.zero_grad()
    num_tokens = int(sum(examples.length_W[batch].sum() for batch in mine))
    found = Estimate(len(steps), num_tokens, tokens / seconds)
    say(f"this machine trains on about {found.tokens_per_s:,.0f} tokens/s ({accelerator.mixed_precision} precision): "
        f"{found.num_steps:,} steps of {found.num_tokens:,} tokens take about {max(1, round(found.minutes))} min; "
        "choosing rankers and validation come on top")  # fmt: skip
    return found
