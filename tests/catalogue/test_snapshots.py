"""Snapshots: what is read is what was written, whole, whenever and however a writer is stopped."""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.catalogue import (
    Catalogue,
    read_snapshot,
    snapshot_manifest,
    snapshots,
    write_snapshot,
)
from whereupon.errors import CatalogueError

TOKENIZER = "letters-1"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking git and flushing the disk take longer than writing a small catalogue, and here many are written."""
    monkeypatch.setattr(snapshots, "versions", lambda: {"whereupon": "test"})
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def letters(texts: Sequence[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def made(*titles: str, **columns: Any) -> Catalogue:
    ids = [f"i{n}" for n in range(len(titles))]
    return Catalogue.build(pl.DataFrame({"item_id": ids, "title": titles, **columns}), letters)


OLD, NEW, NEWER = made("Bar", "Park"), made("Bar", "Park", "Zoo"), made("Zoo", "Bar 2", "Bar", "喫茶店")


def read(folder: Path, *, verify: bool = True) -> Catalogue:
    return read_snapshot(folder, tokenizer=TOKENIZER, verify=verify)


def write(folder: Path, catalogue: Catalogue) -> str:
    return write_snapshot(folder, catalogue, tokenizer=TOKENIZER)


def is_same(one: Catalogue, other: Catalogue) -> bool:
    arrays = ((getattr(one.trie, name), getattr(other.trie, name)) for name in one.trie.__dataclass_fields__)
    return one.items.equals(other.items) and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in arrays)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Writing and reading


@pytest.mark.parametrize("catalogue", [made("Bar"), NEW, made("Bar", "Zoo", stars=[1, None], tags=[["a", "b"], []])])
def test_catalogue_read_is_the_catalogue_written(tmp_path: Path, catalogue: Catalogue) -> None:
    assert write(tmp_path / "new" / "folder", catalogue) == "v000001"
    found = read(tmp_path / "new" / "folder")
    assert is_same(found, catalogue)
    assert found.fingerprint == catalogue.fingerprint
    assert found.trie.title_tokens(0).tolist() == catalogue.trie.title_tokens(0).tolist()


def test_arrays_are_mapped_and_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path, NEW)
    token_P = read(tmp_path).trie.token_P
    assert isinstance(token_P.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        token_P[0] = 1


def test_catalogue_that_was_read_can_be_edited_and_written_back(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    more = read(tmp_path).add(pl.DataFrame({"item_id": ["i2"], "title": ["Zoo"]}), letters)
    assert write(tmp_path, more) == "v000002"
    assert is_same(read(tmp_path), NEW)


def test_last_two_versions_are_kept(tmp_path: Path) -> None:
    for catalogue in (OLD, NEW, NEWER):
        write(tmp_path, catalogue)
    assert names(tmp_path) == ["CURRENT", "lock", "v000002", "v000003"]
    (tmp_path / "CURRENT").write_text("v000002\n")
    assert is_same(read(tmp_path), NEW)
    assert write(tmp_path, OLD) == "v000004", "the number of a version that was seen is never given again"


def test_catalogue_in_use_outlives_its_version(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    used = read(tmp_path, verify=False)
    for _ in range(3):
        write(tmp_path, NEW)
    assert not (tmp_path / "v000001").exists()
    assert is_same(used, OLD)


def test_manifest_shows_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, NEW)
    manifest = snapshot_manifest(tmp_path)
    assert (manifest["version"], manifest["num_items"], manifest["fingerprint"]) == ("v000001", 3, NEW.fingerprint)
    assert (manifest["tokenizer"], manifest["terminator"]) == (TOKENIZER, "\n")
    assert manifest["num_tokens"] == len(NEW.trie.token_P)
    sizes = {name: file["bytes"] for name, file in manifest["files"].items()}
    assert sizes == {name: (tmp_path / "v000001" / name).stat().st_size for name in sizes}
    assert {*sizes, "manifest.json"} == set(names(tmp_path / "v000001"))


def test_reader_that_is_overtaken_by_two_writers_takes_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, OLD)
    mapped, overtaken = snapshots._mapped, iter([True])

    def overtake(file: Path, name: str) -> Any:
        if next(overtaken, False):
            for catalogue in (OLD, NEW, NEWER):
                write(tmp_path, catalogue)
        return mapped(file, name)

    monkeypatch.setattr(snapshots, "_mapped", overtake)
    assert is_same(read(tmp_path), NEWER)


# Refusals


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    said = (
        r"^The catalogue in \S+v000001 was written for another tokenizer \('letters-1'\) than this one \('x'\); write"
    )
    with pytest.raises(CatalogueError, match=said):
        read_snapshot(tmp_path, tokenizer="x")


def test_another_terminator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, OLD)
    monkeypatch.setattr(snapshots, "TERMINATOR", ";")
    with pytest.raises(CatalogueError, match="was written for another terminator"):
        read(tmp_path)


def test_folder_without_a_catalogue_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            CatalogueError, match=r"^\S+ holds no catalogue \(no CURRENT in it\); write one there first\.$"
        ):
            read(folder)
    assert not (tmp_path / "none").exists()


def test_lost_pointer_does_not_cost_the_versions(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    write(tmp_path, NEW)
    (tmp_path / "CURRENT").unlink()
    with pytest.raises(CatalogueError, match="has versions but no CURRENT; write the name of the one to be read"):
        write(tmp_path, NEWER)
    assert names(tmp_path) == ["lock", "v000001", "v000002"]


def _change_manifest(version: Path, **changes: Any) -> None:
    manifest = json.loads((version / "manifest.json").read_text())
    (version / "manifest.json").write_text(json.dumps({k: v for k, v in (manifest | changes).items() if v is not None}))


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda v: (v / "token_P.npy").unlink(), r"is damaged \(token_P.npy is missing\); write it again"),
        (lambda v: (v / "items.arrow").unlink(), r"is damaged \(items.arrow is missing\)"),
        (lambda v: (v / "items.arrow").write_bytes(b"x"), r"is damaged \(items.arrow has 1 bytes, not \d+\)"),
        (lambda v: _flip(v / "token_P.npy"), r"is damaged \(token_P.npy has another hash\)"),
        (lambda v: (v / "manifest.json").unlink(), r"is damaged \(manifest.json is missing\)"),
        (lambda v: (v / "manifest.json").write_text("{"), r"is damaged \(manifest.json: "),
        (lambda v: (v / "manifest.json").write_text("[]"), r"is damaged \(manifest.json: "),
        (lambda v: _change_manifest(v, tokenizer=None), r"is damaged \(manifest.json lacks 'tokenizer'\)"),
        (lambda v: _change_manifest(v, num_items=7), r"is damaged \(3 items, 3 titles\)"),
        (lambda v: _change_manifest(v, format=99), r"was written by another version of whereupon; write the catalogue"),
        (lambda v: (v.parent / "CURRENT").write_text("../x"), r"should name a version such as v000001 but reads"),
        (lambda v: shutil.rmtree(v), r"is damaged \(manifest.json is missing\)"),
    ],
    ids=[
        "no array", "no items", "items cut short", "a bit is flipped", "no manifest", "manifest cut short",
        "manifest is a list", "manifest lacks a key", "another number of items", "another format", "pointer elsewhere",
        "no version",
    ],
)  # fmt: skip
def test_damaged_catalogue_is_refused_in_one_sentence(tmp_path: Path, damage: Callable[[Path], Any], said: str) -> None:
    write(tmp_path, NEW)
    damage(tmp_path / "v000001")
    with pytest.raises(CatalogueError, match=said) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "array"), [("token_P", np.zeros(3)), ("depth_B", np.zeros((2, 2), np.int32))])
def test_array_of_another_kind_is_refused(tmp_path: Path, name: str, array: Any) -> None:
    write(tmp_path, NEW)
    file = tmp_path / "v000001" / f"{name}.npy"
    np.save(file, array)
    files = snapshot_manifest(tmp_path)["files"]
    _change_manifest(file.parent, files=files | {file.name: {"bytes": file.stat().st_size}})
    with pytest.raises(
        CatalogueError, match=rf"is damaged \({name}.npy holds {array.dtype} in {array.ndim} dimensions\)"
    ):
        read(tmp_path, verify=False)


# Writers that are stopped


class Killed(BaseException):
    """As if the process had died: nothing it would do next has any effect."""


class Faults:
    """Counts file operations; at number `fatal` the process dies, before the operation or in the middle of it."""

    OPERATIONS = (
        (os, "replace"), (os, "mkdir"), (os, "rmdir"), (os, "unlink"), (os, "open"), (os, "fsync"), (shutil, "rmtree"),
        (Path, "open"), (Path, "mkdir"), (Path, "iterdir"), (Path, "write_text"), (pl.DataFrame, "write_ipc"),
        (np.lib.format, "write_array_header_1_0"),
    )  # fmt: skip

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fatal: int, halfway: bool) -> None:
        self.count, self.fatal, self.halfway, self.dead = 0, fatal, halfway, False
        for owner, name in self.OPERATIONS:
            monkeypatch.setattr(owner, name, self._wrap(getattr(owner, name), name))

    def _wrap(self, operation: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            if self.dead:
                raise Killed
            self.count += 1
            if self.count < self.fatal:
                return operation(*arguments, **keywords)
            if self.halfway:
                result = operation(*arguments, **keywords)
                if name in ("write_text", "write_ipc"):
                    file = arguments[0 if name == "write_text" else 1]
                    os.truncate(file, os.stat(file).st_size // 2)
                elif hasattr(result, "close"):
                    result.close()
            self.dead = True
            raise Killed

        return wrapped


@pytest.mark.slow
@pytest.mark.parametrize("halfway", [False, True], ids=["before", "in the middle"])
@pytest.mark.parametrize("versions", [0, 2])
def test_writer_killed_at_any_file_operation_leaves_a_whole_catalogue(
    tmp_path: Path, versions: int, halfway: bool
) -> None:
    before, outcomes = [OLD, NEW][:versions], []
    (tmp_path / "before").mkdir()
    for catalogue in before:
        write(tmp_path / "before", catalogue)
    for fatal in range(1, 1000):
        folder = Path(shutil.copytree(tmp_path / "before", tmp_path / "folder"))
        with pytest.MonkeyPatch.context() as monkeypatch:
            faults = Faults(monkeypatch, fatal, halfway)
            with contextlib.suppress(Killed):
                write(folder, NEWER)
        if before or (folder / "CURRENT").exists():
            outcomes.append(is_same(read(folder), NEWER))
            assert outcomes[-1] or is_same(read(folder), before[-1])
        else:
            outcomes.append(False)
        write(folder, OLD)
        assert is_same(read(folder), OLD)
        kept = [name for name in names(folder) if name.startswith("v")]
        assert names(folder) == ["CURRENT", "lock", *kept], "nothing is left of the one that was killed"
        assert len(kept) == min(2, versions + 1 + outcomes[-1])
        shutil.rmtree(folder)
        if not faults.dead:
            break
    assert outcomes == sorted(outcomes), "old, and from some operation on new"
    assert outcomes.count(False) > 40
    assert outcomes[-1]


WRITER = """
import sys
import polars as pl
from whereupon.catalogue import Catalogue, write_snapshot
from whereupon.tests.catalogue.test_snapshots import letters

print("ready", flush=True)
first, num, seed = map(int, sys.argv[2:])
while True:
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(num)], "title": [f"{seed} {n}" for n in range(num)]})
    write_snapshot(sys.argv[1], Catalogue.build(items, letters), tokenizer="letters-1")
    seed += 1
"""


@pytest.mark.slow
def test_process_killed_at_any_time_leaves_a_whole_catalogue(tmp_path: Path) -> None:
    """A reader reads all the while."""
    random_ = random.Random(7)
    seen = set()
    for start in range(0, 5000, 1000):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), "0", "400", str(start)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        end = time.monotonic() + random_.uniform(0.05, 0.6)
        while time.monotonic() < end:
            if (tmp_path / "CURRENT").exists():
                seen.add(_written_by_the_writer(read(tmp_path)))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        if (tmp_path / "CURRENT").exists():
            seen.add(_written_by_the_writer(read(tmp_path)))
    write(tmp_path, OLD)
    assert is_same(read(tmp_path), OLD)
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    assert len(seen) > 1


def _written_by_the_writer(catalogue: Catalogue) -> int:
    """The number that all titles begin with; fails unless trie and items belong together."""
    assert is_same(catalogue, Catalogue.build(catalogue.items, letters))
    assert catalogue.items.height == 400
    (number,) = {int(title.split()[0]) for title in catalogue.titles}
    return number


def test_writers_at_once_wait_for_each_other(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def write_some(catalogue: Catalogue) -> list[str]:
        start.wait()
        return [write(tmp_path, catalogue) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        written = [name for names in pool.map(write_some, [OLD, NEW, NEWER, made("Inn")]) for name in names]
    assert sorted(written) == [f"v{number:06}" for number in range(1, 17)]
    assert names(tmp_path) == ["CURRENT", "lock", "v000015", "v000016"]
    read(tmp_path)


# Writers that cannot write


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
def test_writer_that_cannot_write_leaves_the_old_version_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """At any of its operations; what it has written so far is gone at once, for the disk may be full."""
    write(tmp_path, OLD)
    write(tmp_path, NEW)
    full = code in (errno.ENOSPC, errno.EDQUOT)
    said = (
        r"^There is no space left .* free some \(the"
        if full
        else r"^The catalogue cannot be written to \S+ \(.*\); correct"
    )
    for target in ("_save", "listing", "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(snapshots, target, _fail(code))
            with pytest.raises(CatalogueError, match=said) as caught:
                write(tmp_path, NEWER)
        assert str(caught.value).endswith("(the catalogue that was current stays so).")
        assert "\n" not in str(caught.value)
        assert is_same(read(tmp_path), NEW)
        assert names(tmp_path) == ["CURRENT", "lock", "v000001", "v000002"]


def _fail(code: int) -> Callable[..., Any]:
    def fail(*arguments: Any, **keywords: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def test_disk_that_polars_finds_full_is_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error has no number."""
    write(tmp_path, OLD)

    def fail(*arguments: Any, **keywords: Any) -> Any:
        raise OSError("No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_ipc", fail)
    with pytest.raises(
        CatalogueError, match=r"^There is no space left for another version of the catalogue in \S+; free"
    ):
        write(tmp_path, NEW)


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CatalogueError, match=r"^The catalogue cannot be written to \S+file \(File exists\); correct that"
    ):
        write(tmp_path / "file", OLD)
