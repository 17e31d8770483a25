"""`whereupon finetune`: LoRA training under accelerate, validated with the metrics and search that judge it later."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from ..arrays import Int64
from ..console import say
from ..decode.branching import TrieTensors
from ..decode.hardware import choose_device, has_native_bf16
from ..decode.models import adapter_identity, build_encoder, load_base_model, load_tokenizer
from ..decode.transformers_engine import longest_text
from ..errors import ConfigError, DataError, ModelError
from ..histories import Histories, read_histories
from ..prompts import PromptEncoder
from .adapter import Keeper
from .lessons import Lesson, collate, lesson_of, plan_batches
from .loss import CatalogueModel
from .progress import TrainingProgress
from .settings import FinetuneSettings
from .validation import Validator

if TYPE_CHECKING:
    from ..config import Config

CHECKPOINT_EVERY_S = 300.0
FIRST_FAST_FP16 = (7, 0)


@dataclass(frozen=True)
class Schedule:
    """Which batch comes when: `epoch` and `batch` of a step follow from the seed, so that a killed run resumes."""

    length_W: Int64
    settings: FinetuneSettings
    seed: int
    num_processes: int

    def batches(self, epoch: int) -> list[Int64]:
        """Batches of one epoch, a multiple of the number of processes (the first ones fill up the last step)."""
        planned = plan_batches(self.length_W, self.settings.batch_tokens, np.random.default_rng([self.seed, epoch]))
        missing = -len(planned) % self.num_processes
        return planned + [planned[i % len(planned)] for i in range(missing)]

    def num_steps(self) -> int:
        whole, part = divmod(self.settings.epochs, 1)
        full = sum(len(self.batches(e)) // self.num_processes for e in range(int(whole)))
        return max(1, full + round(part * len(self.batches(int(whole))) / self.num_processes))


def finetune(config: Config) -> Path:
    """Train an adapter for the run and return its folder.

    Raises DataError without training events, ConfigError for `finetune.target_modules` that the base model does not
    have or a `prompts.budget_tokens` longer than it sees, ModelError where the training diverges.
    """
    settings = config.finetune
    device = choose_device(config.model)
    accelerator = Accelerator(mixed_precision=_precision(settings, device), cpu=device.type == "cpu")
    torch.manual_seed(config.seed)
    histories = read_histories(config.run)
    tokenizer = load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.location, config.prompts, tokenizer)
    lessons = make_lessons(histories, encoder)
    schedule = Schedule(np.array([len(x.tokens_L) for x in lessons]), settings, config.seed, accelerator.num_processes)

    base = load_base_model(config.model)
    _check_budget(base, config.prompts.budget_tokens)
    peft_model = add_lora(base, settings)
    module = CatalogueModel(
        peft_model, TrieTensors.of(encoder.catalogue.trie, accelerator.device), settings.temperature
    )
    trainable = [p for p in module.parameters() if p.requires_grad]
    optimizer = AdamW(trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    num_steps = schedule.num_steps()
    scheduler = get_cosine_schedule_with_warmup(optimizer, int(settings.warmup_fraction * num_steps), num_steps)
    module, optimizer = accelerator.prepare(module, optimizer)

    validator = Validator.build(histories, encoder, settings, config.seed)
    identity = adapter_identity(config.model, encoder, tokenizer, histories.title_recipe)
    keeper = Keeper(config, peft_model, identity, histories.data_hash, accelerator.is_main_process,
                    accelerator.num_processes)  # fmt: skip
    if accelerator.is_main_process:
        _announce(lessons, num_steps, settings, accelerator, trainable, validator)
    _train(accelerator, module, optimizer, scheduler, lessons, schedule, num_steps, validator, keeper)
    return keeper.finish()


def _train(
    accelerator: Accelerator, module: CatalogueModel, optimizer: Any, scheduler: LambdaLR, lessons: list[Lesson],
    schedule: Schedule, num_steps: int, validator: Validator, keeper: Keeper,
) -> None:  # fmt: skip
    settings = schedule.settings
    step, train_loss = keeper.resume(optimizer, scheduler)
    done, epoch, saved = 0, 0, time.perf_counter()
    with TrainingProgress(num_steps, step, train_loss, accelerator.is_main_process) as progress:
        while step < num_steps and not keeper.out_of_patience:
            batches = schedule.batches(epoch)
            per_epoch = len(batches) // accelerator.num_processes
            marks = _validation_steps(per_epoch, settings.validations_per_epoch)
            for index in range(step - done, per_epoch):
                began = time.perf_counter()
                mine = batches[index * accelerator.num_processes + accelerator.process_index]
                batch = collate([lessons[i] for i in mine]).to(accelerator.device)
                module.train()
                with accelerator.autocast():
                    loss = module(batch)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(module.parameters(), settings.max_grad_norm)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                step += 1
                nats = float(loss.detach())
                if not math.isfinite(nats):
                    raise _diverged(step, f"the loss is {nats}")
                progress.step(step, nats, batch.num_titles, batch.num_tokens, time.perf_counter() - began)
                if time.perf_counter() - saved > CHECKPOINT_EVERY_S:
                    saved = time.perf_counter()
                    keeper.checkpoint(step, progress.mean_loss(), optimizer, scheduler)
                if index + 1 in marks or step == num_steps:
                    scores = _validated(accelerator, module, validator, step)
                    # The main process's word, so that all lose patience at the same step.
                    scores, train_loss = broadcast_object_list([scores, progress.mean_loss()])
                    keeper.keep(step, scores, train_loss, optimizer, scheduler)
                if step >= num_steps or keeper.out_of_patience:
                    break
            done, epoch = done + per_epoch, epoch + 1


def _validated(accelerator: Accelerator, module: CatalogueModel, validator: Validator, step: int) -> dict[str, float]:
    """Metrics, on the main process only; ModelError where training has ruined the adapter, which is not kept then."""
    if not all(bool(p.isfinite().all()) for p in module.parameters() if p.requires_grad):
        raise _diverged(step, "weights are no numbers any more")
    try:
        return validator.validate(accelerator, module) if accelerator.is_main_process else {}
    except ModelError as error:
        raise _diverged(step, "scores are no numbers any more") from error


def make_lessons(histories: Histories, encoder: PromptEncoder) -> list[Lesson]:
    """Every window over the training events, as a lesson; events of later splits are not looked at."""
    events = histories.events.filter(pl.col("split") == "train")
    if not events.height:
        raise DataError(
            "There are no training events: expected some before the validation split begins; see histories.split."
        )
    text = encoder.text(events, len(histories.user_ids))
    windows = text.windows
    encoded = text.encode_windows(windows)
    bounds = zip(windows.start_W, windows.end_W, strict=True)
    items = [text.item_idx_E[start:end] for start, end in bounds]
    return [lesson_of(window, item, encoder.catalogue.trie) for window, item in zip(encoded, items, strict=True)]


def add_lora(model: Any, settings: FinetuneSettings) -> PeftModel:
    """A fresh LoRA adapter on the model's linear layers; the base weights are frozen."""
    lora = LoraConfig(
        r=settings.rank, lora_dropout=settings.dropout, target_modules=settings.target_modules, task_type="CAUSAL_LM",
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft says int and takes any scale
    )  # fmt: skip
    try:
        adapted = get_peft_model(model, lora)
    except ValueError as error:
        linear = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        raise ConfigError(
            f"finetune.target_modules should be all-linear or name modules of the base model "
            f"({', '.join(sorted(linear))}), not {settings.target_modules!r}."
        ) from error
    assert isinstance(adapted, PeftModel)
    return adapted


def _check_budget(model: PreTrainedModel, budget_tokens: int) -> None:
    bound = longest_text(model)
    if bound is not None and budget_tokens > bound:
        raise ConfigError(
            f"prompts.budget_tokens is {budget_tokens} but the model {model.config.name_or_path} sees at most {bound} "
            f"tokens: set it to at most {bound}."
        )


def _diverged(step: int, how: str) -> ModelError:
    return ModelError(
        f"The training diverged at step {step} ({how}): lower finetune.learning_rate; "
        "the best adapter so far, if any, is kept."
    )


def _validation_steps(per_epoch: int, times: int) -> set[int]:
    return {round(per_epoch * (i + 1) / times) for i in range(times)}


def _precision(settings: FinetuneSettings, device: torch.device) -> str:
    """For accelerate. Raises ConfigError for fp16 on a CPU, where nothing scales gradients."""
    on_gpu = device.type == "cuda"
    if settings.mixed_precision == "fp16" and not on_gpu:
        raise ConfigError("finetune.mixed_precision is fp16 but training runs on a CPU: set it to auto, bf16 or no.")
    if settings.mixed_precision != "auto":
        return settings.mixed_precision
    if has_native_bf16("cuda" if on_gpu else "cpu"):
        return "bf16"
    # Older GPUs have no matrix units, or multiply fp16 at a small part of their speed.
    return "fp16" if on_gpu and torch.cuda.get_device_capability() >= FIRST_FAST_FP16 else "no"


def _announce(
    lessons: list[Lesson], num_steps: int, settings: FinetuneSettings, accelerator: Accelerator,
    trainable: list[Any], validator: Validator,
) -> None:  # fmt: skip
    titles, tokens = sum(x.num_titles for x in lessons), sum(len(x.tokens_L) for x in lessons)
    decisions = sum(len(x.node_P) for x in lessons)
    say(f"{len(lessons):,} windows teach {titles:,} titles in {tokens:,} tokens: "
        f"{titles / len(lessons):.1f} titles a pass")  # fmt: skip
    say(f"logits at {decisions:,} branching positions, {decisions / tokens:.0%} of all")
    say(f"{num_steps:,} steps of up to {settings.batch_tokens:,} tokens x {accelerator.num_processes} process(es)")
    say(f"LoRA rank {settings.rank}: {sum(p.numel() for p in trainable):,} parameters; {accelerator.device}, "
        f"mixed precision {accelerator.mixed_precision}; validating on {validator.num_events} events")  # fmt: skip
