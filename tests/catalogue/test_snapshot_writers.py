"""Writers of snapshots that are killed, that come at once or that cannot write: a whole catalogue is left."""

import contextlib
import errno
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.catalogue import Catalogue, snapshots
from whereupon.errors import CatalogueError
from whereupon.tests.catalogue.toy_snapshots import NEW, NEWER, OLD, is_same, letters, made, names, read, write

pytestmark = pytest.mark.usefixtures("quick_writing")


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
from whereupon.tests.catalogue.toy_snapshots import letters

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
        end = math.inf  # until it has written once, which takes seconds on a machine that does other things too
        while time.monotonic() < end:
            assert writer.poll() is None
            if (tmp_path / "CURRENT").exists():
                seen.add(_written_by_the_writer(read(tmp_path)))
            if end == math.inf and max(seen, default=-1) >= start:
                end = time.monotonic() + random_.uniform(0.05, 0.6)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        if (tmp_path / "CURRENT").exists():
            seen.add(_written_by_the_writer(read(tmp_path)))
    write(tmp_path, OLD)
    assert is_same(read(tmp_path), OLD)
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    assert len(seen) >= 5, "one of each writer at least"


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
