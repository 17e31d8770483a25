"""How each line came about: settings, seeds, versions, machine, commands, hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .runs import Dataset, Ranked, recorded
from .sections import Part

MACHINE = ("platform", "cpu", "cpu_count")


def provenance(dataset: Dataset) -> Part:
    """What the facts of all rankers, ablations among them, say of themselves.

    `lines` are dicts, one a ranker; `machine`, `versions` and `hashes` are label and value; `configs` the settings of
    each run as JSON.
    """
    everyone = [*dataset.rankers, *dataset.ablations]
    common, manifest = _versions(everyone[0]), dataset.histories.manifest
    hashes = {"data": dataset.histories.data_hash, "catalogue": dataset.histories.catalogue_hash}
    hashes |= {f"input {name}": str(sha) for name, sha in manifest.get("inputs", {}).items()}
    tasks = {str(ranker.facts["task"]) for ranker in everyone if "task" in ranker.facts}
    hashes |= {"events and candidates": " ".join(sorted(tasks))} if tasks else {}
    configs = {run.name: recorded(run).get("evaluate", {}).get("config") for run in dataset.runs}
    return {
        "lines": [_line(ranker, common) for ranker in everyone],
        "machine": {name: common[name] for name in MACHINE if name in common},
        "versions": {name: value for name, value in common.items() if name not in MACHINE},
        "hashes": hashes,
        "configs": {name: _json(config, indent=2) for name, config in configs.items() if config},
    }


def _line(ranker: Ranked, common: Mapping[str, str]) -> Part:
    """`settings`, `adapter` and validation `trials` as text; `differs` are versions unlike the first ranker's."""
    facts, tuned = ranker.facts, ranker.facts.get("tuned") or {}
    own = [f"{name} {value}" for name, value in _versions(ranker).items() if common.get(name) != value]
    return {
        "name": ranker.name, "kind": ranker.kind, "seed": str(facts.get("seed", "")),
        "command": str(facts.get("command", "")), "wall_s": facts.get("wall_s"), "differs": ", ".join(own),
        "settings": _json(facts["settings"]) if facts.get("settings") else "",
        "adapter": _json(facts["adapter"], indent=2) if facts.get("adapter") else "",
        "trials": list(map(_trial, tuned.get("trials", []))),
        "tuned_on": f"{tuned.get('num_events', 0):,} validation events",
        "finished": str(facts.get("finished", ""))[:16].replace("T", " "),
    }  # fmt: skip


def _trial(trial: Mapping[str, Any]) -> tuple[str, str]:
    """Settings and scores on validation, as text."""
    scores = {name: value for name, value in trial["metrics"].items() if value is not None}
    numbers = (f"{name} {value:.4f}" for name, value in scores.items())
    return _json(trial["settings"]), ", ".join(numbers)


def _versions(ranker: Ranked) -> dict[str, str]:
    return {str(name): str(value) for name, value in ranker.facts.get("versions", {}).items()}


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)
