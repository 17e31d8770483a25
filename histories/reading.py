"""Tables as they lie on disk: read, renamed to our columns, each row numbered as in its file."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from ..errors import DataError
from .columns import check_mapping, resolved
from .decimals import points_for_commas
from .formats import Cells, input_files, read_file
from .formats.delimited import RECORD
from .settings import TableSettings

ROW: Final = "_row"  # 1-based number of the data row in its file, the header and blank lines not counted


@dataclass(frozen=True)
class Reading:
    """A table as it was read.

    Attributes:
        table: see `read_table`.
        broken: `_row` and `detail` of records that cannot be read; they are not in `table`.
        files: every file read.
        said: for people: how each file was read.
        notes: counts of what was repaired.
        is_text: whether the files themselves say nothing of types.
    """

    table: pl.DataFrame
    broken: pl.DataFrame
    files: list[Path]
    said: list[str]
    notes: Counter[str]
    is_text: bool


def read_table(
    settings: TableSettings,
    *,
    what: str,
    required: Iterable[str],
    known: Iterable[str] | None = None,
    numeric: Collection[str] = (),
) -> Reading:
    """Read a table and rename its columns to ours.

    `what` says for messages what the table holds ("events"). `required` are our names of the columns that it must have,
    `known` those that may be mapped, which alone are kept; None where any name may be (attributes of items). `numeric`
    are our names of numbers, in which a decimal comma is understood.

    The table has the files' columns, mapped ones under our name, plus `_row` (int64; it goes on counting over several
    files). Columns of texts are all strings with empty cells null; typed files keep their types; columns of RecBole's
    atomic files bear their name without its type, `float` ones are float64 and all others strings.

    Raises DataError: missing, empty or unreadable file; a missing or misspelt column. ConfigError: the mapping names
    what the table cannot have.
    """
    known = None if known is None else list(known)
    required = list(required)
    check_mapping(settings, what, known)
    files = input_files(settings.path, what)
    notes: Counter[str] = Counter()
    tables, broken, said, num_rows = [], [], list[str](), 0
    for file in files:
        cells = _read(file, settings, what, required, known)
        mapped = resolved(settings, file, cells, what, required)
        table = _renamed(cells.table, mapped, known)
        num_records = cells.table.height + cells.broken.height
        first = f"rows {num_rows + 1:,} to {num_rows + num_records:,}, " if len(files) > 1 else ""
        said.append(f"{what} from {file.name}: {first}{cells.words}")
        tables.append(table.with_columns(pl.col(ROW) + num_rows))
        broken.append(cells.broken.rename({RECORD: ROW}).with_columns(pl.col(ROW) + num_rows))
        num_rows += num_records
        notes += Counter({f"{file.name}: {note}": num for note, num in cells.notes.items()})
    table = pl.concat(tables, how="diagonal_relaxed", rechunk=False) if len(tables) > 1 else tables[0]
    if table.height == 0:
        raise DataError(_without_rows(files, what, sum(each.height for each in broken)))
    table, commas = points_for_commas(table, numeric, settings.decimal)
    said += [f"{what}: decimal comma in {', '.join(commas)}"] if commas else []
    return Reading(table, pl.concat(broken), files, said, notes, cells.is_text)


def _read(file: Path, settings: TableSettings, what: str, required: list[str], known: list[str] | None) -> Cells:
    theirs = [name for name in settings.columns.values() if isinstance(name, str)]
    are_names = len(theirs) == len(settings.columns)
    wanted = {*theirs, *known, *required} if known is not None and are_names else None
    return read_file(file, settings, what=what, expected={*theirs, *required}, wanted=wanted)


def _renamed(table: pl.DataFrame, mapped: dict[str, str], known: list[str] | None) -> pl.DataFrame:
    # All at once, so that names may swap; a column that happens to bear our name but is not meant gives way.
    named = table.with_columns(pl.col(theirs).alias(ours) for ours, theirs in mapped.items())
    named = named.drop(ROW, *(theirs for theirs in mapped.values() if theirs not in mapped), strict=False)
    named = named.rename({RECORD: ROW})
    return named if known is None else named.select(ROW, *(name for name in named.columns if name in known))


def _without_rows(files: list[Path], what: str, num_broken: int) -> str:
    name = files[0] if len(files) == 1 else f"{files[0].parent} with its {len(files)} files"
    broken = f"each of its {num_broken} lines is broken" if num_broken else "has no rows"
    return f"{name} should hold {what} but {broken}; check the path, and `separator` and `header`."
