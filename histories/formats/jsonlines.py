"""JSON as a table: one object a line, or one array of objects; scalars become text, as cells of a CSV file are."""

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from ...errors import DataError, first_line
from .delimited import BROKEN, RECORD, Records

_HEAD_BYTES: Final = 1 << 16
_NUM_SAMPLED: Final = 1000
_PYTHON: Final = re.compile(r"\s*\{\s*u?'")
_OBJECT: Final = re.compile(r'\s*\{\s*("|\})')
_ARRAY: Final = re.compile(r"\s*\[\s*\{")


def is_json(file: Path, path: Path) -> bool:
    """Whether a text is JSON rather than delimited. Raises DataError: it holds Python dictionaries."""
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    if _PYTHON.match(head):
        raise DataError(
            f"{path} should hold JSON but its lines are Python dictionaries (single quotes); write each as "
            "json.dumps(ast.literal_eval(line))."
        )
    return bool(_OBJECT.match(head) or _ARRAY.match(head))


def read_json_records(file: Path, path: Path, wanted: Collection[str] | None) -> tuple[Records, list[str]]:
    """The records of a JSON file and the names of all its fields; those of `wanted` are kept, None keeps all.

    A line that is no JSON object is broken. Raises DataError: the file is one object, or an array that cannot be read.
    """
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    if _ARRAY.match(head):
        return _array(file, path, wanted)
    names = _names(file)
    if not names:
        raise DataError(
            f"{path} should hold one JSON object per line (JSON Lines), but its first lines are something else; write "
            "each record with json.dumps on its own line."
        )
    kept = [name for name in names if wanted is None or name in wanted]
    try:
        return _scan(file, kept), names
    except pl.exceptions.PolarsError:
        return _line_by_line(file, kept), names


def _scan(file: Path, names: Sequence[str]) -> Records:
    # Each as text: numbers keep their digits, and a field may be a number in one line and a word in another.
    table = pl.scan_ndjson(file, schema=dict.fromkeys(names, pl.String)).collect(engine="streaming")
    return Records(_numbered(table), pl.DataFrame(schema=BROKEN))


def _line_by_line(file: Path, names: Sequence[str]) -> Records:
    """As `_scan`, where some lines are no JSON objects."""
    lines = pl.scan_lines(file, name="_text").filter(pl.col("_text").str.strip_chars() != "")
    whole = pl.col("_text").str.json_path_match("$")
    fields = [pl.col("_text").str.json_path_match(f"$[{json.dumps(name)}]").alias(name) for name in names]
    is_object = whole.str.starts_with("{").fill_null(False).alias("_is_object")
    table = _numbered(lines.select(is_object, *fields).collect())
    broken = table.filter(~pl.col("_is_object")).select(RECORD, pl.lit("no JSON object").alias("detail"))
    return Records(table.filter("_is_object").drop("_is_object"), broken, Counter())


def _array(file: Path, path: Path, wanted: Collection[str] | None) -> tuple[Records, list[str]]:
    try:
        table = pl.read_json(file, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path} should be a JSON array of objects but cannot be read ({first_line(error)}); repair it, or write "
            "one object a line."
        ) from None
    scalars = [name for name, dtype in table.schema.items() if not dtype.is_nested()]
    names = table.columns
    table = table.select(name for name in names if wanted is None or name in wanted)
    return Records(_numbered(table.cast({name: pl.String for name in scalars if name in table.columns})),
                   pl.DataFrame(schema=BROKEN)), names  # fmt: skip


def _names(file: Path) -> list[str]:
    """The fields of the first objects, in order of appearance."""
    names: dict[str, None] = {}
    for text in pl.scan_lines(file).head(_NUM_SAMPLED).collect().to_series():
        try:
            found = json.loads(text)
        except ValueError:
            continue
        if isinstance(found, dict):
            names |= dict.fromkeys(found)
    return list(names)


def _numbered(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_row_index(RECORD, offset=1).with_columns(pl.col(RECORD).cast(pl.Int64))
