"""A seeded generator of broken files: good events, written well, and then damaged in one known way."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

import numpy as np
import polars as pl

Verdict = Literal["read", "refused", "either"]
COLUMNS: Final = ("user_id", "item_id", "time", "latitude", "longitude", "note")
USER, ITEM, TIME, LATITUDE, LONGITUDE, NOTE = range(6)
NUM_ROWS: Final = 40
_NOTES: Final = ("plain", "a, b", 'says "hi"', "semi; colon", "café", "", "it's", "tab\there", "#4", "x" * 60)


@dataclass(frozen=True)
class Broken:
    """A damaged file.

    Attributes:
        name: of the file; its ending says how it is packed.
        data: its bytes.
        rows: the good rows, as texts in the order of `COLUMNS`.
        harmed: numbers of good rows that the damage touches: they may be rejected, never lost.
        num_rows: how many rows the file has, as who reads it by eye would count; None: that cannot be said.
        verdict: whether a table must be read out of it, must be refused with a sentence, or either.
    """

    name: str
    data: bytes
    rows: list[list[str]]
    harmed: frozenset[int] = frozenset()
    num_rows: int | None = NUM_ROWS
    verdict: Verdict = "read"

    def but(self, data: bytes, *harmed: int, num_rows: int | None = -1, verdict: Verdict = "read") -> Broken:
        """The same with other bytes."""
        num = self.num_rows if num_rows == -1 else num_rows
        return replace(self, data=data, harmed=frozenset(harmed), num_rows=num, verdict=verdict)


Fault = Callable[[Broken, np.random.Generator], Broken]


def good_rows(rng: np.random.Generator) -> list[list[str]]:
    """Distinct events."""
    start = datetime(2024, 3, 1)
    return [
        [
            f"u{rng.integers(1, 6):02}", f"i{rng.integers(1, 9):02}",
            f"{start + timedelta(minutes=int(number * 313 + rng.integers(0, 300))):%Y-%m-%dT%H:%M:%SZ}",
            f"{40.5 + rng.random():.5f}", f"{-74 + rng.random():.5f}", _NOTES[int(rng.integers(len(_NOTES)))],
        ]
        for number in range(NUM_ROWS)
    ]  # fmt: skip


def written(rows: list[list[str]], separator: str = ",", end: str = "\n") -> str:
    """A delimited text whose cells are quoted where that is needed."""
    return "".join(line(cells, separator) + end for cells in [list(COLUMNS), *rows])


def line(cells: list[str], separator: str = ",") -> str:
    """One line without its end."""
    special = (separator, '"', "\n", "\r")
    return separator.join(
        '"' + cell.replace('"', '""') + '"' if any(one in cell for one in special) else cell for cell in cells
    )


def _lines(file: Broken) -> list[str]:
    """The header and one line a row; the good rows have no line ends in their cells."""
    return file.data.decode("utf-8").splitlines()


def _joined(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8")


def _some(rng: np.random.Generator, num: int = 3) -> list[int]:
    return sorted(int(row) for row in rng.choice(NUM_ROWS - 2, num, replace=False) + 1)


def _cells(change: Callable[[list[str]], list[str]]) -> Fault:
    """A fault of the cells of three rows."""

    def fault(file: Broken, rng: np.random.Generator) -> Broken:
        chosen, separator = _some(rng), _separator(file)
        lines = _lines(file)
        for row in chosen:
            lines[row + 1] = line(change(list(file.rows[row])), separator)
        return file.but(_joined(lines), *chosen)

    return fault


def _texts(change: Callable[[str], str]) -> Fault:
    """A fault of the lines of three rows."""

    def fault(file: Broken, rng: np.random.Generator) -> Broken:
        chosen, lines = _some(rng), _lines(file)
        for row in chosen:
            lines[row + 1] = change(lines[row + 1])
        return file.but(_joined(lines), *chosen)

    return fault


def _put(column: int, value: str) -> Fault:
    def change(cells: list[str]) -> list[str]:
        cells[column] = value
        return cells

    return _cells(change)


def _swap(one: int, other: int) -> Fault:
    def change(cells: list[str]) -> list[str]:
        cells[one], cells[other] = cells[other], cells[one]
        return cells

    return _cells(change)


def _separator(file: Broken) -> str:
    return {"csv": ",", "txt": ";", "tsv": "\t"}[file.name.rsplit(".", 1)[1]]


def _whole(change: Callable[[bytes], bytes], verdict: Verdict = "read", num_rows: int | None = -1) -> Fault:
    """A fault of the file as a whole that harms no row."""
    return lambda file, rng: file.but(change(file.data), verdict=verdict, num_rows=num_rows)


def _refused(make: Callable[[bytes], bytes], ending: str = "") -> Fault:
    return lambda file, rng: replace(
        file.but(make(file.data), num_rows=None, verdict="refused"), name=file.name + ending
    )


def _packed(make: Callable[[bytes], bytes], ending: str) -> Fault:
    return lambda file, rng: replace(file.but(make(file.data)), name=file.name + ending)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("events.csv"), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _truncated(file: Broken, rng: np.random.Generator) -> Broken:
    """Cut within a line; the rows behind are not there, and the cut one is harmed."""
    lines = file.data.split(b"\n")
    last = int(rng.integers(20, NUM_ROWS - 1))
    whole = lines[last + 1]
    kept = whole[: int(rng.integers(3, max(4, len(whole) - 1)))]
    short = replace(file, rows=file.rows[: last + 1])
    return short.but(b"\n".join([*lines[: last + 1], kept]), last, num_rows=last + 1)


def _flipped(file: Broken, rng: np.random.Generator) -> Broken:
    """Some bytes of three lines are others: letters and digits, so that cells stay cells."""
    chosen, lines = _some(rng), file.data.split(b"\n")
    for row in chosen:
        changed = bytearray(lines[row + 1])
        at = [place for place, byte in enumerate(changed) if chr(byte).isalnum() and byte < 128]
        for place in rng.choice(at, 3):
            changed[place] = int(rng.integers(97, 123))
        lines[row + 1] = bytes(changed)
    return file.but(b"\n".join(lines), *chosen)


def _inserted(make: Callable[[list[str]], list[str]], counted: bool) -> Fault:
    """Lines put between others; `counted`: each is a row, to be rejected."""

    def fault(file: Broken, rng: np.random.Generator) -> Broken:
        lines, new = _lines(file), make(_lines(file))
        for number, at in enumerate(sorted(rng.choice(NUM_ROWS - 4, len(new), replace=False) + 3)):
            lines.insert(int(at) + number, new[number])
        return file.but(_joined(lines), num_rows=NUM_ROWS + len(new) * counted)

    return fault


def _mixed_ends(file: Broken, rng: np.random.Generator) -> Broken:
    lines = _lines(file)
    return file.but("".join(text + ("\r\n" if rng.random() < 0.5 else "\n") for text in lines).encode())


def _bad_bytes(file: Broken, rng: np.random.Generator) -> Broken:
    """Bytes that are no UTF-8 in three notes of a file with other accents that are."""
    chosen, lines = _some(rng), file.data.split(b"\n")
    for row in chosen:
        lines[row + 1] += b"\xc3\x28\xff"
    return file.but(b"\n".join(lines), *chosen)


def _latin(file: Broken, rng: np.random.Generator) -> Broken:
    return file.but(file.data.decode("utf-8").encode("cp1252"))


TEXT_FAULTS: Final[dict[str, Fault]] = {
    "no user": _put(USER, ""), "no item": _put(ITEM, ""), "mark for no user": _put(USER, "NULL"),
    "no time": _put(TIME, ""), "time NaN": _put(TIME, "NaN"), "time in words": _put(TIME, "yesterday"),
    "date of the 31st of February": _put(TIME, "2024-02-31T10:00:00Z"),
    "time of another form": _put(TIME, "31.12.2024"),
    "time of five digits": _put(TIME, "99999-01-01T00:00:00Z"), "hour 25": _put(TIME, "2024-03-02T25:00:00Z"),
    "huge time": _put(TIME, "9" * 40), "latitude 1e308": _put(LATITUDE, "1e308"), "latitude inf": _put(LATITUDE, "inf"),
    "latitude 91": _put(LATITUDE, "91"), "no longitude": _put(LONGITUDE, ""),
    "longitude in words": _put(LONGITUDE, "west"),
    "huge user": _put(USER, "1" * 400), "long note": _put(NOTE, "y" * 200_000), "user of spaces": _put(USER, "   "),
    "user and time swapped": _swap(USER, TIME), "coordinates swapped": _swap(LATITUDE, LONGITUDE),
    "line break in a cell": _put(NOTE, "two\nlines"), "too few cells": _cells(lambda cells: cells[:3]),
    "one cell": _cells(lambda cells: cells[:1]), "too many cells": _cells(lambda cells: [*cells, "more", "cells"]),
    "quote never closed": _texts(lambda text: text + '"open'), "quote at the begin": _texts(lambda text: '"' + text),
    "quotes in the midst": _texts(lambda text: text[:2] + '"' + text[2:]),
    "zero bytes": _texts(lambda text: text + "\0"),
    "zero byte in a user": _texts(lambda text: text[:1] + "\0" + text[1:]),
    "spaces around": _texts(lambda text: f"  {text}  "), "emoji at the end": _texts(lambda text: text + "\U0001f600"),
    "separator at the end of some": _texts(lambda text: text + ","),
    "copies": _inserted(lambda lines: lines[5:8], True), "header again": _inserted(lambda lines: lines[:1] * 2, True),
    "blank lines": _inserted(lambda lines: ["", "", ""], False), "mixed line ends": _mixed_ends,
    "byte order mark": _whole(lambda data: b"\xef\xbb\xbf" + data),
    "UTF-16": _whole(lambda data: data.decode().encode("utf-16")), "cp1252": _latin, "bytes of no encoding": _bad_bytes,
    "carriage returns alone": _whole(lambda data: data.replace(b"\n", b"\r")),
    "no end of the last line": _whole(lambda data: data.rstrip(b"\n")),
    "cut off": _truncated, "cut off again": _truncated,
    "bytes flipped": _flipped, "bytes flipped again": _flipped,
    "zeros behind": _whole(lambda data: data + b"\0" * 4096, num_rows=None),
    "end mark of DOS": _whole(lambda data: data + b"\x1a", num_rows=None),
    "comments before": _whole(lambda data: b"# made by hand\n# twice\n" + data),
    "blank lines before": _whole(lambda data: b"\n\n" + data), "packed": _packed(_gzip, ".gz"),
    "packed by bzip2": _packed(bz2.compress, ".bz2"), "packed by zip": _packed(_zip, ".zip"),
    "packed and cut": _refused(lambda data: _gzip(data)[:-40], ".gz"),
    "packed and damaged": _refused(lambda data: _gzip(data)[:60] + b"\xff" * 2 + _gzip(data)[62:], ".gz"),
    "zip cut": _refused(lambda data: _zip(data)[:-30], ".zip"), "empty": _refused(lambda data: b""),
    "header alone": _refused(lambda data: data[: data.index(b"\n") + 1]),
    "blanks alone": _refused(lambda data: b" \n\n "),
    "no header name": _refused(lambda data: data.replace(b"user_id", b"wer", 1)),
    "random bytes": _refused(lambda data: np.random.default_rng(len(data)).bytes(5000)),
}  # fmt: skip
"""Faults of delimited text by name."""


def _json(file: Broken) -> list[str]:
    return [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in file.rows]


def _json_fault(change: Callable[[str], str]) -> Fault:
    def fault(file: Broken, rng: np.random.Generator) -> Broken:
        lines, chosen = _json(file), _some(rng)
        for row in chosen:
            lines[row] = change(lines[row])
        return replace(file.but(_joined(lines), *chosen), name="events.jsonl")

    return fault


def _parquet_cut(file: Broken, rng: np.random.Generator) -> Broken:
    out = io.BytesIO()
    pl.DataFrame(file.rows, schema=list(COLUMNS), orient="row").write_parquet(out)
    cut = out.getvalue()[: -int(rng.integers(8, 200))]
    return replace(file.but(cut, num_rows=None, verdict="refused"), name="events.parquet")


OTHER_FAULTS: Final[dict[str, Fault]] = {
    "JSON Lines": _json_fault(lambda text: text), "JSON line cut": _json_fault(lambda text: text[: len(text) // 2]),
    "JSON line null": _json_fault(lambda text: "null"), "JSON line a list": _json_fault(lambda text: "[1, 2]"),
    "JSON field null": _json_fault(lambda text: json.dumps({**json.loads(text), "user_id": None})),
    "JSON field missing": _json_fault(lambda text: json.dumps({"user_id": "u01"})),
    "JSON field nested": _json_fault(lambda text: json.dumps({**json.loads(text), "note": {"a": [1]}})),
    "JSON number for a text": _json_fault(lambda text: json.dumps({**json.loads(text), "user_id": 17})),
    "JSON comma behind": _json_fault(lambda text: text + ","), "Parquet cut": _parquet_cut,
}  # fmt: skip
"""Faults of other formats."""


def broken_files(seed: int) -> Iterator[tuple[str, Broken]]:
    """Name and file of each fault, in each way of writing that it applies to."""
    rng = np.random.default_rng(seed)
    for ending, separator in (("csv", ","), ("txt", ";"), ("tsv", "\t")):
        rows = good_rows(rng)
        file = Broken(f"events.{ending}", written(rows, separator).encode(), rows)
        for name, fault in TEXT_FAULTS.items():
            yield f"{name}, {ending}", fault(file, rng)
    rows = good_rows(rng)
    for name, fault in OTHER_FAULTS.items():
        yield name, fault(Broken("events.csv", written(rows).encode(), rows), rng)
