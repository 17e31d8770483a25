"""Fingerprints of all that decides a model's answers. They are of contents: a replaced file keeps its name."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from ..errors import DataError, ModelError, first_line
from ..files import cache_folder, read_object, sha256_file, sha256_text, write_json
from .base_models import resolve_base_model
from .hardware import resolve_dtype
from .settings import ModelSettings

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_WEIGHTS = (".safetensors", ".bin")
# Entries of config.json that change with the version or the place and not with what the model computes.
_IDLE = ("transformers_version", "_name_or_path", "torch_dtype", "dtype")
# Clocks of file systems are coarse: what is younger may change once more without another time.
_SETTLED_NS = 2_000_000_000


def base_identity(model: ModelSettings) -> dict[str, Any]:
    """Name, revision (a hub model's commit), quantization, and `base_hash`: whether two base models are the same.

    The hash is that of weights, config.json and quantization, so a folder may move. Raises ModelError: see
    `resolve_base_model`.
    """
    folder = resolve_base_model(model.base, model.revision)
    is_snapshot = folder.parent.name == "snapshots"
    weights = sorted(file for file in folder.iterdir() if file.suffix in _WEIGHTS)
    try:
        config = read_object(folder / "config.json")
    except DataError as error:
        raise ModelError(f"The base model {model.base} cannot be read ({first_line(error)}); fetch it again.") from None
    kept = {name: value for name, value in config.items() if name not in _IDLE}
    contents: list[Any] = [kept, {file.name: hash_of(file) for file in weights}]
    if model.quantize != "none":
        contents.append(model.quantize)
    return {
        "base_model": model.base,
        "base_revision": folder.name if is_snapshot else None,
        "quantize": model.quantize,
        "base_hash": sha256_text(json.dumps(contents, sort_keys=True)),
    }


def check_files(folder: Path) -> None:
    """Raise ModelError unless the weights and the LoRA settings of an adapter are there."""
    if absent := [name for name in ADAPTER_FILES if not (folder / name).is_file()]:
        raise ModelError(f"The adapter in {folder} is corrupt (no {absent[0]}): run `whereupon finetune` again.")


def adapter_hash(folder: Path) -> str:
    """Fingerprint of an adapter's weights and LoRA settings; errors as `check_files`."""
    check_files(folder)
    return sha256_text("".join(hash_of(folder / name) for name in ADAPTER_FILES))


def model_identity(model: ModelSettings, card: dict[str, Any]) -> dict[str, Any]:
    """All that decides the numbers of a base model with the adapter of `card` (empty: without one).

    It is part of every key of kept answers, calibrations and merged weights.
    """
    adapter = {name: card.get(name) for name in ("adapter_hash", "temperature")}
    return {"base_hash": base_identity(model)["base_hash"], "dtype": resolve_dtype(model), **adapter}


def hash_of(file: Path) -> str:
    """SHA-256 of a file, computed once for each path, size and time of change.

    In the hub's cache a weight file is a link to one that is named after its SHA-256, and nothing is read.
    """
    real = file.resolve()
    if file.is_symlink() and real.parent.name == "blobs" and len(real.name) == 64:
        return real.name
    stat, cache = real.stat(), cache_folder("hashes") / "file-hashes.json"
    mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    try:
        known = read_object(cache)
    except (DataError, OSError):
        known = {}
    entry = known.get(str(real))
    if isinstance(entry, list) and entry[:-1] == mark:
        return str(entry[-1])
    found = sha256_file(real)
    if time.time_ns() - stat.st_ctime_ns < _SETTLED_NS:
        return found
    kept = {path: one for path, one in known.items() if Path(path).exists()}
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        write_json(cache, kept | {str(real): [*mark, found]})
    return found
