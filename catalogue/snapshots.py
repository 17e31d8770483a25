"""Catalogues on disk: whole versions beside each other, of which one is current.

    CURRENT            name of the version that readers take
    v000007/           the arrays of the trie as .npy, the items as Arrow IPC, and a manifest, which is written last
    lock               held by the process that writes; it outlives all versions, or two writers could hold one each

A version is built under a name that no reader uses, flushed to disk, renamed, and only then does CURRENT name it, by a
rename too. So whenever a writer is stopped, readers find a whole catalogue, the old or the new one; what it left behind
is removed by the next writer. A catalogue that was read stays whole although its version is removed later on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..arrays import Int32, Int64
from ..console import say
from ..errors import CatalogueError
from ..files import atomic_path, listing, one_at_a_time, sha256_file, versions, write_json
from .catalogue import Catalogue
from .tokens import TERMINATOR
from .trie import Trie

FORMAT_VERSION = 1
KEPT_VERSIONS = 2  # the current one, and the one before, to go back to
_VERSION = re.compile(r"v(\d{6,})")
_LEFTOVER = re.compile(r"\.(v\d{6,}|CURRENT)\..*")
_ITEMS, _MANIFEST = "items.arrow", "manifest.json"
_ARRAYS = tuple(field.name for field in dataclasses.fields(Trie))
_INT64 = ("token_ptr_I1", "child_ptr_B1")


def write_snapshot(folder: str | os.PathLike[str], catalogue: Catalogue, *, tokenizer: str, origin: str = "") -> str:
    """`edit_snapshot` with a catalogue that does not depend on what is there."""
    return edit_snapshot(folder, lambda: catalogue, tokenizer=tokenizer, origin=origin)


def edit_snapshot(
    folder: str | os.PathLike[str], change: Callable[[], Catalogue], *, tokenizer: str, origin: str = ""
) -> str:
    """Write a new version, make it the current one, and remove those before the last two; the version's name.

    Waits for another writer to finish, in this process or another. A writer that is killed makes way at once.

    Args:
        folder: made if it is not there.
        change: makes the catalogue that is written. No other writer writes while it runs, and it must not write here.
        tokenizer: what distinguishes the tokenizer that made the catalogue's tokens from others, such as a hash of it.
        origin: what the catalogue was made from, for `snapshot_manifest`.

    Raises CatalogueError: the disk is full, or the folder cannot be written; the current version stays what it was.
    """
    root = Path(folder)
    try:
        with _only_writer(root):
            catalogue = change()
            number = max([0, *_numbers(root)]) + 1
            _remove_leftovers(root)
            version = f"v{number:06}"
            try:
                with atomic_path(root / version) as unfinished:
                    _write_version(unfinished, catalogue, tokenizer, origin)
                with atomic_path(root / "CURRENT") as pointer:
                    pointer.write_text(f"{version}\n", encoding="utf-8")
            except BaseException:
                with contextlib.suppress(OSError):  # what failed may be the disk itself; the next writer tries again
                    _remove_leftovers(root)
                raise
            with contextlib.suppress(OSError):
                for old in sorted(_numbers(root))[:-KEPT_VERSIONS]:
                    shutil.rmtree(root / f"v{old:06}")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _cannot_write(root, error) from error
    return version


def read_snapshot(folder: str | os.PathLike[str], *, tokenizer: str, verify: bool = False) -> Catalogue:
    """The current catalogue: its items, and its trie as arrays mapped from disk, read page by page when looked at.

    `tokenizer` is that of the reader; the same text as it was written with. `verify`: read all files and compare their
    hashes with the manifest's, not only their sizes. Raises CatalogueError: nothing was written there, or it is
    damaged, or of another version of whereupon or another tokenizer.
    """
    version, manifest = _current_manifest(Path(folder))
    while True:
        try:
            return _read_version(version, manifest, tokenizer, verify)
        except FileNotFoundError as error:
            # Two versions may have been written since CURRENT was read, so that this one is gone.
            found, manifest = _current_manifest(Path(folder))
            if found == version:
                raise _damaged(version, f"{Path(error.filename or version).name} is missing") from None
            version = found
        except KeyError as error:
            raise _damaged(version, f"{_MANIFEST} lacks {error}") from None


def snapshot_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What is known of the current version without reading it: `version`, `num_items`, `fingerprint`, `origin`,
    `tokenizer`, `files`, ... Raises CatalogueError as `read_snapshot`."""
    return _current_manifest(Path(folder))[1]


def remove_snapshots(folder: str | os.PathLike[str]) -> None:
    """Remove all versions, once no other writer is at work. Raises CatalogueError where it cannot be done."""
    root = Path(folder)
    if not root.is_dir():
        return
    try:
        with _only_writer(root):
            (root / "CURRENT").unlink(missing_ok=True)  # first, so that readers turn away before files go
            for path in [path for path in root.iterdir() if path.name != "lock"]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise _cannot_write(root, error) from error


# Writing


def _only_writer(root: Path) -> contextlib.AbstractContextManager[None]:
    return one_at_a_time(root / "lock", lambda: say(f"waiting for another process that changes {root}"))


def _write_version(folder: Path, catalogue: Catalogue, tokenizer: str, origin: str) -> None:
    folder.mkdir()
    for name in _ARRAYS:
        _save(folder / f"{name}.npy", getattr(catalogue.trie, name))
    catalogue.items.write_ipc(folder / _ITEMS)
    manifest = {
        "format": FORMAT_VERSION,
        "num_items": catalogue.trie.num_items,
        "num_tokens": len(catalogue.trie.token_P),
        "num_nodes": catalogue.trie.num_nodes,
        "fingerprint": catalogue.fingerprint,
        "origin": origin,
        "tokenizer": tokenizer,
        "terminator": TERMINATOR,
        "files": listing(folder),
        "versions": versions(),
    }
    write_json(folder / _MANIFEST, manifest)


def _save(file: Path, array: Int32 | Int64) -> None:
    """What `numpy.save` does, which however does not say that a disk is full."""
    layout: Any = np.lib.format  # typed in some versions of numpy only
    with file.open("wb") as stream:
        layout.write_array_header_1_0(stream, layout.header_data_from_array_1_0(array))
        stream.write(np.ascontiguousarray(array).data)


def _remove_leftovers(root: Path) -> None:
    """What a writer that was stopped has left: unfinished folders, and a version that did not become current."""
    current = _number(root)
    for path in list(root.iterdir()):
        version = _VERSION.fullmatch(path.name)
        if _LEFTOVER.fullmatch(path.name) or (version and int(version[1]) > current):
            shutil.rmtree(path)


def _numbers(root: Path) -> list[int]:
    return [int(found[1]) for path in root.iterdir() if (found := _VERSION.fullmatch(path.name))]


def _number(root: Path) -> int:
    """The current version's number. Raises CatalogueError where versions have no CURRENT beside them."""
    if (root / "CURRENT").is_file():
        return int(_current(root)[1:])
    if set(_numbers(root)) - {1}:  # 1 may stand there since the very first writer was stopped
        raise CatalogueError(
            f"{root} has versions but no CURRENT; write the name of the one to be read into that file."
        )
    return 0


def _cannot_write(root: Path, error: OSError | pl.exceptions.PolarsError) -> CatalogueError:
    stays = "the catalogue that was current stays so"
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return CatalogueError(
            f"There is no space left for another version of the catalogue in {root}; free some ({stays})."
        )
    reason = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
    return CatalogueError(f"The catalogue cannot be written to {root} ({reason}); correct that ({stays}).")


# Reading


def _current(root: Path) -> str:
    try:
        name = (root / "CURRENT").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise CatalogueError(f"{root} holds no catalogue (no CURRENT in it); write one there first.") from None
    if not _VERSION.fullmatch(name):
        raise CatalogueError(
            f"{root / 'CURRENT'} should name a version such as v000001 but reads {name[:40]!r}; correct it."
        )
    return name


def _current_manifest(root: Path) -> tuple[Path, dict[str, Any]]:
    """The current version's folder and manifest."""
    version = _current(root)
    while True:
        try:
            manifest: dict[str, Any] = json.loads((root / version / _MANIFEST).read_text(encoding="utf-8"))
            return root / version, {"version": version, **manifest}
        except FileNotFoundError:
            if (newer := _current(root)) == version:
                raise _damaged(root / version, f"{_MANIFEST} is missing") from None
            version = newer
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise _damaged(root / version, f"{_MANIFEST}: {error}") from None


def _read_version(folder: Path, manifest: dict[str, Any], tokenizer: str, verify: bool) -> Catalogue:
    if manifest.get("format") != FORMAT_VERSION:
        raise CatalogueError(f"{folder} was written by another version of whereupon; write the catalogue again.")
    for name, own in (("tokenizer", tokenizer), ("terminator", TERMINATOR)):
        if manifest[name] != own:
            raise CatalogueError(
                f"The catalogue in {folder} was written for another {name} ({manifest[name][:16]!r}) than this one "
                f"({own[:16]!r}); write it again, or use the model that it was written for."
            )
    for name, known in manifest["files"].items():
        if (size := (folder / name).stat().st_size) != known["bytes"]:
            raise _damaged(folder, f"{name} has {size} bytes, not {known['bytes']}")
        if verify and sha256_file(folder / name) != known["sha256"]:
            raise _damaged(folder, f"{name} has another hash")
    try:
        trie = Trie(**{name: _mapped(folder / f"{name}.npy", name) for name in _ARRAYS})
        with (folder / _ITEMS).open("rb") as file:  # polars would take a path with brackets in it for a pattern
            items = pl.read_ipc(file)
    except FileNotFoundError:
        raise
    except (ValueError, OSError, pl.exceptions.PolarsError) as error:
        raise _damaged(folder, str(error).splitlines()[0]) from None
    if not (items.height == trie.num_items == manifest["num_items"]):
        raise _damaged(folder, f"{items.height} items, {trie.num_items} titles")
    return Catalogue(items, trie)


def _mapped(file: Path, name: str) -> np.ndarray[Any, Any]:
    # A plain array over the mapping: np.memmap costs time at every slice.
    array = np.asarray(np.load(file, mmap_mode="r"))
    expected = np.int64 if name in _INT64 else np.int32
    if array.dtype != expected or array.ndim != 1:
        raise ValueError(f"{file.name} holds {array.dtype} in {array.ndim} dimensions")
    return array


def _damaged(folder: Path, what: str) -> CatalogueError:
    return CatalogueError(
        f"The catalogue in {folder} is damaged ({what.rstrip('.')}); write it again, or let CURRENT name the version "
        "before."
    )
