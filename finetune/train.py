"""`whereupon finetune`: LoRA training under accelerate, validated with the metrics and search that judge it later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray

from ..arrays import Int64
from ..console import say
from ..decode.architecture import longest_text
from ..decode.models import adapter_identity, build_encoder, load_base_model, load_tokenizer
from ..decode.transformers_engine import TransformersEngine
from ..errors import ConfigError, ModelError, NonFiniteError
from ..eval.stacking import calibrate_run, run_stack
from ..histories import Histories, read_histories
from ..prompts import PromptEncoder
from ..rankers.blend import ALONE
from .adapter import KINDS, CheckpointManager, only_training
from .continual import TRAINED_UNTIL, Start, check_start, last_training_time, start_from
from .curve import draw_curve
from .dataset import Examples, forget_others, open_examples
from .launch import accelerator_of, as_launched, attention, set_up_base
from .memory import plan_memory
from .model import CatalogueModel, Teacher, add_lora
from .on_top import TrainingPrior, on_top_of
from .optimizers import check_optimizer, make_optimizer
from .preference_examples import open_preferences
from .progress import Journal, StepTaken, TrainingProgress, diverged, settled
from .schedule import Schedule, micro_batches
from .settings import AFTERWARDS, FinetuneSettings
from .sharding import all_finite, gathered
from .training_examples import Batch
from .validation import Validator

if TYPE_CHECKING:
    from peft import PeftModel

    from ..catalogue import Trie
    from ..config import Config
    from ..rankers.stack import Stack

CHECKPOINT_EVERY_S = 300.0


Validated = Callable[[int, Mapping[str, float]], None]


def finetune(config: Config, start: str | None = None, teacher: Teacher | None = None) -> Path:
    """Train an adapter for the run (`train_adapter`), pool it with the stack of rankers, and return its folder."""
    folder, stack, has_validation = train_adapter(config, start, teacher=teacher)
    if AcceleratorState().is_main_process and has_validation:
        calibrate_run(config, adapter=folder, stack=stack)
    elif stack and AcceleratorState().is_main_process:
        run_stack(config, read_histories(config.run), "test")  # which answers need
    return folder


def train_adapter(
    config: Config, start: str | None = None, validated: Validated | None = None, teacher: Teacher | None = None
) -> tuple[Path, Stack | None, bool]:
    """A new version of the run's adapter; its folder, the stack that it is on top of, and whether it was validated.

    `start`: a version of the run or a folder, whose adapter goes on learning (see `continual`). `validated` is given
    the step and the figures of each validation. `teacher`: whose distribution is learnt (see `student`).

    Raises DataError without training events, ConfigError for modules that cannot be trained (`add_lora`), an objective
    without its adapter (`check_start`), an optimizer that does not run here (`check_optimizer`), a
    `prompts.budget_tokens` longer than the base model sees, or flags of `accelerate launch` that contradict the
    settings, ModelError for a base model that cannot be searched, before the first step, or where the training diverges
    or its smallest batch needs more memory than there is.
    """
    config = as_launched(config)
    settings, accelerator = config.finetune, accelerator_of(config)
    check_start(settings, start)
    check_optimizer(settings, accelerator.device)
    torch.manual_seed(config.seed)
    histories = read_histories(config.run)
    tokenizer = load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    trie, identity = encoder.catalogue.trie, adapter_identity(config.model, encoder, tokenizer, histories.title_recipe)
    earlier = start_from(config, start, identity, histories) if start else None
    peft_model = _adapted(config, trie, earlier)
    with only_training(config.run, accelerator.is_main_process):
        stack, prior = on_top_of(config, histories, trie, accelerator) if config.on_top else (None, None)
        with accelerator.main_process_first():
            examples = _examples(config, accelerator, histories, encoder, identity, prior, peft_model, earlier)
        old_W = _old_windows(settings, histories, examples, earlier)
        schedule = Schedule(examples.length_W, settings, config.seed, accelerator.num_processes, old_W)
        temperature = earlier.temperature if earlier else config.temperature
        module = plain = CatalogueModel(peft_model, temperature, settings, teacher)
        split = plan_memory(module, examples, schedule, trie, accelerator)
        trainable = [p for p in module.parameters() if p.requires_grad]
        optimizer = make_optimizer(trainable, settings, accelerator.device)
        module, optimizer = accelerator.prepare(module, optimizer)
        _own_dropout(accelerator, config.seed)
        validator = Validator.build(histories, encoder, settings, config.seed, stack)
        belongs_to = {**identity, "priors": stack.recipe.identity if stack else ALONE, "data_hash": histories.data_hash}
        notes = {"validated_on": validator.hash, **_notes(histories, belongs_to["priors"], earlier, teacher)}
        checkpoints = CheckpointManager(config, plain, accelerator, belongs_to, notes)
        if accelerator.is_main_process:
            forget_others(examples)
            _announce(examples, schedule, accelerator, trainable, validator)
        _Training(config, accelerator, module, optimizer, examples, schedule, validator, checkpoints, split,
                  validated).run()  # fmt: skip
        folder = checkpoints.finish()
    return folder, stack, validator.num_events > 0


def _old_windows(
    settings: FinetuneSettings, histories: Histories, examples: Examples, earlier: Start | None
) -> NDArray[np.bool_] | None:  # fmt: skip
    """See `Start.old_windows`; None where all windows are read alike."""
    if earlier is None or settings.objective in AFTERWARDS:
        return None
    return earlier.old_windows(histories, examples.end_W)


def _notes(histories: Histories, priors: str, earlier: Start | None, teacher: Teacher | None) -> dict[str, str | None]:
    """What the card says of the training: up to when, from which adapter, and by which teacher."""
    notes = {TRAINED_UNTIL: last_training_time(histories), "started_from": earlier.hash if earlier else None}
    return notes | ({"taught_by": teacher.hash_with(priors)} if teacher else {})


def _examples(
    config: Config, accelerator: Accelerator, histories: Histories, encoder: PromptEncoder, identity: dict[str, Any],
    prior: TrainingPrior | None, model: PeftModel, earlier: Start | None,
) -> Examples:  # fmt: skip
    """The windows of the training events; for `AFTERWARDS` with what the model at the start ranks highest."""
    if earlier is None or config.finetune.objective not in AFTERWARDS:
        return open_examples(config.run, histories, encoder, identity, config.finetune, prior)
    base: Any = model.get_base_model()
    engine = TransformersEngine(base, encoder.catalogue.trie, config.temperature)
    key = [earlier.hash, config.temperature, accelerator.mixed_precision]
    with accelerator.autocast():
        return open_preferences(
            config.run, histories, encoder, engine, config.finetune.preference, config.seed, [earlier.card, key]
        )


def _own_dropout(accelerator: Accelerator, seed: int) -> None:
    """All processes have made the same adapter; from now on each draws random numbers of its own."""
    if process := accelerator.process_index:
        torch.manual_seed(int(np.random.SeedSequence([seed, process]).generate_state(1)[0]))


def _adapted(config: Config, trie: Trie, earlier: Start | None) -> PeftModel:
    """The base model under a fresh adapter, or an earlier one. Raises ConfigError for prompts longer than it sees."""
    base = load_base_model(config.model)
    budget, bound = config.prompts.budget_tokens, longest_text(base.config)
    if bound is not None and budget > bound:
        raise ConfigError(
            f"prompts.budget_tokens is {budget} but the model {config.model.base} sees at most {bound} tokens: "
            f"set it to at most {bound}."
        )
    TransformersEngine(base, trie)  # what validates later: a model that it refuses is not trained
    set_up_base(base, config.finetune)
    adapted = add_lora(base, config.finetune)
    if earlier:
        earlier.load_into(adapted)
    return adapted


@dataclass
class _Training:
    """One training on all its processes, each of which holds one of these.

    `split`: in how many parts each batch is passed through the model, where the whole does not fit into memory.
    """

    config: Config
    accelerator: Accelerator
    module: CatalogueModel
    optimizer: Any
    examples: Examples
    schedule: Schedule
    validator: Validator
    checkpoints: CheckpointManager
    split: int = 1
    validated: Validated | None = None
    _steps: list[tuple[list[Int64], bool]] = field(default_factory=list)
    _batches: Iterator[Batch] = field(default_factory=lambda: iter(()))
    _plain_attention: str = "auto"

    def run(self) -> None:
        """Take every step that is not done yet, and every validation."""
        self._steps = list(self.schedule.steps())
        self._resume()
        now, base = self.checkpoints.standing, self._base
        journal = Journal(self.config, self.accelerator, self.checkpoints.folder, now.step)
        self._batches, self._plain_attention = self._read_from(now.step + 1), base.config._attn_implementation
        with attention(base, self.config.finetune.attn_implementation):
            try:
                self._run(journal)
            finally:
                journal.close()

    @property
    def _base(self) -> Any:
        return self.accelerator.unwrap_model(self.module).model.get_base_model()

    def _run(self, journal: Journal) -> None:
        checkpoints, num_steps, every = self.checkpoints, len(self._steps), self.config.finetune.log_every
        now, saved, began, taken = checkpoints.standing, time.perf_counter(), time.perf_counter(), list[StepTaken]()
        progress = TrainingProgress(num_steps, now.step, now.train_loss, self.accelerator.is_main_process)
        if checkpoints.starts_from_another and not now.log and self.validator.num_events:
            self._validate(0, journal)  # what it must beat to be kept
        with progress.bar:
            for step, (batches, is_mark) in enumerate(self._steps, 1):
                if step < now.step:
                    continue
                if step > now.step:
                    taken.append(self._step(step, batches, self.schedule.learning_rate(step - 1, num_steps)))
                if taken and (is_mark or step % every == 0):
                    late, seconds = time.perf_counter() - saved > CHECKPOINT_EVERY_S, time.perf_counter() - began
                    figures, is_due = settled(taken, late, seconds, self.accelerator, progress)
                    now.step, now.train_loss, taken = step, progress.loss, []
                    journal.write(figures)
                    if is_due or is_mark:
                        if not all_finite(self.module):
                            raise diverged(step, "weights are no numbers any more")
                        checkpoints.checkpoint(self.optimizer)
                        saved = time.perf_counter()
                if is_mark and now.validated < step:
                    self._validate(step, journal)
                    saved = time.perf_counter()
                if not taken:
                    began = time.perf_counter()
                if checkpoints.out_of_patience:
                    break

    def _validate(self, step: int, journal: Journal) -> None:
        try:
            with attention(self._base, self._plain_attention), gathered(self.module, self.accelerator):
                scores = self.validator.validate(self.accelerator, self.module)
        except NonFiniteError as error:
            raise diverged(step, "scores are no numbers any more") from error
        self.checkpoints.keep(scores, self.schedule.learning_rate(step, len(self._steps)), self.optimizer)
        journal.validated(step, scores)
        if self.validated is not None:
            self.validated(step, scores)
        if self.accelerator.is_main_process:
            draw_curve(self.checkpoints.folder)

    def _resume(self) -> None:
        written_by, num = self.checkpoints.resume(self.optimizer), self.accelerator.num_processes
        if written_by == num:
            return
        now = self.checkpoints.standing
        found, now.step = now.step, self.schedule.step_after(now.step, written_by)
        now.validated = now.step if now.validated == found else min(now.validated, now.step - 1)
        if self.accelerator.is_main_process:
            say(f"the checkpoint was written by {written_by} processes, now there are {num}: its step {found} is "
                f"step {now.step} of {len(self._steps)} here, and tokens per step, learning rates and dropout change "
                "from now on")  # fmt: skip

    def _read_from(self, step: int) -> Iterator[Batch]:
        """This process's batches from a step on. Where no batch is left for it, one that will count for nothing."""
        accelerator, workers = self.accelerator, self.config.finetune.loader_workers
        num, process, on_gpu = accelerator.num_processes, accelerator.process_index, accelerator.device.type == "cuda"
        rows = [
            row[process] if len(row[process]) else batches[0][:1]
            for batches, _ in self._steps[step - 1 :]
            for row in micro_batches(batches, num, self.split)
        ]
        return self.examples.stream(rows, 2 * on_gpu if workers is None else workers, pinned=on_gpu)

    def _step(self, step: int, batches: list[Int64], learning_rate: float) -> StepTaken:
        """One step of the optimizer; a batch that does not fit into memory is passed in parts from now on."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        while True:
            try:
                nats = self._gradients(batches)
                break
            except torch.OutOfMemoryError:
                pass  # what the traceback holds is freed before the next try
            self._take_smaller(step, batches)
        self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.finetune.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        windows = np.concatenate(batches)
        sizes = int(self.examples.titles_W[windows].sum()), int(self.examples.length_W[windows].sum())
        return StepTaken(step, nats, learning_rate, *sizes)

    def _gradients(self, batches: list[Int64]) -> torch.Tensor:
        """Add up the gradients of a step; this process's share of its loss, which the device may still be computing.

        Gradients are averaged over processes, while every title of the step must weigh the same.
        """
        accelerator, num = self.accelerator, self.accelerator.num_processes
        titles, rows = (
            int(self.examples.titles_W[np.concatenate(batches)].sum()),
            micro_batches(batches, num, self.split),
        )
        total = torch.zeros((), device=accelerator.device)
        self.module.train()
        for number, row in enumerate(rows, 1):
            batch = next(self._batches).to(accelerator.device)
            weight = num * batch.num_titles / titles if len(row[accelerator.process_index]) else 0.0
            with nullcontext() if number == len(rows) else accelerator.no_sync(self.module):
                with accelerator.autocast():
                    loss = self.module(batch) * weight
                accelerator.backward(loss)
            total += loss.detach().float() / num
        return total

    def _take_smaller(self, step: int, batches: list[Int64]) -> None:
        """Raises ModelError where a batch cannot be made smaller, or other processes wait for its gradients."""
        rows, num = max(len(batch) for batch in batches), self.accelerator.num_processes
        if self.split >= rows or num > 1:
            what = "one window" if self.split >= rows else f"a batch of {rows} windows, on one of {num} processes,"
            raise ModelError(
                f"There is not enough memory on the GPU for {what} at step {step}: lower finetune.batch_tokens (and "
                "raise finetune.accumulate for it) or prompts.budget_tokens, or set finetune.gradient_checkpointing."
            )
        self.optimizer.zero_grad()
        self.split *= 2
        say(f"step {step} does not fit into memory: batches are passed in {self.split} parts from now on, the steps "
            "stay the same")  # fmt: skip
        self._batches = self._read_from(step)
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()


def _announce(
    examples: Examples, schedule: Schedule, accelerator: Accelerator, trainable: list[Any], validator: Validator
) -> None:  # fmt: skip
    settings, num, decisions = schedule.settings, len(examples), int(examples.decisions_W.sum())
    titles, tokens = int(examples.titles_W.sum()), int(examples.length_W.sum())
    say(f"{num:,} windows teach {titles:,} titles in {tokens:,} tokens: {titles / num:.1f} titles a pass")
    if schedule.old_W is not None:
        chosen = schedule.batches(0)
        say(f"an epoch has the {int((~schedule.old_W).sum()):,} windows with newer events, and "
            f"{int(schedule.old_W[np.concatenate(chosen)].sum()):,} older ones")  # fmt: skip
    say(f"logits at {decisions:,} branching positions, {decisions / tokens:.0%} of all")
    added = f" x {settings.accumulate} batches" if settings.accumulate > 1 else ""
    say(f"{schedule.num_steps():,} steps of up to {settings.batch_tokens:,} tokens{added} x "
        f"{accelerator.num_processes} process(es), {schedule.padding():.1%} of them padding")  # fmt: skip
    num_weights = sum(p.numel() for p in trainable)
    say(f"{KINDS[settings.adapter]} rank {settings.rank}: {num_weights:,} parameters; {accelerator.device}, "
        f"mixed precision {accelerator.mixed_precision}; validating on {validator.num_events} events")  # fmt: skip
