"""Files that are missing, empty, broken, or have other columns."""

from pathlib import Path

import polars as pl
import pytest

from whereupon.errors import ConfigError, DataError
from whereupon.histories import TableSettings
from whereupon.histories.reading import ROW, read_table
from whereupon.tests.texts import says

NEEDED = ("user_id", "item_id", "time")


def read(path: Path, **columns: str) -> pl.DataFrame:
    return read_table(TableSettings(path=path, columns=columns), what="events", required=NEEDED, known=NEEDED).table


def test_mapped_columns_get_our_names_and_rows_their_number(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text('who,item_id,time\nann,"a\nb",1\nbob,,2\n')
    table = read(path, user_id="who")
    assert table.to_dict(as_series=False) == {
        ROW: [1, 2],
        "user_id": ["ann", "bob"],
        "item_id": ["a\nb", None],
        "time": ["1", "2"],
    }


def test_swapped_names_are_put_right(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,time\nis-item,is-user,1\n")
    table = read(path, user_id="item_id", item_id="user_id")
    assert table.row(0, named=True) == {ROW: 1, "user_id": "is-user", "item_id": "is-item", "time": "1"}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pl.DataFrame({"user_id": [1], "item_id": ["a"], "time": [3.5]}).write_parquet(path)
    assert read(path).schema["time"] == pl.Float64


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says("none.csv", "events", "not exist")):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match=says(str(tmp_path), "is a folder")):
        read(tmp_path)


def test_misspelt_mapping_names_the_nearest_column(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user_id,venue_id,time\nann,a,1\n")
    facts = ("e.csv", "'venueid'", "user_id, venue_id, time", "'venue_id'", "histories.events.columns.item_id")
    with pytest.raises(DataError, match=says(*facts)):
        read(path, item_id="venueid")


def test_missing_column_says_where_to_name_it(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("User_ID,item_id,time\nann,a,1\n")
    with pytest.raises(DataError, match=says("'user_id'", "'User_ID'", "histories.events.columns.user_id")):
        read(path)


def test_mapping_of_an_unknown_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,time\nann,a,1\n")
    with pytest.raises(ConfigError, match=says("histories.events.columns", "'usr_id'", "'user_id'")):
        read(path, usr_id="user_id")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"user_id,item_id,time\n"])
def test_empty_file_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"e\.csv"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.parquet", b"this is no parquet"),
        ("e.bin", b"PAR1 and nothing more"),
        ("e.feather", b"ARROW1 and nothing more"),
        ("e.xlsx", b"\xd0\xcf\x11\xe0 and nothing more"),
        ("e.db", b"SQLite format 3\x00 and so on"),
    ],
)
def test_unreadable_file_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=says(name, "cannot be read")) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_byte_order_mark_windows_line_ends_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes(b"\xef\xbb\xbfuser_id,item_id,time\r\nann,a,1\r\nbob,b,2\r\n\r\n")
    table = read(path)
    assert table["user_id"].drop_nulls().to_list() == ["ann", "bob"]
    assert table["time"].drop_nulls().to_list() == ["1", "2"]


def test_atomic_file_of_recbole_is_read_with_its_types(tmp_path: Path) -> None:
    path = tmp_path / "toy.inter"
    path.write_text('user_id:token\titem_id:token\ttimestamp:float\ttags:token_seq\n007\t"a\t12.5\tx y\nb\t\t\t\n')
    table = read(path, time="timestamp")
    assert table.to_dict(as_series=False) == {
        ROW: [1, 2],
        "user_id": ["007", "b"],
        "item_id": ['"a', None],
        "time": [12.5, None],
    }
    assert table.schema["time"] == pl.Float64


@pytest.mark.parametrize("header", ["user_id", "user_id:text", ":token"])
def test_atomic_file_without_types_is_reported(tmp_path: Path, header: str) -> None:
    path = tmp_path / "toy.inter"
    path.write_text(f"{header}\titem_id:token\ttime:float\na\tb\t1\n")
    with pytest.raises(DataError, match=says("toy.inter", "name:type", f"'{header}'", "CSV")):
        read(path)
