"""The trained adapters of a run: several versions, one of them in use. Loads no model.

<run>/adapters/CURRENT    name of the version that recommend, serve and evaluate take
<run>/adapters/PREVIOUS   name of the version that was used before it
<run>/adapters/0002/      a PEFT adapter, whereupon.json (its card), README.md, log.jsonl;
                          checkpoint.pt while it trains
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..files import atomic_path, write_json
from .adapter_card import ADAPTER_CARD, read_card

ADAPTERS, CHECKPOINT = "adapters", "checkpoint.pt"
_VERSION = re.compile(r"\d{4,}")


@dataclass(frozen=True)
class AdapterVersion:
    """One version: `card` is empty where there is no adapter (yet); `complete` once its training has ended."""

    folder: Path
    card: dict[str, Any]
    is_current: bool

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def complete(self) -> bool:
        return self.card.get("complete") is True

    def line(self) -> str:
        """For a person: name, validation figures, and what it is."""
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.card.get("validation", {}).items())
        step = f"step {self.card['step']}: {scores or 'no validation events'}" if self.card else "no usable adapter"
        notes = [word for word, holds in (("current", self.is_current), ("unfinished", not self.complete)) if holds]
        return f"{self.name}  {step}" + (f"  ({', '.join(notes)})" if notes else "")


def adapter_versions(run: Path) -> list[AdapterVersion]:
    """All versions of a run, oldest first; a damaged card counts as none, so that it hinders no other version."""
    root, current = run / ADAPTERS, current_name(run)
    names = [path.name for path in root.glob("*") if _VERSION.fullmatch(path.name)]
    return [AdapterVersion(root / name, _card(root / name), name == current) for name in sorted(names, key=int)]


def _card(folder: Path) -> dict[str, Any]:
    try:
        return read_card(folder)
    except ModelError:
        return {}


def current_name(run: Path) -> str | None:
    """What CURRENT names; None before the first training has ended."""
    return _named_in(run / ADAPTERS / "CURRENT")


def previous_name(run: Path) -> str | None:
    """The version that was used before the current one; None where there was none."""
    return _named_in(run / ADAPTERS / "PREVIOUS")


def _named_in(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def current_adapter(run: Path) -> Path:
    """The folder of the adapter that is used. Raises ModelError where there is none, or only an unfinished one."""
    name = current_name(run)
    if name is None:
        if unfinished := adapter_versions(run):
            usable = [version.name for version in unfinished if version.card]
            or_use = f", or `whereupon adapters CONFIG --use {usable[-1]}` to use its best state" if usable else ""
            raise ModelError(
                f"The adapter {unfinished[-1].name} of {run} is unfinished, and there is no other: run `whereupon "
                f"finetune` to finish it{or_use}."
            )
        raise ModelError(f"There is no trained adapter in {run / ADAPTERS}: run `whereupon finetune` first.")
    folder = run / ADAPTERS / name
    if read_card(folder).get("complete") is not True:
        raise ModelError(
            f"The adapter in {folder} is unfinished, though CURRENT names it: run `whereupon adapters CONFIG --use` "
            "with a finished version."
        )
    return folder


def use_adapter(run: Path, name: str) -> str | None:
    """Make a version the current one; its name before, if any.

    An unfinished version ends with its best state so far: its checkpoint is removed. Raises ModelError for a version
    that is not there, or has no adapter yet.
    """
    versions = {version.name: version for version in adapter_versions(run)}
    version = versions.get(name.zfill(4))
    if version is None or not version.card:
        usable = ", ".join(known.name for known in versions.values() if known.card) or "none"
        raise ModelError(f"There is no adapter {name} in {run / ADAPTERS}: expected one of {usable}.")
    before = current_name(run)
    if not version.complete:
        write_json(version.folder / ADAPTER_CARD, version.card | {"complete": True})
        (version.folder / CHECKPOINT).unlink(missing_ok=True)
    if before not in (None, version.name):
        _write_name(run / ADAPTERS / "PREVIOUS", str(before))
    _write_name(run / ADAPTERS / "CURRENT", version.name)
    return before


def _write_name(file: Path, name: str) -> None:
    with atomic_path(file) as pointer:
        pointer.write_text(f"{name}\n", encoding="utf-8")
