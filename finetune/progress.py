"""The progress of a training run: a bar on a terminal, a line every half minute in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..console import say, talk

LINE_EVERY_S = 30.0
SMOOTHING = 0.98


class TrainingProgress:
    """Steps, smoothed loss, events/s and tokens/s (of the time spent in steps, validation not counted)."""

    def __init__(self, num_steps: int, first: int = 0, loss: float | None = None, enabled: bool = True) -> None:
        """`first`, `loss`: where an interrupted run goes on, and its smoothed loss there."""
        self._enabled, self._total, self._seconds, self._events, self._tokens = enabled, num_steps, 0.0, 0, 0
        self._loss = loss
        self._last_line = time.perf_counter()
        columns = (
            "training",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
        )
        self._bar = Progress(*columns, console=talk, disable=not (enabled and talk.is_terminal))
        self._task = self._bar.add_task("training", total=num_steps, completed=first, now="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, step: int, loss: float, num_events: int, num_tokens: int, seconds: float) -> None:
        """Count one optimiser step."""
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        self._seconds += seconds
        self._events += num_events
        self._tokens += num_tokens
        rate = f"{self._events / self._seconds:.1f} events/s, {self._tokens / self._seconds:.0f} tokens/s"
        now = f"loss {self._loss:.3f}, {rate}"
        self._bar.update(self._task, completed=step, now=now)
        if self._enabled and not talk.is_terminal and time.perf_counter() - self._last_line > LINE_EVERY_S:
            self._last_line = time.perf_counter()
            say(f"step {step}/{self._total}: {now}")

    def mean_loss(self) -> float:
        """Exponentially smoothed training loss in nats per title."""
        return float("nan") if self._loss is None else self._loss
