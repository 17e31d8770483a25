"""Delimited text in the forms that people bring: separators, headers, encodings, quotes, broken lines."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.errors import ConfigError, DataError
from whereupon.histories import TableSettings
from whereupon.histories.reading import ROW, Reading, read_table
from whereupon.tests.texts import says

NEEDED = ("user_id", "item_id", "time")
ROWS = [("u1", "café", "2024-01-01T08:00"), ("u2", "bar", "2024-01-02T09:30"), ("u1", "bar", "2024-01-03T10:00")]
BY_NUMBER: dict[str, str | int] = {"user_id": 1, "item_id": 2, "time": 3}


def read(path: Path, content: bytes | str, **settings: Any) -> Reading:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = TableSettings.model_validate({"path": path, **settings})
    return read_table(
        table, what="events", required=("user_id", "item_id", "time"), known=("user_id", "item_id", "time")
    )


def cells(reading: Reading) -> list[tuple[Any, ...]]:
    return reading.table.select("user_id", "item_id", "time").rows()


def text(separator: str, *, header: bool = True) -> str:
    names = [("user_id", "item_id", "time")] if header else []
    return "".join(separator.join(row) + "\n" for row in [*names, *ROWS])


@pytest.mark.parametrize(
    ("separator", "word"), [(",", "comma"), ("\t", "tab"), (";", "semicolon"), ("|", "pipe"), ("::", "::")]
)
def test_separator_is_sniffed_and_said(tmp_path: Path, separator: str, word: str) -> None:
    reading = read(tmp_path / "e.csv", text(separator))
    assert cells(reading) == ROWS
    assert word in reading.said[0]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "::"])
def test_file_without_header_is_mapped_by_number(tmp_path: Path, separator: str) -> None:
    reading = read(tmp_path / "e.dat", text(separator, header=False), columns=BY_NUMBER)
    assert cells(reading) == ROWS
    assert "no header" in reading.said[0]
    assert reading.table[ROW].to_list() == [1, 2, 3]


def test_names_for_a_file_without_header_are_taken_from_the_settings(tmp_path: Path) -> None:
    assert cells(read(tmp_path / "e.dat", text("::", header=False), header=["user_id", "item_id", "time"])) == ROWS


def test_names_mapped_in_a_file_without_header_are_answered_with_likely_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says("no header", "3 columns", "user_id: 1", "item_id: 2", "time: 3")) as error:
        read(tmp_path / "e.dat", text("::", header=False), columns={"user_id": "UserID"})
    assert "u1" not in str(error.value)


def test_number_beyond_the_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says("column 4", "has 3 columns", "histories.events.columns.time")):
        read(tmp_path / "e.csv", text(","), columns={"time": 4})


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16"),
        ("cp1252", "cp1252"),
        ("latin-1", "cp1252"),
    ],
)
def test_encoding_is_sniffed_and_said(tmp_path: Path, encoding: str, said: str) -> None:
    reading = read(tmp_path / "e.csv", text(",").encode(encoding))
    assert cells(reading) == ROWS
    assert said in reading.said[0]


@pytest.mark.parametrize(
    ("encoding", "word"),
    [("cp1251", "Чайная"), ("koi8_r", "Чайная"), ("cp1253", "καφενείο"), ("gb18030", "东京塔咖啡上海饭店")],
)
def test_other_alphabets_are_recognised(tmp_path: Path, encoding: str, word: str) -> None:
    reading = read(tmp_path / "e.csv", text(",").replace("café", word).encode(encoding))
    assert cells(reading)[0][1] == word


def test_set_encoding_is_used(tmp_path: Path) -> None:
    reading = read(tmp_path / "e.csv", text(",").replace("café", "łódź").encode("cp1250"), encoding="cp1250")
    assert cells(reading)[0][1] == "łódź"
    with pytest.raises(ValueError, match="utf-8 or cp1252"):
        TableSettings(path=tmp_path, encoding="no-such")


def test_bad_bytes_after_the_first_megabyte_are_found(tmp_path: Path) -> None:
    filler = "u1,bar,2024-01-01T08:00\n" * 50_000
    reading = read(
        tmp_path / "e.csv", ("user_id,item_id,time\n" + filler + "u2,café,2024-01-02T08:00\n").encode("cp1252")
    )
    assert cells(reading)[-1] == ("u2", "café", "2024-01-02T08:00")
    assert "cp1252" in reading.said[0]


def test_line_with_a_bad_byte_in_utf_8_is_rejected_and_the_others_stay(tmp_path: Path) -> None:
    content = text(",").encode() + "u3,日本,2024-01-04T08:00\n".encode() + b"u4,b\xe9,2024-01-05T08:00\n"
    reading = read(tmp_path / "e.csv", content)
    assert cells(reading) == [*ROWS, ("u3", "日本", "2024-01-04T08:00")]
    assert reading.broken.rows() == [(5, "bytes that are no UTF-8")]


@pytest.mark.parametrize(
    "before",
    ["# exported today\n# by us\n", "\n\n", "sep=,\n", "\r\n"],
)
def test_lines_before_the_header_are_left_out(tmp_path: Path, before: str) -> None:
    assert cells(read(tmp_path / "e.csv", before + text(","))) == ROWS


def test_rows_to_skip_are_skipped(tmp_path: Path) -> None:
    assert cells(read(tmp_path / "e.csv", "Report, 2024\nby, shop\n" + text(","), skip_rows=2)) == ROWS


def test_comment_that_names_the_columns_is_the_header(tmp_path: Path) -> None:
    assert cells(read(tmp_path / "e.csv", "#" + text(","))) == ROWS


def test_blank_lines_and_bare_returns_do_no_harm(tmp_path: Path) -> None:
    blank = read(tmp_path / "e.csv", text(",").replace("\n", "\n\n"))
    assert (cells(blank), blank.table[ROW].to_list()) == (ROWS, [1, 2, 3])
    assert cells(read(tmp_path / "r.csv", text(",").replace("\n", "\r"))) == ROWS


def test_zero_bytes_are_taken_out_and_counted(tmp_path: Path) -> None:
    reading = read(tmp_path / "e.csv", text(",").replace("bar", "b\0ar"))
    assert cells(reading) == ROWS
    assert list(reading.notes.values()) == [2]


def test_line_with_too_many_cells_is_named_and_rejected(tmp_path: Path) -> None:
    lines = text(",").splitlines()
    reading = read(tmp_path / "e.csv", "\n".join([*lines[:2], "u9,Good, Bad, Ugly,2024", *lines[2:]]))
    assert cells(reading) == ROWS
    assert reading.broken.rows() == [(2, "line 3: 5 cells instead of 3")]
    assert reading.table[ROW].to_list() == [1, 3, 4]


def test_short_lines_are_filled_and_counted(tmp_path: Path) -> None:
    content = "user_id,item_id,time,note\nu1,a,1\nu2,b,2,x\nu3\n"
    reading = read(tmp_path / "e.csv", content)
    assert cells(reading) == [("u1", "a", "1"), ("u2", "b", "2"), ("u3", None, None)]
    assert list(reading.notes.values()) == [2]


def test_header_again_in_the_midst_is_rejected(tmp_path: Path) -> None:
    reading = read(tmp_path / "e.csv", text(",") + text(","))
    assert cells(reading) == ROWS * 2
    assert reading.broken.rows() == [(4, "the header again")]


COMMENT = "user_id,item_id,time,note\n"


@pytest.mark.parametrize(
    ("lines", "items"),
    [
        (['u1,a,1,"nice', "u1,b,2,ok", "u1,c,3,ok"], ["a", "b", "c"]),
        (['u1,a,1,"nice', "u1,b,2,ok", 'u1,c,3,"bad', "u1,d,4,ok"], ["a", "b", "c", "d"]),
        (['u1,"a" bar,1,x', "u1,b,2,ok"], ['"a" bar', "b"]),
        (['u1,12" single,1,x', 'u1,5" tin,2,ok'], ['12" single', '5" tin']),
        (['u1,a,1,"one\n\ntwo, three"', 'u1,b,2,"x', 'u1,c,3,"four, ""five""\nsix"'], ["a", "b", "c"]),
    ],
)
def test_stray_quotes_lose_no_line(tmp_path: Path, lines: list[str], items: list[str]) -> None:
    reading = read(tmp_path / "e.csv", COMMENT + "\n".join(lines) + "\n")
    assert reading.table["item_id"].to_list() == items
    assert reading.broken.height == 0
    assert any("stray quotes" in note for note in reading.notes)


def test_quoted_cells_with_line_breaks_are_one_record(tmp_path: Path) -> None:
    reading = read(tmp_path / "e.csv", COMMENT + 'u1,a,1,"good, ""very""\nline, 2"\nu1,"b,\nc",2,\n')
    assert reading.table["item_id"].to_list() == ["a", "b,\nc"]
    assert not reading.notes


def test_quotes_written_with_a_backslash_are_understood(tmp_path: Path) -> None:
    content = 'user_id,item_id,time\n"u1","The \\"best\\" bar",1\n"u2","Other, too",2\n'
    assert read(tmp_path / "e.csv", content).table["item_id"].to_list() == ['The "best" bar', "Other, too"]


def test_single_quotes_are_taken_off(tmp_path: Path) -> None:
    content = "user_id,item_id,time\n'u1','a, b','1'\n'u2','c','2'\n"
    assert read(tmp_path / "e.csv", content).table["item_id"].to_list() == ["a, b", "c"]


@pytest.mark.parametrize(
    "content",
    ['"user_id","item_id","time"\n"1","u1","a","x"\n"2","u2","b","y"\n', "user_id,item_id,time\nu1,a,x,\nu2,b,y,\n"],
)
def test_one_more_cell_than_names_is_a_row_name_or_an_empty_end(tmp_path: Path, content: str) -> None:
    assert cells(read(tmp_path / "e.csv", content)) == [("u1", "a", "x"), ("u2", "b", "y")]


def test_refusal_shows_at_most_twelve_columns_and_no_cell(tmp_path: Path) -> None:
    header = ",".join(f"c{at}" for at in range(5000))
    row = ",".join(["secret"] * 4999 + ["7"])
    with pytest.raises(DataError, match=says("c0", "c11", "4988 more")) as error:
        read(tmp_path / "e.csv", f"{header}\n{row}\n{row}\n")
    assert "c12" not in str(error.value)
    assert "secret" not in str(error.value)
    assert len(str(error.value)) < 500


def test_one_column_for_two_roles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says("'user_id'", "item_id", "both")):
        read(tmp_path / "e.csv", text(","), columns={"user_id": "user_id", "item_id": "user_id"})
    with pytest.raises(ValueError, match="counted from 1"):
        TableSettings(path=tmp_path, columns={"user_id": 0})


def test_careful_reading_equals_plain_reading(tmp_path: Path) -> None:
    rows = [f'u{at % 7},"item, {at}",{at},"note {at}"' for at in range(1000)]
    plain = read(tmp_path / "p.csv", COMMENT + "\n".join(rows))
    careful = read(tmp_path / "c.csv", COMMENT + "\n".join([*rows, "one,two,three,four,five"]))
    assert careful.broken.height == 1
    assert plain.table.equals(careful.table)


def test_only_mapped_columns_are_kept_for_events(tmp_path: Path) -> None:
    reading = read(tmp_path / "e.csv", COMMENT + "u1,a,1,long text\n")
    assert reading.table.columns == [ROW, "user_id", "item_id", "time"]
    assert reading.table.schema[ROW] == pl.Int64


def test_cell_longer_than_any_limit_is_read(tmp_path: Path) -> None:
    long = "y" * 200_000
    content = f'user_id,item_id,time,note\nu1,bar,2024-01-01T08:00,"{long}"\nu2,bar,2024-01-02T09:00,{long}"\n'
    assert [row[0] for row in cells(read(tmp_path / "e.csv", content))] == ["u1", "u2"]


def test_zeros_behind_the_last_line_hide_no_row(tmp_path: Path) -> None:
    reading = read(tmp_path / "e.csv", text(",").encode() + b"\0" * 4096)
    assert cells(reading)[: len(ROWS)] == ROWS
    assert reading.table.height + reading.broken.height == len(ROWS) + 1
