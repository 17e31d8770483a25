"""One function in a process of its own, so that its memory and its imports are its own, within limits.

    outcome = fresh("tries", "build", {"folder": "/somewhere"}, limit_s=120, limit_gib=8)

The function lies in a module of this folder, takes plain keyword arguments and returns what JSON can hold. It must
call `start_over`: what went before (imports, reading its input) counts neither as time nor as memory.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_S = 0.01
START_LIMIT_S = 600.0
STARTED = "WHEREUPON_BENCH_STARTED"  # names the file by which the new process says that it has started over


@dataclass(frozen=True)
class Outcome:
    """What became of it: the function's value, or None and why; seconds and memory in bytes since `start_over`.

    `added_bytes` is by how much the peak lies above what the process held then, `peak_bytes` the peak itself.
    """

    value: Any
    problem: str | None
    wall_s: float
    peak_bytes: int
    added_bytes: int


def fresh(module: str, function: str, arguments: dict[str, Any], *, limit_s: float, limit_gib: float) -> Outcome:
    """Call `module.function(**arguments)` in a new process; it is ended where it goes beyond a limit."""
    with tempfile.TemporaryDirectory() as folder:
        answer, started, errors = (Path(folder) / name for name in ("answer.json", "started", "stderr"))
        call = {"module": module, "function": function, "arguments": arguments, "answer": str(answer)}
        environment = os.environ | {STARTED: str(started)}
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(call)], stdout=stderr, stderr=stderr, env=environment
            )
            try:
                wall_s, peak, held, problem = _watch(process, started, limit_s, limit_gib)
            finally:
                process.kill()
                process.wait()
        if problem is None and (process.returncode or not answer.is_file()):
            lines = errors.read_text(errors="replace").strip().splitlines()
            problem = f"failed: {lines[-1][:200] if lines else process.returncode}"
        if problem:
            return Outcome(None, problem, wall_s, peak, peak - held)
        content = json.loads(answer.read_text())
        return Outcome(content["value"], None, wall_s, content["peak_bytes"], content["peak_bytes"] - held)


def _watch(
    process: subprocess.Popen[bytes], started: Path, limit_s: float, limit_gib: float
) -> tuple[float, int, int, str | None]:
    """Wait for the end; seconds, peak, what was held at the start, and the limit that was reached, in words."""
    began, peak, held, has_started = time.perf_counter(), 0, 0, False
    while process.poll() is None:
        if not has_started and started.is_file() and (text := started.read_text()):
            began, held, has_started = time.perf_counter(), int(text), True
        peak = peak_bytes(process.pid) or peak
        limit = limit_s if has_started else START_LIMIT_S
        if time.perf_counter() - began > limit:
            return limit, peak, held, f"did not {'finish' if has_started else 'start'} within {limit:g} s"
        if peak > limit_gib * 2**30:
            return time.perf_counter() - began, peak, held, f"took more than {limit_gib:g} GiB"
        time.sleep(POLL_S)
    if not has_started and started.is_file():
        held = int(started.read_text() or 0)
    return time.perf_counter() - began, peak, held, None


def peak_bytes(pid: int | str = "self") -> int:
    """The most memory that a process has held so far; 0 if it is gone. Linux only.

    From /proc and not from getrusage, whose ru_maxrss a child takes over from the process that started it.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")]
    return found[0] if found else 0


def start_over() -> None:
    """Called in the new process once everything is at hand: from here on time and memory count."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is held now
    Path(os.environ[STARTED]).write_text(str(peak_bytes()))


def _answer(call: dict[str, Any]) -> None:
    value = getattr(importlib.import_module(call["module"]), call["function"])(**call["arguments"])
    answer = Path(call["answer"])
    answer.with_suffix(".part").write_text(json.dumps({"value": value, "peak_bytes": peak_bytes()}))
    os.replace(answer.with_suffix(".part"), answer)
    os._exit(0)  # tidying up is not measured here, and takes seconds with torch


if __name__ == "__main__":
    _answer(json.loads(sys.argv[1]))
