"""What is seen of a training while it runs: a bar or lines, steps.jsonl beside the adapter, and experiment trackers.

Losses stay on the device until several steps are done: fetching each would make the GPU wait at every step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor

from ..console import bar, say, talk
from ..errors import NonFiniteError
from ..files import atomic_path

if TYPE_CHECKING:
    from ..config import Config

STEPS: Final = "steps.jsonl"
LINE_EVERY_S = 30.0  # of the progress, in a log
_SMOOTHING: Final = 0.98


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
        self.loss = loss if self.loss is None else _SMOOTHING * self.loss + (1 - _SMOOTHING) * loss
        self._seconds += seconds
        self._events += num_events
        self._tokens += num_tokens
        rate = f"{self._events / self._seconds:.1f} events/s, {self._tokens / self._seconds:.0f} tokens/s"
        now = f"loss {self.loss:.3f}, {rate}"
        self.bar.update(self._task, completed=step, description=now)
        if self._enabled and not talk.is_terminal and time.perf_counter() - self._last_line > LINE_EVERY_S:
            self._last_line = time.perf_counter()
            say(f"step {step}/{self._total}: {now}")


@dataclass(frozen=True)
class StepTaken:
    """One step of the optimizer: this process's share of the loss (a tensor on its device), and what all processes
    took."""

    step: int
    nats: Tensor
    learning_rate: float
    num_titles: int
    num_tokens: int


def settled(
    taken: list[StepTaken], late: bool, seconds: float, accelerator: Accelerator, progress: TrainingProgress
) -> tuple[dict[str, float], bool]:
    """Figures of some steps of `seconds` in all, waited for once; and whether a checkpoint is due, by the clock of the
    main process (its `late`). Raises ModelError where a loss is no number."""
    due = torch.tensor(float(late and accelerator.is_main_process), device=taken[0].nats.device)
    *nats, is_due = accelerator.reduce(torch.stack([*(one.nats for one in taken), due]), "sum").tolist()
    for one, loss in zip(taken, nats, strict=True):
        if not math.isfinite(loss):
            raise diverged(one.step, f"the loss is {loss}")
        progress.step(one.step, loss, one.num_titles, one.num_tokens, seconds / len(taken))
    titles, tokens = sum(one.num_titles for one in taken), sum(one.num_tokens for one in taken)
    figures = {
        "step": taken[-1].step, "learning_rate": taken[-1].learning_rate,
        "loss": sum(loss * one.num_titles for loss, one in zip(nats, taken, strict=True)) / max(1, titles),
        "tokens_per_s": tokens / seconds, "titles_per_s": titles / seconds,
    }  # fmt: skip
    return figures, bool(is_due)


def diverged(step: int, how: str) -> NonFiniteError:
    """The sentence for a training with NaN or infinite values."""
    return NonFiniteError(
        f"The training diverged at step {step} ({how}): lower finetune.learning_rate; the best adapter so far, if any, "
        "is kept as an unfinished version, see `whereupon adapters CONFIG`."
    )


class Journal:
    """`steps.jsonl` in the folder of the adapter's version, and the trackers of `finetune.track`; one process writes.

    It goes on behind the step of the checkpoint: lines of steps that are taken again are removed.
    """

    def __init__(self, config: Config, accelerator: Accelerator, folder: Path, first: int) -> None:
        """`first`: steps done already."""
        self._accelerator, self._path, self._writes = accelerator, folder / STEPS, accelerator.is_main_process
        if self._writes:
            kept = [line for line in read_steps(folder) if line["step"] <= first]
            with atomic_path(self._path) as path:
                path.write_text("".join(f"{json.dumps(line)}\n" for line in kept), encoding="utf-8")
        if config.finetune.track:
            accelerator.project_configuration.logging_dir = str(config.run / "tracking" / folder.name)
            said = config.finetune.model_dump(mode="json") | {"base": config.model.base, "seed": config.seed}
            named = {"wandb": {"name": folder.name}, "mlflow": {"run_name": folder.name},
                     "trackio": {"name": folder.name}}  # fmt: skip
            plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in said.items()}
            used = {name: words for name, words in named.items() if name in config.finetune.track}
            accelerator.init_trackers(config.run.name, config=plain, init_kwargs=used)

    def write(self, figures: Mapping[str, float]) -> None:
        """Of some steps: one line, at once on disk."""
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(figures)}\n")
        self._track("train", figures, int(figures["step"]))

    def validated(self, step: int, scores: Mapping[str, float]) -> None:
        self._track("validation", scores, step)

    def close(self) -> None:
        for tracker in self._accelerator.trackers:  # `end_training` would end the group of processes, too
            tracker.finish()

    def _track(self, kind: str, figures: Mapping[str, float], step: int) -> None:
        if self._accelerator.trackers and figures:
            named = {f"{kind}/{name.replace('@', '_at_')}": value for name, value in figures.items() if name != "step"}
            self._accelerator.log(named, step=step)


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """The lines of `steps.jsonl`; none where there is no such file, and none of a line that was cut off."""
    try:
        lines = (folder / STEPS).read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:  # the writer was killed in the middle of it
            break
    return [one for one in found if isinstance(one, dict) and "step" in one]
