"""What every bench writes: machine, versions, seed, figures, and one bar for each required figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from whereupon.files import versions, write_json

RESULTS = Path(__file__).parent / "results"


def command(script: str) -> str:
    """What was typed; paths below the repository without the folder that it lies in."""
    return f"python bench/{script}.py {' '.join(sys.argv[1:])}".strip().replace(f"{RESULTS.parents[1]}/", "")


def bar(name: str, value: float | None, bound: str, ok: bool) -> dict[str, Any]:
    """A required figure: what it is (None: not measured), its bound in words, and whether it keeps it."""
    return {"name": name, "value": value, "bound": bound, "ok": bool(ok)}


def record(
    name: str,
    seed: int | None,
    bars: list[dict[str, Any]],
    *,
    script: str = "",
    folder: Path | None = None,
    **figures: Any,
) -> int:
    """Write `bench/results/NAME.json`, print the bars, and return the exit status: 1 if one is missed.

    `script`: of bench/, without its ending, where its results are of another name.
    `folder`: where they are written instead.
    """
    found = versions()
    machine = {key: found.pop(key) for key in ("platform", "cpu", "cpu_count", "cpu_flags") if key in found}
    content = {"command": command(script or name), "machine": machine,
               "versions": found, "seed": seed, "bars": bars, **figures}  # fmt: skip
    write_json((folder or RESULTS) / f"{name}.json", content)
    for one in bars:
        value = "not measured" if one["value"] is None else f"{one['value']:.6g}"
        print(f"{'met   ' if one['ok'] else 'MISSED'} {one['name']}: {value} (required: {one['bound']})")
    return 0 if all(one["ok"] for one in bars) else 1
