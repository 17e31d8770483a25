"""`whereupon runs`: the run folders below a folder, and what was trained and measured in each. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from ..decode.adapters import ADAPTERS, AdapterVersion, adapter_versions
from ..errors import DataError
from ..files import read_object

_FIGURES = ("nDCG@10", "recall@10", "log-loss")


@dataclass(frozen=True)
class TrainedRun:
    """One adapter of one run; `figures`: of its best validation by name, empty before the first one."""

    run: str
    adapter: str
    base: str
    step: int | None
    state: str
    events: str
    figures: dict[str, float]
    started: str


def list_runs(folder: Path) -> list[TrainedRun]:
    """The adapters of all run folders at or below `folder`, by run and version.

    Raises DataError where there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: name one that holds run folders, such as runs.")
    runs = sorted({path.parent for path in folder.rglob("run.json")} | {p.parent for p in folder.rglob(ADAPTERS)})
    if not runs:
        raise DataError(f"There is no run below {folder}: `whereupon finetune CONFIG` makes one in the run folder.")
    return [_trained(run, folder, version) for run in runs for version in adapter_versions(run)]


def table_of(runs: list[TrainedRun]) -> Table:
    """For a person; figures of two adapters can be compared where they were validated on the same events."""
    table = Table(box=None)
    for name in ("run", "adapter", "base", "step", *_FIGURES, "validated on", "state", "trained"):
        table.add_column(name, justify="right" if name in ("step", *_FIGURES) else "left")
    for one in runs:
        figures = (f"{one.figures[name]:.4f}" if name in one.figures else "\N{EN DASH}" for name in _FIGURES)
        step = "\N{EN DASH}" if one.step is None else f"{one.step:,}"
        table.add_row(one.run, one.adapter, one.base, step, *figures, one.events, one.state, one.started)
    return table


def _trained(run: Path, folder: Path, version: AdapterVersion) -> TrainedRun:
    card = version.card
    state = "in use" if version.is_current else "finished" if version.complete else "unfinished"
    return TrainedRun(
        run=str(run.relative_to(folder)) if run != folder else run.name, adapter=version.name,
        base=Path(str(card.get("base_model", ""))).name, step=card.get("step"), state=state,
        events=str(card.get("validated_on", ""))[:8],
        figures={name: float(value) for name, value in card.get("validation", {}).items()},
        started=_started(run),
    )  # fmt: skip


def _started(run: Path) -> str:
    try:
        return str(read_object(run / "run.json")["finetune"]["started"])
    except (DataError, KeyError, TypeError):
        return ""
