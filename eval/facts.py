"""What stands beside every ranking, so that it can be judged, compared and made again."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..files import versions
from ..histories.questions import evaluated_events

if TYPE_CHECKING:
    from ..config import Config
    from .protocol import Task
    from .rankings import Kind

_ROOT: Final = Path(__file__).resolve().parents[1]


def facts_of(config: Config, task: Task, *, name: str, kind: Kind, wall_s: float | None, **more: Any) -> dict[str, Any]:
    """The facts of one ranking of a task, for `write_rankings`, and `more` that JSON knows, such as `settings`.

    `wall_s` is how long the ranking took, fitting included, tuning not; None if nobody knows. The task's hash says with
    which other rankings this one may be compared; `num_split_events` is how many events a sample was drawn from.
    """
    histories = task.histories
    protocol = {
        "split": histories.manifest.get("settings", {}).get("split", {}), "repeats": task.candidates.repeats,
        "available_from": task.candidates.available_s_I is not None, "num_without_candidate": task.num_without,
    }  # fmt: skip
    return {
        "name": name, "kind": kind, "split": task.split, "task": task.hash, "protocol": protocol,
        "num_split_events": len(evaluated_events(histories, task.split)) - task.num_without,
        "seed": config.seed, "wall_s": wall_s, "num_items": histories.items.height,
        "data_hash": histories.data_hash, "catalogue_hash": histories.catalogue_hash, "versions": versions(),
        "command": typed_command(), "finished": datetime.now(UTC).isoformat(timespec="seconds"), **more,
    }  # fmt: skip


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can hold them: NaN (a mean over nothing) and infinity (held impossible) become None."""
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}


def typed_command() -> str:
    """What was typed to get here; a script is called by its path in the repository."""
    path = Path(sys.argv[0]).resolve()
    program = ["whereupon" if path.name == "cli.py" else path.name]
    if path.suffix == ".py" and path.name != "cli.py":
        program = ["python", str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else path.name]
    return shlex.join([*program, *sys.argv[1:]])
