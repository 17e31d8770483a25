"""`whereupon finetune --estimate`: how long the training will take on this machine, from a few steps of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..console import say
from ..decode.branching import TrieTensors
from ..decode.models import build_encoder, load_base_model, load_tokenizer
from ..histories import read_histories
from .lessons import Schedule, collate
from .model import CatalogueModel, add_lora
from .train import accelerator_of, make_lessons

if TYPE_CHECKING:
    from ..config import Config

NUM_STEPS = 3  # the first one, which warms up, is not counted


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
    """Take a few steps, keep nothing, and say how long all of them would take. Raises what `finetune` raises."""
    accelerator = accelerator_of(config)
    histories = read_histories(config.run)
    encoder = build_encoder(histories.items, histories.location, config.prompts, load_tokenizer(config.model))
    lessons = make_lessons(histories, encoder)
    lengths = np.array([len(lesson.tokens_L) for lesson in lessons])
    schedule = Schedule(lengths, config.finetune, config.seed, accelerator.num_processes)
    batches = [batches[accelerator.process_index] for batches, _ in schedule.steps()]
    base = add_lora(load_base_model(config.model), config.finetune)
    module = CatalogueModel(base, TrieTensors.of(encoder.catalogue.trie, accelerator.device), config.temperature)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.0)
    module, optimizer = accelerator.prepare(module, optimizer)
    seconds, tokens = 0.0, 0
    for number, batch in enumerate((batches * NUM_STEPS)[:NUM_STEPS]):
        began = time.perf_counter()
        with accelerator.autocast():
            loss = module(collate([lessons[i] for i in batch], device=accelerator.device))
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if number:
            seconds, tokens = seconds + time.perf_counter() - began, tokens + int(lengths[batch].sum())
    found = Estimate(len(batches), int(sum(lengths[batch].sum() for batch in batches)), tokens / seconds)
    say(f"this machine trains on about {found.tokens_per_s:,.0f} tokens/s ({accelerator.mixed_precision} precision): "
        f"{found.num_steps:,} steps of {found.num_tokens:,} tokens take about {max(1, round(found.minutes))} min; "
        "choosing rankers and validation come on top")  # fmt: skip
    return found
