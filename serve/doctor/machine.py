"""The machine: versions, processor, GPU, memory, disk. Imports neither torch nor vLLM."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from ctypes.util import find_library
from pathlib import Path
from typing import Final

from ...decode import ModelSettings
from ..launcher.install import HOW, SERIES, installed_build
from .finding import Finding

PACKAGES: Final = ("torch", "transformers", "peft")
GIB: Final = 2**30
MEMORY_GIB: Final = 2.0
"""Free memory that is required beside the weights and the KV cache: what vLLM itself takes."""
DISK_GIB: Final = 1.0
"""Free space below which merged weights or a store may not fit."""
_FLAGS: Final = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_GPU_TIMEOUT_S: Final = 2.0


def versions_found() -> Finding:
    """Python and the packages that a model needs."""
    found = {"Python": platform.python_version()}
    for name in ("whereupon", *PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    if missing := [name for name in PACKAGES if name not in found]:
        return Finding("versions", "wrong", f"{shown}; {missing[0]} is missing", "run `pip install 'whereupon[train]'`")
    return Finding("versions", "well", shown)


def vllm_found() -> Finding:
    """The vLLM that `serve` and batches use."""
    build = installed_build()
    if build is None:
        return Finding("vLLM", "note", "not installed; only `serve` and --all-users need it", HOW)
    if not build.version.startswith(f"{SERIES}."):
        return Finding("vLLM", "wrong", f"{build.version}, expected {SERIES}", HOW)
    if build.device == "cpu" and find_library("numa") is None:
        advice = "install it: `apt install libnuma1`, or `dnf install numactl-libs`"
        return Finding("vLLM", "wrong", f"{build.version} for cpu, but libnuma is missing, which it loads", advice)
    return Finding("vLLM", "well", f"{build.version} for {build.device}")


def cpu_found(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """CPUs that this process may use, and the instructions that decide how fast a model is."""
    num = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    known = [flag for flag in _FLAGS if flag in flags]
    shown = f"{num} CPUs, {' '.join(known) or 'instructions not known'}"
    if flags and not {"avx2", "asimd"} & flags:
        return Finding("CPU", "note", shown, "expect slow answers: this processor has neither AVX2 nor NEON")
    return Finding("CPU", "well", shown)


def gpu_found(model: ModelSettings) -> Finding:
    """GPUs that the driver names; `model.device` may insist on one."""
    program = shutil.which("nvidia-smi")
    names: list[str] = []
    if program:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=_GPU_TIMEOUT_S, check=True)
            names = done.stdout.strip().splitlines()
        except (OSError, subprocess.SubprocessError):
            return Finding(
                "GPU", "note", "nvidia-smi does not answer", "look at its driver, or set model.device to cpu"
            )
    if names:
        return Finding("GPU", "well", "; ".join(names))
    if model.device == "cuda":
        return Finding("GPU", "wrong", "none, and model.device is cuda", "set model.device to auto or cpu")
    return Finding("GPU", "well", "none; the CPU answers")


def memory_found(needed_gib: float, meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Free memory against `needed_gib`: weights and KV cache."""
    found = dict(_size(line) for line in meminfo.read_text().splitlines()) if meminfo.is_file() else {}
    if "MemAvailable" not in found:
        return Finding("memory", "note", "not known on this system")
    free, need = found["MemAvailable"] / GIB, needed_gib + MEMORY_GIB
    shown = f"{free:.1f} GiB free, about {need:.1f} GiB needed by a server"
    if free < need:
        return Finding("memory", "note", shown, "end other programs, or lower serve.kv_cache_gib")
    return Finding("memory", "well", shown)


def disk_found(folder: Path) -> Finding:
    """Whether one may write where a run is or would be, and free space there."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.is_dir())
    if not os.access(there, os.W_OK):
        todo = "a server writes merged weights and its log there: fix the permissions, or choose another run folder"
        return Finding("disk", "wrong", f"{there} cannot be written to", todo)
    free = shutil.disk_usage(there).free / GIB
    shown = f"{free:.1f} GiB free at {there}"
    if free < DISK_GIB:
        return Finding("disk", "wrong", shown, "free some space: merged weights and stored events are written there")
    return Finding("disk", "well", shown)


def key_found(host: str, variable: str, environment: Mapping[str, str]) -> Finding:
    """Whether a server that others reach requires a key."""
    if environment.get(variable):
        return Finding("API key", "well", f"set in {variable}")
    if host in ("127.0.0.1", "::1", "localhost"):
        return Finding("API key", "well", f"none, and {host} is reached from this machine only")
    advice = f"set {variable}, or serve.host to 127.0.0.1"
    return Finding("API key", "wrong", f"none, and anyone who reaches {host} may read and change everything", advice)


def _size(line: str) -> tuple[str, int]:
    name, _, rest = line.partition(":")
    number = rest.split()[:1]
    return name, int(number[0]) * 1024 if number and number[0].isdigit() else 0
