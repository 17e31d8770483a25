"""One file of a table, whatever its form, as cells under the names that the file gives them."""

import contextlib
import errno
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from ...errors import ConfigError, DataError, first_line
from ..parsing import to_floats
from ..settings import TableSettings
from .containers import Kind, kind_of, unpacked
from .delimited import BROKEN, RECORD, Records, read_records
from .dialects import ATOMIC_NAME, Dialect, sniff, with_encoding
from .encodings import whole_file_encoding
from .jsonlines import is_json, read_json_records
from .plain import plain_copy
from .typed import read_typed

_TEXT_SETTINGS: Final = ("separator", "header", "encoding", "skip_rows")
_ATOMIC_ENDINGS: Final = (".inter", ".item", ".user")
_NUL: Final = "\x00"


@dataclass(frozen=True)
class Cells:
    """What a file holds.

    Attributes:
        table: `_record` (int64) and requested columns. Of texts all are strings, except `float` columns of RecBole.
        broken: `_record` and `detail` of records that cannot be read.
        names: of all columns of the file.
        has_header: False where the columns have numbers only.
        is_text: whether the file itself says nothing of types.
        words: for people: how the file was read.
        notes: counts of what was repaired.
    """

    table: pl.DataFrame
    broken: pl.DataFrame
    names: list[str]
    has_header: bool
    is_text: bool
    words: str
    notes: Counter[str]


def read_file(
    path: Path, settings: TableSettings, *, what: str, expected: Collection[str], wanted: Collection[str] | None
) -> Cells:
    """Read one file. `expected` are column names that a header would have, `wanted` those to keep; None keeps all.

    Raises DataError: the file is empty, damaged, or of a kind that is not read. ConfigError: a setting means nothing
    for this kind of file.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path} should hold {what} but is empty; check the path.")
    with _folder_for_copies() as folder:
        file, packings = unpacked(path, folder)
        kind = kind_of(file, path)
        try:
            cells = _read(file, path, kind, settings, what, expected, wanted, folder)
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            raise DataError(
                f"{path} should be a table of {what} but cannot be read: {first_line(error)}; repair the file."
            ) from None
    words = ", ".join([cells.words, *(f"packed by {packing}" for packing in packings)])
    return Cells(cells.table, cells.broken, cells.names, cells.has_header, cells.is_text, words, cells.notes)


@contextlib.contextmanager
def _folder_for_copies() -> Iterator[Path]:
    """A temporary folder. An error of a full disk names it: it may be on another disk than the data and the run."""
    with tempfile.TemporaryDirectory(prefix="whereupon-") as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder) from error


def _read(
    file: Path, path: Path, kind: Kind, settings: TableSettings, what: str, expected: Collection[str],
    wanted: Collection[str] | None, folder: Path,
) -> Cells:  # fmt: skip
    if kind != "text":
        _refuse_text_settings(settings, what, path, kind)
        table, names = read_typed(file, kind, wanted)
        numbered = table.with_row_index(RECORD, offset=1).with_columns(pl.col(RECORD).cast(pl.Int64))
        return Cells(numbered, pl.DataFrame(schema=BROKEN), names, True, False, kind.capitalize(), Counter())
    if is_json(file, path):
        _refuse_text_settings(settings, what, path, "JSON")
        records, names = read_json_records(file, path, wanted)
        return _cells(records, names, has_header=True, words="JSON")
    dialect = sniff(file, path, settings, expected)
    _demand_atomic(path, dialect)
    try:
        records = _text(file, dialect, wanted, folder)
    except pl.exceptions.ComputeError as error:
        if "utf8" not in str(error).lower().replace("-", ""):
            raise
        encoding = settings.encoding or whole_file_encoding(file)
        dialect = with_encoding(dialect, encoding)
        records = _text(file, dialect, wanted, folder, is_damaged=encoding.startswith("utf"))
    cells = _cells(records, list(dialect.names), has_header=dialect.has_header, words=dialect.words)
    return _typed_names(cells) if dialect.is_atomic else cells


def _text(
    file: Path, dialect: Dialect, wanted: Collection[str] | None, folder: Path, *, is_damaged: bool = False
) -> Records:
    plain, dialect_of_plain = plain_copy(file, dialect, folder, is_damaged=is_damaged)
    kept = wanted if dialect.has_header and not dialect.is_atomic else None  # else names are made or changed later
    return read_records(plain, dialect_of_plain, kept, is_damaged=is_damaged)


def _cells(records: Records, names: list[str], *, has_header: bool, words: str) -> Cells:
    """Without the zero bytes that some exports have in their cells."""
    table, notes = records.table, Counter(records.notes)
    texts = [name for name, dtype in table.schema.items() if dtype == pl.String]
    damaged = pl.any_horizontal(pl.lit(False), *(pl.col(name).str.contains(_NUL, literal=True) for name in texts))
    if num := int(table.select(damaged.fill_null(False).sum()).item()) if table.height else 0:
        notes["rows with zero bytes in their text, taken out of it"] = num
        table = table.with_columns(pl.col(texts).str.replace_all(_NUL, "", literal=True))
    return Cells(table, records.broken, names, has_header, True, words, +notes)


def _typed_names(cells: Cells) -> Cells:
    """Columns of an atomic file of RecBole without the type behind their name; `float` ones as float64."""
    columns = [cells.table[RECORD]]
    for typed in cells.names:
        name, _, kind = typed.rpartition(":")
        column = cells.table[typed].alias(name)
        columns.append(to_floats(column) if kind == "float" else column)
    names = [typed.rpartition(":")[0] for typed in cells.names]
    words = f"{cells.words}, atomic file of RecBole"
    return Cells(pl.DataFrame(columns), cells.broken, names, True, True, words, cells.notes)


def _demand_atomic(path: Path, dialect: Dialect) -> None:
    endings = [ending.lower() for ending in path.suffixes]
    if dialect.is_atomic or not set(endings) & set(_ATOMIC_ENDINGS) or not any(":" in name for name in dialect.names):
        return
    wrong = next((name for name in dialect.names if not ATOMIC_NAME.fullmatch(name)), dialect.names[0])
    raise DataError(
        f"{path} should have a header of name:type columns (RecBole's atomic file) but has {wrong[:40]!r}; "
        "give a CSV file another ending."
    )


def _refuse_text_settings(settings: TableSettings, what: str, path: Path, kind: str) -> None:
    for name in (*_TEXT_SETTINGS, "decimal"):
        if getattr(settings, name) not in (None, 0):
            raise ConfigError(
                f"histories.{what}.{name} is for delimited text but {path.name} is {kind}; remove the setting."
            )
