import errno
import json
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from whereupon import files
from whereupon.errors import DataError
from whereupon.files import (
    atomic_path,
    one_at_a_time,
    read_json,
    read_object,
    sha256_file,
    sha256_text,
    versions,
    write_json,
)

_CPUINFO = Path("/proc/cpuinfo")
_CPU = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
# Of the empty text, and of "abc": FIPS 180-2, appendix B.1.
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_atomic_path_body_succeeds_file_stands_alone(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "deep" / "a.txt") as temporary:
        assert not (tmp_path / "deep" / "a.txt").exists()
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path / "deep") == ["a.txt"]


def _write_and_fail(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power cut")


def test_atomic_path_body_fails_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError, match="power cut"):
        _write_and_fail(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_atomic_path_body_writes_nothing_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "b.txt").write_text("elsewhere")
    assert os.listdir(tmp_path) == ["b.txt"]


def test_atomic_path_directory_over_directory_replaces_it_whole(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale.txt").write_text("stale")
    with atomic_path(tmp_path / "model") as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "fresh.txt").write_text("fresh")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["fresh.txt", "inner", "model"]


def test_folder_of_a_faster_process_is_replaced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final, rename = tmp_path / "stack", os.replace
    others = iter(["other one", "another one"])

    def slow(source: Path, target: Path) -> None:
        if target == final and (name := next(others, None)):  # between a look at `final` and the rename
            final.mkdir()
            (final / name).touch()
        rename(source, target)

    monkeypatch.setattr(os, "replace", slow)
    with atomic_path(final) as temporary:
        temporary.mkdir()
        (temporary / "ours").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["ours", "stack"]


def test_work_of_one_process_at_a_time_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.01)
    said = threading.Event()
    done: list[str] = []

    def second() -> None:
        with one_at_a_time(tmp_path / "new" / ".lock", said.set):
            done.append("second")

    other = threading.Thread(target=second)
    with one_at_a_time(tmp_path / "new" / ".lock", lambda: pytest.fail("nobody is waited for")):
        other.start()
        assert said.wait(30)
        done.append("first")
    other.join(30)
    assert done == ["first", "second"]


def test_json_written_reads_back_with_paths_and_numpy_as_plain_values(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": Path("x/y"), "score": np.float32(0.5), "count": np.int64(3), "é": None})
    assert read_json(tmp_path / "a.json") == {"path": "x/y", "score": 0.5, "count": 3, "é": None}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_json_of_what_json_cannot_hold_is_refused_and_leaves_no_file(tmp_path: Path, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"value": value})
    assert os.listdir(tmp_path) == []


def test_json_missing_or_broken_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json is missing"):
        read_json(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(DataError, match=r"cut\.json should be JSON"):
        read_json(tmp_path / "cut.json")


@pytest.mark.parametrize(("text", "what"), [("[]", "a list"), ("null", "null"), ('"a"', "text"), ("1.5", "a number")])
def test_json_that_is_no_object_is_refused_where_one_is_needed(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"should be JSON of an object, found {what}; write it again"):
        read_object(path)
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}


def test_sha256_known_inputs_known_digests(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == sha256_text("abc") == ABC_SHA256
    assert sha256_text("") == EMPTY_SHA256


def test_versions_are_texts_that_json_holds() -> None:
    found = versions()
    assert {"whereupon", "python", "platform", "cpu", "cpu_count", "numpy", "polars"} <= found.keys()
    assert all(isinstance(value, str) and value for value in found.values())
    assert json.loads(json.dumps(found)) == found


@pytest.mark.skipif("avx2" not in _CPU, reason="a processor without AVX2, or not Linux")
def test_versions_name_the_instructions_that_decide_speed() -> None:
    flags = versions()["cpu_flags"].split()
    assert "avx2" in flags
    assert ("avx512f" in flags) == (" avx512f " in _CPU)


def test_file_never_replaces_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match=r"out is a folder; name a file"), atomic_path(tmp_path / "out") as path:
        path.write_text("report")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


TRANSPORT = "parquet: File out of specification: Invalid thrift: transport error"  # polars on a full disk


def _fail_with(error: Exception, path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def _leave_free(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))


@pytest.mark.parametrize("error", [RuntimeError(TRANSPORT), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_write_that_fails_on_a_full_disk_says_so_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _leave_free(4096, monkeypatch)
    with pytest.raises(OSError, match=r"a\.parquet") as caught:
        _fail_with(error, tmp_path / "a.parquet")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_other_error_of_a_write_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _leave_free(1 << 40, monkeypatch)
    with pytest.raises(RuntimeError, match="transport error"):
        _fail_with(RuntimeError(TRANSPORT), tmp_path / "a.parquet")
    _leave_free(0, monkeypatch)
    with pytest.raises(DataError, match="wrong column"):
        _fail_with(DataError("wrong column"), tmp_path / "a.parquet")


def test_folder_that_cannot_be_written_to_is_reported_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/random name")

    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(OSError, match=r"a\.json") as caught:
        write_json(tmp_path / "a.json", {})
    assert caught.value.filename == str(tmp_path / "a.json")
