"""The weights that the server loads: base model and adapter in one, in `<run>/served/<key>/`.

An adapter beside the weights costs time at every token. Merged weights are also those that `evaluate` and `recommend`
compute with. They are made once, and used again while base model, adapter and number format are the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...console import say
from ...decode.adapter_card import read_card
from ...decode.adapters import current_adapter
from ...decode.export import write_merged
from ...decode.identity import model_identity
from ...errors import DataError
from ...files import atomic_path, one_at_a_time, read_object, sha256_text, versions, write_json

if TYPE_CHECKING:
    from ...decode import ModelSettings
    from ..settings import ServeConfig

FORMAT_VERSION = 3
MANIFEST = "whereupon-merged.json"


@dataclass(frozen=True)
class Weights:
    """A folder with configuration, weights and tokenizer. `max_tokens`: how many tokens the model sees, if bounded."""

    folder: Path
    num_bytes: int
    max_tokens: int | None


@contextlib.contextmanager
def merged_weights(config: ServeConfig, dtype: str, adapter: Path | None = None) -> Iterator[Weights]:
    """The weights of a run in a number format, made if need be; while the block runs, no other start removes them.

    `adapter`: the folder of a version; by default that of the current one.

    Weights of other adapters or formats are removed unless another server uses them. Raises ModelError for a base model
    or an adapter that is missing, corrupt, or cannot be saved.
    """
    served = config.run / "served"
    settings = config.model.model_copy(update={"dtype": dtype, "device": "cpu"})  # no memory of a GPU is kept from vLLM
    adapter = adapter or current_adapter(config.run)
    identity = {"format": FORMAT_VERSION, **model_identity(settings, read_card(adapter))}
    key = sha256_text(json.dumps(identity, sort_keys=True))[:16]
    served.mkdir(parents=True, exist_ok=True)
    folder = served / key
    with contextlib.ExitStack() as kept:
        with _only_maker(served):
            manifest = _manifest(folder) or _merge(settings, adapter, folder)
            fcntl.flock(kept.enter_context((folder / MANIFEST).open("rb")), fcntl.LOCK_SH)  # these are in use
            _remove_others(served, key)
        num_bytes = sum(manifest["files"].values())
        say(f"{num_bytes:,} bytes of merged weights in {folder}")
        yield Weights(folder, num_bytes, manifest["max_tokens"])


def _manifest(folder: Path) -> dict[str, Any] | None:
    """What is written of the weights, if these are whole by the sizes of their files."""
    try:
        manifest = read_object(folder / MANIFEST)
        whole = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
    except (DataError, OSError, KeyError):
        return None
    return manifest if whole else None


def _merge(settings: ModelSettings, adapter: Path, folder: Path) -> dict[str, Any]:
    """Make the weights; their manifest."""
    began = time.perf_counter()
    from ...decode.architecture import longest_text

    with atomic_path(folder) as unfinished:
        unfinished.mkdir()
        model = write_merged(settings, adapter, unfinished)
        files = {file.name: file.stat().st_size for file in sorted(unfinished.iterdir())}
        manifest = {"base": settings.base, "dtype": settings.dtype, "max_tokens": longest_text(model.config),
                    "files": files, "adapter_hash": read_card(adapter)["adapter_hash"]}  # fmt: skip
        write_json(unfinished / MANIFEST, manifest | {"versions": versions()})
    say(f"base model and adapter merged in {time.perf_counter() - began:.1f} s")
    return manifest


def _only_maker(served: Path) -> contextlib.AbstractContextManager[None]:
    """One start at a time; the next one finds what this one made."""
    return one_at_a_time(served / "lock", lambda: say(f"waiting for another start that makes weights in {served}"))


def _remove_others(served: Path, key: str) -> None:
    """Remove weights that no server uses, and what a killed start left unfinished."""
    for folder in served.iterdir():
        if folder.name == key or not folder.is_dir():
            continue
        with contextlib.suppress(BlockingIOError):  # they are in use
            # Without a manifest, no server can have begun to use them.
            with contextlib.suppress(FileNotFoundError), (folder / MANIFEST).open("rb") as manifest:
                fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
