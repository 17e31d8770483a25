"""`whereupon finetune`: LoRA training under accelerate, validated with the metrics and search that judge it later."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from .. import __version__
from ..arrays import Int64
from ..catalogue import Trie
from ..console import bar, say, talk
from ..decode.branching import TrieTensors
from ..decode.hardware import choose_device, has_native_bf16
from ..decode.models import adapter_identity, build_encoder, load_base_model, load_tokenizer
from ..decode.transformers_engine import TransformersEngine, longest_text
from ..errors import ConfigError, DataError, ModelError, NonFiniteError
from ..eval.stacking import calibrate_run, run_stack, stack_recipe
from ..files import sha256_text
from ..histories import Histories, read_histories
from ..prompts import PromptEncoder
from ..rankers.blend import ALONE
from ..rankers.stack import Stack, fit_stack
from .adapter import KINDS, Keeper, only_training
from .lessons import Lesson, Schedule, collate, lesson_of
from .model import CatalogueModel, add_lora
from .on_top import TrainingPrior, training_prior
from .optimizers import check_optimizer, make_optimizer
from .settings import FinetuneSettings
from .validation import Validator

if TYPE_CHECKING:
    from ..config import Config

CHECKPOINT_EVERY_S = 300.0
LINE_EVERY_S = 30.0  # of the progress, in a log
SMOOTHING = 0.98
FIRST_FAST_FP16 = (7, 0)


def finetune(config: Config) -> Path:
    """Train an adapter for the run, a new version, and return its folder.

    Raises DataError without training events, ConfigError for modules that cannot be trained (`add_lora`), an optimizer
    that does not run here (`check_optimizer`), a `prompts.budget_tokens` longer than the base model sees or flags of
    `accelerate launch` that would be ignored, ModelError for a base model that cannot be searched, before the first
    step, or where the training diverges.
    """
    settings = config.finetune
    accelerator = accelerator_of(config)
    check_optimizer(settings, accelerator.device)
    torch.manual_seed(config.seed)
    histories = read_histories(config.run)
    tokenizer = load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.location, config.prompts, tokenizer)
    base = _base_model(config)
    TransformersEngine(base, encoder.catalogue.trie)  # what validates later: a model that it refuses is not trained
    peft_model = add_lora(base, settings)
    with only_training(config.run, accelerator.is_main_process):
        stack, prior = (
            on_top_of(config, histories, encoder.catalogue.trie, accelerator) if config.on_top else (None, None)
        )
        lessons = make_lessons(histories, encoder, prior)
        schedule = Schedule(
            np.array([len(x.tokens_L) for x in lessons]), settings, config.seed, accelerator.num_processes
        )
        trie = TrieTensors.of(encoder.catalogue.trie, accelerator.device)
        module = CatalogueModel(peft_model, trie, config.temperature)
        trainable = [p for p in module.parameters() if p.requires_grad]
        optimizer = make_optimizer(trainable, settings)
        module, optimizer = accelerator.prepare(module, optimizer)
        if process := accelerator.process_index:  # the same adapter on all, but dropout of their own
            torch.manual_seed(int(np.random.SeedSequence([config.seed, process]).generate_state(1)[0]))

        validator = Validator.build(histories, encoder, settings, config.seed, stack)
        identity = adapter_identity(config.model, encoder, tokenizer, histories.title_recipe)
        identity["priors"] = stack.recipe.identity if stack else ALONE
        keeper = Keeper(config, peft_model, accelerator, {**identity, "data_hash": histories.data_hash}, validator.hash)
        if accelerator.is_main_process:
            _announce(lessons, schedule, accelerator, trainable, validator)
        _Training(accelerator, module, optimizer, lessons, schedule, validator, keeper, prior).run()
        folder = keeper.finish()
    if accelerator.is_main_process and validator.num_events:
        calibrate_run(config, adapter=folder, stack=stack)
    elif stack and accelerator.is_main_process:
        run_stack(config, histories, "test")  # which answers need
    return folder


def _base_model(config: Config) -> Any:
    """Raises ConfigError for prompts longer than the model sees."""
    base = load_base_model(config.model)
    budget, bound = config.prompts.budget_tokens, longest_text(base)
    if bound is not None and budget > bound:
        raise ConfigError(
            f"prompts.budget_tokens is {budget} but the model {config.model.base} sees at most {bound} tokens: "
            f"set it to at most {bound}."
        )
    return base


@dataclass
class _Training:
    """One training on all its processes, each of which holds one of these."""

    accelerator: Accelerator
    module: CatalogueModel
    optimizer: Any
    lessons: list[Lesson]
    schedule: Schedule
    validator: Validator
    keeper: Keeper
    prior: TrainingPrior | None = None

    def run(self) -> None:
        """Take every step that is not done yet, and every validation."""
        keeper, num_steps = self.keeper, self.schedule.num_steps()
        self._resume(num_steps)
        now, saved = keeper.standing, time.perf_counter()
        progress = TrainingProgress(num_steps, now.step, now.train_loss, self.accelerator.is_main_process)
        with progress.bar:
            for step, (batches, is_mark) in enumerate(self.schedule.steps(), 1):
                if step < now.step:
                    continue
                if step > now.step:
                    late = time.perf_counter() - saved > CHECKPOINT_EVERY_S
                    is_due = self._step(step, batches, self.schedule.learning_rate(step - 1, num_steps), late, progress)
                    now.step, now.train_loss = step, progress.loss
                    if is_due or is_mark:
                        if not all(bool(p.isfinite().all()) for p in self.module.parameters() if p.requires_grad):
                            raise _diverged(step, "weights are no numbers any more")
                        keeper.checkpoint(self.optimizer)
                        saved = time.perf_counter()
                if is_mark and now.validated < step:
                    try:
                        scores = self.validator.validate(self.accelerator, self.module)
                    except NonFiniteError as error:
                        raise _diverged(step, "scores are no numbers any more") from error
                    keeper.keep(scores, self.schedule.learning_rate(step, num_steps), self.optimizer)
                    saved = time.perf_counter()
                if keeper.out_of_patience:
                    break

    def _resume(self, num_steps: int) -> None:
        written_by, num = self.keeper.resume(self.optimizer), self.accelerator.num_processes
        if written_by == num:
            return
        now = self.keeper.standing
        found, now.step = now.step, self.schedule.step_after(now.step, written_by)
        now.validated = now.step if now.validated == found else min(now.validated, now.step - 1)
        if self.accelerator.is_main_process:
            say(f"the checkpoint was written by {written_by} processes, now there are {num}: its step {found} is "
                f"step {now.step} of {num_steps} here, and tokens per step, learning rates and dropout change from "
                "now on")  # fmt: skip

    def _step(
        self, step: int, batches: list[Int64], learning_rate: float, late: bool, progress: TrainingProgress
    ) -> bool:
        """One step of the optimizer; whether a checkpoint is due, by the main process's clock (its `late`)."""
        began, accelerator, mine = time.perf_counter(), self.accelerator, batches[self.accelerator.process_index]
        # Where no batch is left for a process, it takes part with one that counts for nothing.
        lessons = [self.lessons[i] for i in (mine if len(mine) else batches[0][:1])]
        batch = collate(lessons, device=accelerator.device, prior=self.prior)
        of_step = [self.lessons[i] for i in np.concatenate(batches)]
        titles, num = sum(lesson.num_titles for lesson in of_step), accelerator.num_processes
        # Gradients are averaged over processes, while every title of the step must weigh the same.
        weight = num * batch.num_titles / titles if len(mine) else 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.module.train()
        with accelerator.autocast():
            loss = self.module(batch) * weight
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(self.module.parameters(), self.schedule.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        is_due = float(late and accelerator.is_main_process)
        shared = torch.stack([loss.detach().float() / num, torch.tensor(is_due, device=loss.device)])
        nats, is_due = accelerator.reduce(shared, "sum").tolist()
        if not math.isfinite(nats):
            raise _diverged(step, f"the loss is {nats}")
        num_tokens = sum(len(lesson.tokens_L) for lesson in of_step)
        progress.step(step, nats, titles, num_tokens, time.perf_counter() - began)
        return bool(is_due)


class TrainingProgress:
    """A bar on a terminal, a line every half minute in a log: steps, smoothed loss, events/s and tokens/s.

    The rates are of the time spent in steps, validation not counted.
    """

    def __init__(self, num_steps: int, first: int = 0, loss: float | None = None, enabled: bool = True) -> None:
        """`first`, `loss`: where an interrupted run goes on, and its smoothed loss there."""
        self.loss, self._enabled, self._total = loss, enabled, num_steps
        self._seconds, self._events, self._tokens = 0.0, 0, 0
        self._last_line = time.perf_counter()
        self.bar = bar(shown=enabled)
        self._task = self.bar.add_task("training", total=num_steps, completed=first)

    def step(self, step: int, loss: float, num_events: int, num_tokens: int, seconds: float) -> None:
        """Count one optimiser step, and smooth the loss (nats per title) exponentially."""
        self.loss = loss if self.loss is None else SMOOTHING * self.loss + (1 - SMOOTHING) * loss
        self._seconds += seconds
        self._events += num_events
        self._tokens += num_tokens
        rate = f"{self._events / self._seconds:.1f} events/s, {self._tokens / self._seconds:.0f} tokens/s"
        now = f"loss {self.loss:.3f}, {rate}"
        self.bar.update(self._task, completed=step, description=now)
        if self._enabled and not talk.is_terminal and time.perf_counter() - self._last_line > LINE_EVERY_S:
            self._last_line = time.perf_counter()
            say(f"step {step}/{self._total}: {now}")


def on_top_of(
    config: Config, histories: Histories, trie: Trie, accelerator: Accelerator
) -> tuple[Stack, TrainingPrior]:  # fmt: skip
    """The stack for validation, and the prior of training events; what is missing is chosen and made."""
    repeats, seed = config.evaluate.repeats, config.seed
    with accelerator.main_process_first():  # one makes them, the others read what it wrote
        recipe = stack_recipe(config, histories, for_training=True)
        key = sha256_text(json.dumps([recipe.identity, histories.data_hash, repeats, seed, __version__]))
        fit = partial(fit_stack, recipe, split="valid", seed=seed, repeats=repeats)
        prior = training_prior(config.run / "priors" / "training", key, histories, trie, fit, seed)
    return fit(histories), prior


def make_lessons(histories: Histories, encoder: PromptEncoder, prior: TrainingPrior | None = None) -> list[Lesson]:
    """Every window over the training events, as a lesson; events of later splits are not looked at."""
    events = histories.events.filter(pl.col("split") == "train")
    if not events.height:
        raise DataError(
            "There are no training events: expected some before the validation split begins; see histories.split."
        )
    text, row_N = encoder.text(events, len(histories.user_ids)), np.flatnonzero(histories.split_N == 0)
    windows, trie = text.windows, encoder.catalogue.trie
    encoded = zip(text.encode_windows(windows), windows.start_W, windows.end_W, strict=True)
    return [
        lesson_of(window, text.item_idx_N[start:end], trie, prior, row_N[start:end]) for window, start, end in encoded
    ]


def _diverged(step: int, how: str) -> ModelError:
    return ModelError(
        f"The training diverged at step {step} ({how}): lower finetune.learning_rate; the best adapter so far, if any, "
        "is kept as an unfinished version, see `whereupon adapters CONFIG`."
    )


def accelerator_of(config: Config) -> Accelerator:
    """Raises ConfigError for what `accelerate launch` was asked for and what would not be done."""
    chosen, asked = config.finetune.mixed_precision, os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked not in ("no", chosen, "bf16" if chosen == "auto" else "no"):  # "no" is what accelerate says by default
        raise ConfigError(
            f"accelerate was launched with mixed_precision {asked} but finetune.mixed_precision is {chosen}: leave it "
            "out there, and set finetune.mixed_precision to no, bf16 or fp16."
        )
    device = choose_device(config.model)
    precision = asked if asked != "no" else _precision(config.finetune, device)
    AcceleratorState._reset_state()  # in a notebook an earlier training may have had another precision
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
    if accelerator.gradient_accumulation_steps != 1:
        raise ConfigError(
            f"accelerate was launched with gradient_accumulation_steps {accelerator.gradient_accumulation_steps}, but "
            "each batch is a step: leave it 1, and set finetune.batch_tokens."
        )
    return accelerator


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
    lessons: list[Lesson], schedule: Schedule, accelerator: Accelerator, trainable: list[Any], validator: Validator
) -> None:  # fmt: skip
    settings, num_steps = schedule.settings, schedule.num_steps()
    titles, tokens = sum(x.num_titles for x in lessons), sum(len(x.tokens_L) for x in lessons)
    num, decisions = len(lessons), sum(len(x.node_P) for x in lessons)
    say(f"{num:,} windows teach {titles:,} titles in {tokens:,} tokens: {titles / num:.1f} titles a pass")
    say(f"logits at {decisions:,} branching positions, {decisions / tokens:.0%} of all")
    say(f"{num_steps:,} steps of up to {settings.batch_tokens:,} tokens x {accelerator.num_processes} process(es)")
    num_weights = sum(p.numel() for p in trainable)
    say(f"{KINDS[settings.adapter]} rank {settings.rank}: {num_weights:,} parameters; {accelerator.device}, "
        f"mixed precision {accelerator.mixed_precision}; validating on {validator.num_events} events")  # fmt: skip
