"""How each line came about: settings, seeds, versions, machine, commands, hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .runs import Dataset, Ranked, recorded

__all__ = ["Line", "Provenance", "provenance"]


@dataclass(frozen=True)
class Line:
    """One ranker: `settings`, `adapter` and validation `trials` as text; `differs` are versions unlike the others'."""

    name: str
    kind: str
    command: str
    seed: str
    settings: str
    adapter: str
    trials: Sequence[tuple[str, str]]
    tuned_on: str
    wall_s: float | None
    finished: str
    differs: str


@dataclass(frozen=True)
class Provenance:
    """`machine`, `versions` and `hashes` are label and value; `configs` the settings of each run as JSON."""

    lines: Sequence[Line]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    hashes: Mapping[str, str]
    configs: Mapping[str, str]


MACHINE = ("platform", "cpu", "cpu_count")


def provenance(dataset: Dataset) -> Provenance:
    """What the facts of all rankers, ablations among them, say of themselves."""
    everyone = [*dataset.rankers, *dataset.ablations]
    common, manifest = _common([_versions(ranker) for ranker in everyone]), dataset.histories.manifest
    hashes = {"data": dataset.histories.data_hash, "catalogue": dataset.histories.catalogue_hash}
    hashes |= {f"input {name}": str(sha) for name, sha in manifest.get("inputs", {}).items()}
    tasks = {str(ranker.facts["task"]) for ranker in everyone if "task" in ranker.facts}
    hashes |= {"events and candidates": " ".join(sorted(tasks))} if tasks else {}
    configs = {run.name: recorded(run).get("evaluate", {}).get("config") for run in dataset.runs}
    return Provenance(
        [_line(ranker, common) for ranker in everyone],
        {name: common[name] for name in MACHINE if name in common},
        {name: value for name, value in common.items() if name not in MACHINE},
        hashes,
        {name: _json(config, indent=2) for name, config in configs.items() if config},
    )


def _line(ranker: Ranked, common: Mapping[str, str]) -> Line:
    facts = ranker.facts
    trials, num_events = _trials(facts.get("tuned"))
    own = {name: value for name, value in _versions(ranker).items() if common.get(name) != value}
    return Line(
        name=ranker.name, kind=ranker.kind, seed=str(facts.get("seed", "")), command=str(facts.get("command", "")),
        settings=_json(facts["settings"]) if facts.get("settings") else "",
        adapter=_json(facts["adapter"], indent=2) if facts.get("adapter") else "",
        trials=trials, tuned_on=f"{num_events:,} validation events" if num_events else "validation events",
        wall_s=facts.get("wall_s"), finished=str(facts.get("finished", ""))[:16].replace("T", " "),
        differs=", ".join(f"{name} {value}" for name, value in own.items()),
    )  # fmt: skip


def _trials(tuned: Any) -> tuple[list[tuple[str, str]], int]:
    """Settings and scores of each trial on validation, as text, and on how many events."""
    num_events = tuned.get("num_events", 0) if isinstance(tuned, Mapping) else 0
    trials = tuned.get("trials", []) if isinstance(tuned, Mapping) else tuned
    shown = []
    for trial in trials if isinstance(trials, list) else []:
        scores = trial.get("metrics") or {name: v for name, v in trial.items() if name not in ("settings", "wall_s")}
        numbers = (f"{name} {value:.4f}" for name, value in scores.items() if isinstance(value, int | float))
        shown.append((_json(trial.get("settings", {})), ", ".join(numbers)))
    return shown, int(num_events or 0)


def _versions(ranker: Ranked) -> dict[str, str]:
    found = ranker.facts.get("versions", {})
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, Mapping) else {}


def _common(each: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What the most rankers agree in, name by name."""
    names = list(dict.fromkeys(name for one in each for name in one))
    values = {name: [one[name] for one in each if name in one] for name in names}
    return {name: max(found, key=found.count) for name, found in values.items()}


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)
