"""Files that are packed, typed, JSON, many, or of a kind that is not read."""

import bz2
import errno
import gzip
import json
import lzma
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backports import zstd

from whereupon.errors import ConfigError, DataError
from whereupon.histories import TableSettings
from whereupon.histories.reading import ROW, Reading, read_table
from whereupon.tests.texts import says

NEEDED = ("user_id", "item_id", "time")
CSV = b"user_id,item_id,time\nu1,a,2024-01-01\nu2,b,2024-01-02\n"


def read(path: Path | list[Path], **settings: Any) -> Reading:
    return read_table(
        TableSettings.model_validate({"path": path, **settings}), what="events", required=NEEDED, known=NEEDED
    )


def users(reading: Reading) -> list[str]:
    return reading.table["user_id"].to_list()


@pytest.mark.parametrize(
    ("pack", "name"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"), (zstd.compress, "zstd")],
)
def test_packed_files_are_read_whatever_they_are_called(
    tmp_path: Path, pack: Callable[[bytes], bytes], name: str
) -> None:
    path = tmp_path / "events"
    path.write_bytes(pack(CSV))
    reading = read(path)
    assert users(reading) == ["u1", "u2"]
    assert name in reading.said[0]
    path.write_bytes(pack(CSV * 50)[:-9])
    with pytest.raises(DataError, match=says("events", name)):
        read(path)


def test_several_members_of_gzip_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "e.csv.gz"
    path.write_bytes(gzip.compress(CSV) + gzip.compress(b"u3,c,2024-01-03\n"))
    assert users(read(path)) == ["u1", "u2", "u3"]


def test_zip_of_one_file_is_read_and_of_several_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._e.csv", b"x")
        archive.writestr("e.csv", CSV)
    assert users(read(path)) == ["u1", "u2"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other.csv", CSV)
    with pytest.raises(DataError, match=says("2", "e.csv", "other.csv", "unpack")):
        read(path)


@pytest.mark.parametrize("form", ["parquet", "ipc", "ipc_stream"])
def test_typed_tables_are_known_by_their_bytes(tmp_path: Path, form: str) -> None:
    path = tmp_path / "noext"
    times = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2)]
    table = pl.DataFrame({"user_id": ["u1", "u2"], "item_id": [1, 2], "time": times, "other": [0, 0]})
    getattr(table, f"write_{form}")(path)
    reading = read(path)
    assert reading.table.to_dict(as_series=False) == {
        ROW: [1, 2],
        "user_id": ["u1", "u2"],
        "item_id": [1, 2],
        "time": times,
    }
    assert not reading.is_text


def test_first_sheet_of_a_workbook_is_read_with_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "e.xlsx"
    table = pl.DataFrame({"user_id": ["u1", "u2"], "item_id": [12.0, 7.0], "time": [datetime(2024, 1, 1, 8)] * 2})
    table.write_excel(path)
    reading = read(path)
    assert reading.table["item_id"].to_list() == [12, 7]
    assert reading.table["time"].to_list() == [datetime(2024, 1, 1, 8)] * 2


def test_data_set_saved_by_datasets_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "saved" / "train"
    folder.mkdir(parents=True)
    pl.DataFrame({"user_id": ["u1"], "item_id": ["a"], "time": [5]}).write_ipc_stream(
        folder / "data-00000-of-00001.arrow"
    )
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    assert users(read(folder)) == ["u1"]
    (folder.parent / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    with pytest.raises(DataError, match=says("splits", "train")):
        read(folder.parent)


def test_folder_pattern_and_list_are_one_table(tmp_path: Path) -> None:
    for at in (1, 2):
        (tmp_path / f"part-{at}.csv").write_text(f"user_id,item_id,time\nu{at},a,{at}\n")
    (tmp_path / "_SUCCESS").touch()
    for path in (tmp_path, tmp_path / "part-*.csv", [tmp_path / "part-1.csv", tmp_path / "part-2.csv"]):
        reading = read(path)
        assert (users(reading), reading.table[ROW].to_list()) == (["u1", "u2"], [1, 2])
        assert "rows 2 to 2" in reading.said[1]
    with pytest.raises(DataError, match=says("none-*.csv", "matches none")):
        read(tmp_path / "none-*.csv")


LINES = [
    {"user_id": "u1", "item_id": "a", "time": 1704096000, "text": "x\ny"},
    {"item_id": 7, "time": "2024-01-02", "user_id": "u2", "extra": {"deep": [1]}},
]


def test_json_lines_are_read_as_text_and_broken_ones_counted(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl.gz"
    whole = "".join(f"{json.dumps(line)}\n" for line in LINES)
    path.write_bytes(gzip.compress(whole.encode()))
    wanted = [("u1", "a", "1704096000"), ("u2", "7", "2024-01-02")]
    assert read(path).table.select(NEEDED).rows() == wanted
    first, second = whole.splitlines()
    path.write_bytes(gzip.compress(f'{first}\n{{"user_id": "u9", "item\n\n[1]\n{second}\n'.encode()))
    reading = read(path)
    assert reading.table.select(NEEDED).rows() == wanted
    assert reading.broken[ROW].to_list() == [2, 3]


def test_json_array_of_objects_is_read(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text(json.dumps([LINES[0], LINES[0]], indent=2))
    assert users(read(path)) == ["u1", "u1"]


def test_python_dictionaries_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "steam.json"
    path.write_text("{'username': 'secret', u'product_id': 'i4'}\n")
    with pytest.raises(DataError, match=says("Python dictionaries", "json.dumps")) as error:
        read(path)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"SQLite format 3\x00", "SQLite"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"%PDF-1.4", "PDF"),
        (b"\x80\x04\x95", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (bytes(range(1, 32)) * 20, "text"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / "e.csv").write_bytes(content)
    with pytest.raises(DataError, match=says("e.csv", name)):
        read(tmp_path / "e.csv")


def test_setting_of_texts_for_a_typed_table_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["u1"], "item_id": ["a"], "time": [5]}).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(ConfigError, match=says("histories.events.separator", "e.parquet")):
        read(tmp_path / "e.parquet", separator=";")


def test_damage_within_a_packed_file_is_a_sentence(tmp_path: Path) -> None:
    packed = gzip.compress(CSV * 200)
    (tmp_path / "e.csv.gz").write_bytes(packed[:30] + b"\xff\xff\xff" + packed[33:])
    with pytest.raises(DataError, match=says("gzip", "cannot be unpacked", "fetch or write it again")):
        read(tmp_path / "e.csv.gz")


def test_full_folder_of_temporary_files_is_no_damage_of_the_packed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(CSV))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "copyfileobj", no_space)
    with pytest.raises(OSError, match=says("no space left", f"{tmp_path}/whereupon-")) as caught:
        read(tmp_path / "e.csv.gz")
    assert caught.value.errno == errno.ENOSPC
