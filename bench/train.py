"""How fast does `whereupon finetune` teach? Against one example an event, and against the model's bare passes.

    python bench/train.py [--steps N] [--precision no bf16]

Data and model of examples/nyc-checkins.yaml (SmolLM2-135M-Instruct, LoRA of rank 32), `prompts.budget_tokens` 512 and
`finetune.teach` once, so that an event counts once. Three things are timed in turn, in float32 and in bf16:
- the steps of `whereupon finetune`: reading the batch, loss, gradients, clipping, optimizer;
- bare passes of the same tokens: the same model under the same adapter, forward and backward, without any loss, output
  layer or optimizer, directly after each of those steps and on the very same batch;
- steps of transformers' Trainer on prompts and completions of `whereupon export-sft`: one event an example, the loss
  on its title alone, the same adapter, optimizer and history budget, batches of as many tokens and of similar length.
On a CPU the seconds are those of the process (`time.process_time`), so that other programs on the machine count little;
on a GPU they are by the clock.

Writes bench/results/train.json; exits with 1 if a bar is missed. Some minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from ablation import prepare_copy
from numpy.typing import NDArray
from record import bar, record

from whereupon.config import Config, load_config
from whereupon.decode.models import build_encoder, load_base_model, load_tokenizer
from whereupon.decode.transformers_engine import split_model
from whereupon.finetune import train
from whereupon.finetune.model import add_lora
from whereupon.finetune.sft import examples_of
from whereupon.histories import read_histories

Int64 = NDArray[np.int64]

ROOT: Final = Path(__file__).parents[1]
EXAMPLE: Final = ROOT / "examples" / "nyc-checkins.yaml"
BUDGET: Final = 512
EVENTS_BAR, TOKENS_BAR = 8.0, 0.85
WARM_UP: Final = 1  # steps that are not counted
NAMES: Final = {"no": "float32", "bf16": "bf16"}


def main() -> int:
    """Time all three in each precision; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="counted steps of each")
    parser.add_argument("--precision", nargs="+", default=list(NAMES), choices=list(NAMES))
    args = parser.parse_args()
    first = load_config(EXAMPLE)
    run = first.run.with_name("bench-train")
    prepare_copy(EXAMPLE, first, run)
    rows = [_measured(_config(run, precision), args.steps) for precision in args.precision]
    bars = [one for row in rows for one in bars_of(row)]
    return record("train", first.seed, bars, rows=rows, budget_tokens=BUDGET, threads=torch.get_num_threads())


def _config(run: Path, precision: str) -> Config:
    return load_config(EXAMPLE, [
        f"run={run}", f"prompts.budget_tokens={BUDGET}", "prompts.profile_tokens=128", "prompts.align_tokens=1",
        "priors=none", "finetune.teach=once", "finetune.warmup_fraction=0", "finetune.validation_events=1",
        f"finetune.mixed_precision={precision}",
    ])  # fmt: skip


def bars_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Of one precision."""
    events = row["whereupon"]["events_per_s"] / row["trainer"]["events_per_s"]
    tokens = row["whereupon"]["tokens_per_s"] / row["bare"]["tokens_per_s"]
    name = row["precision"]
    return [
        bar(f"events/s against one example an event, {name}", events, f">= {EVENTS_BAR:g}", events >= EVENTS_BAR),
        bar(f"tokens/s against bare passes, {name}", tokens, f">= {TOKENS_BAR:g}", tokens >= TOKENS_BAR),
    ]


@dataclass
class Clock:
    """Seconds, events and tokens of some steps, the first ones left out.

    `peak_bytes`: of a GPU's memory, the most that was in use in any of them; 0 on a CPU.
    """

    steps: int
    seconds: list[float] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    peak_bytes: int = 0

    @contextmanager
    def timed(self) -> Iterator[None]:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        began = _now()
        yield
        self.seconds.append(_now() - began)
        if on_gpu:
            self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated())

    @property
    def is_done(self) -> bool:
        return len(self.seconds) >= self.steps + WARM_UP

    def figures(self) -> dict[str, float]:
        """Padding is no token."""
        seconds = sum(self.seconds[WARM_UP:])
        events, tokens = (sum(column) for column in zip(*self.counts[WARM_UP:], strict=True))
        return {"seconds": seconds, "events": events, "tokens": tokens,
                "events_per_s": events / seconds, "tokens_per_s": tokens / seconds}  # fmt: skip


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _measured(config: Config, steps: int) -> dict[str, Any]:
    own, bare = own_steps(config, steps)
    trainer = _trainer_steps(config, steps)
    found = {"whereupon": own.figures(), "bare": bare.figures(), "trainer": trainer.figures()}
    return {"precision": NAMES[config.finetune.mixed_precision], **found}


class _Enough(Exception):
    """Ends a training that has been timed."""


def own_steps(config: Config, steps: int) -> tuple[Clock, Clock]:
    """Steps of `whereupon finetune` as it takes them, each followed by bare passes of its batches."""
    own, bare, original = Clock(steps), Clock(steps), train._Training._step

    def stepping(training: Any, step: int, batches: list[Int64], learning_rate: float) -> Any:
        if own.is_done:
            raise _Enough
        with own.timed():
            taken = original(training, step, batches, learning_rate)
        prepared = [training.examples[batch].tokens_RL for batch in batches]
        with bare.timed():
            for tokens_RL in prepared:
                _bare_pass(training, tokens_RL.to(training.accelerator.device))
        training.optimizer.zero_grad()
        for clock in (own, bare):
            clock.counts.append((taken.num_titles, taken.num_tokens))
        return taken

    with patch.object(train._Training, "_step", stepping):
        try:
            train.finetune(config)
        except _Enough:
            return own, bare
    sys.exit(f"the training has fewer than {steps + WARM_UP} steps; ask for fewer")


def _bare_pass(training: Any, tokens_RL: torch.Tensor) -> None:
    """Forward and backward through all layers, from a gradient that costs nothing to make."""
    backbone, _ = split_model(training.accelerator.unwrap_model(training.module).model.get_base_model())
    with training.accelerator.autocast():
        hidden_RLH = backbone(input_ids=tokens_RL, use_cache=False).last_hidden_state
    hidden_RLH.backward(torch.ones_like(hidden_RLH))


def _trainer_steps(config: Config, steps: int) -> Clock:
    """Steps of transformers' Trainer, the loss on completions alone."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    clock, settings = Clock(steps), config.finetune
    size = max(1, settings.batch_tokens // BUDGET)
    rows = sampled_examples(config, size * (steps + WARM_UP))

    class Timing(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_step_begin(self, *args: Any, **words: Any) -> None:
            self._began = _now()

        def on_step_end(self, *args: Any, **words: Any) -> None:
            clock.seconds.append(_now() - self._began)

    def padded(some: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        clock.counts.append((len(some), sum(len(row["input_ids"]) for row in some)))
        return completion_batch(some)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=steps + WARM_UP, per_device_train_batch_size=size, learning_rate=settings.learning_rate,
            bf16=settings.mixed_precision == "bf16", use_cpu=not torch.cuda.is_available(), report_to=[],
            save_strategy="no", disable_tqdm=True, logging_strategy="no", max_grad_norm=settings.max_grad_norm,
            train_sampling_strategy="group_by_length", remove_unused_columns=False, seed=config.seed,
        )  # fmt: skip
        model = add_lora(load_base_model(config.model), settings)
        Trainer(model, arguments, data_collator=padded, train_dataset=rows, callbacks=[Timing()]).train()
    clock.counts = clock.counts[: len(clock.seconds)]  # a batch may be made ahead
    return clock


def sampled_examples(config: Config, num: int) -> list[dict[str, list[int]]]:
    """`num` training events at random, as `whereupon export-sft` gives them: token ids, and labels of the title."""
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    total = int((histories.split_N == 0).sum())
    chosen = np.sort(np.random.default_rng(config.seed).choice(total, num, replace=False)).tolist()
    texts, prefix, found, before = examples_of(histories, encoder, tokenizer), list(encoder.prefix), [], 0
    for number in chosen:
        row, ids = next(islice(texts, number - before, None))
        before, completion = number + 1, len(tokenizer([row["completion"]])[0])
        labels = [-100] * (len(prefix) + len(ids) - completion) + ids[-completion:]
        found.append({"input_ids": [*prefix, *ids], "labels": labels})
    return found


def completion_batch(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Padded on the right, without a label there."""
    width = max(len(row["input_ids"]) for row in rows)
    filled = {
        name: torch.tensor([row[name] + [pad] * (width - len(row[name])) for row in rows])
        for name, pad in (("input_ids", 0), ("labels", -100))
    }
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return filled | {"attention_mask": (torch.arange(width) < lengths[:, None]).long()}


if __name__ == "__main__":
    sys.exit(main())
