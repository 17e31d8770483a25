"""Delimited text as a table of strings: whole records in bulk, lines that are none counted by their number."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from .dialects import Dialect
from .stray_quotes import KIND, LINE, SHORT, TEXT, resynchronised

RECORD: Final = "_record"  # 1-based number of the record among those of its file; blank lines and header do not count
BROKEN: Final = {RECORD: pl.Int64, "detail": pl.String}

_QUOTED: Final = "\x1e"  # stands for a quoted cell
_REPLACED: Final = "\ufffd"


@dataclass(frozen=True)
class Records:
    """Rows with their number, and what was found on the way.

    Attributes:
        table: `_record` and the requested columns; empty cells are null.
        broken: `_record` and `detail` of lines that are no record.
        notes: counts of what was repaired.
    """

    table: pl.DataFrame
    broken: pl.DataFrame
    notes: Counter[str] = field(default_factory=Counter)


def read_records(file: Path, dialect: Dialect, wanted: Collection[str] | None, *, is_damaged: bool = False) -> Records:
    """The records of a plain text (`plain_copy`); `wanted` are the columns to keep, None keeps all.

    A line with too few cells is filled with empty ones. One with too many, or whose quotes do not pair, is read as it
    stands if that gives the right number of cells, and is broken otherwise. Of a damaged text, records with replaced
    bytes are broken too.
    """
    kinds = _kinds_of_lines(file, dialect)
    if kinds["quotes"] and not kinds["long"]:
        kinds = _kinds_of_records(file, dialect)
    if kinds["quotes"] or kinds["long"]:
        records = _resynchronised(file, dialect, wanted)
    else:
        notes = Counter({SHORT: kinds["short"]})
        records = Records(_scan(file, dialect, wanted), pl.DataFrame(schema=BROKEN), notes)
    records = _without_repeated_header(records, dialect)
    return _without_replaced(records) if is_damaged else records


def line_kinds(lines: pl.LazyFrame, dialect: Dialect) -> pl.LazyFrame:
    """Add `_kind` to texts of lines or records: sound, blank, short, long, or quotes (that do not pair)."""
    bare = pl.col(TEXT)
    damaged = pl.lit(False)
    if (quote := dialect.quote) is not None:
        bare = bare.str.replace_all(f"{quote}(?:[^{quote}]|{quote}{quote})*{quote}", _QUOTED)
        separator = "\\t" if dialect.separator == "\t" else f"\\x{ord(dialect.separator):02x}"
        beside = f"[^{separator}]{_QUOTED}|{_QUOTED}[^{separator}]"
        damaged = bare.str.contains(quote, literal=True) | bare.str.contains(beside)
    cells = bare.str.count_matches(dialect.separator, literal=True).cast(pl.Int64) + 1
    width = len(dialect.names)
    kind = (
        pl.when(damaged)
        .then(pl.lit("quotes"))
        .when(bare.str.strip_chars(f" \r{dialect.separator}") == "")
        .then(pl.lit("blank"))
        .when(cells > width)
        .then(pl.lit("long"))
        .when(cells < width)
        .then(pl.lit("short"))
        .otherwise(pl.lit("sound"))
    )
    return lines.with_columns(kind.alias(KIND))


def _lines(file: Path, dialect: Dialect) -> pl.LazyFrame:
    """`_line` (1-based in the file) and `_text` of the lines of data."""
    lines = pl.scan_lines(file, name=TEXT, row_index_name=LINE, row_index_offset=1)
    return lines.slice(dialect.num_skipped).with_columns(pl.col(LINE).cast(pl.Int64))


def _kinds_of_lines(file: Path, dialect: Dialect) -> Counter[str]:
    kinds = line_kinds(_lines(file, dialect), dialect).group_by(KIND).len()
    return Counter(dict(kinds.collect(engine="streaming").iter_rows()))


def _kinds_of_records(file: Path, dialect: Dialect) -> Counter[str]:
    """Kinds of the records of a file in which quoted cells have line breaks.

    A cell that holds lines that are records themselves counts under quotes: two stray quotes pair too.
    """
    odd = pl.col(TEXT).str.count_matches(str(dialect.quote), literal=True) % 2
    inside = (odd.cum_sum() - odd) % 2
    lines = line_kinds(_lines(file, dialect), dialect).with_columns((inside == 0).cum_sum().alias("_of"))
    within = pl.col(KIND).slice(1, pl.len() - 2)
    records = lines.group_by("_of", maintain_order=True).agg(
        pl.col(TEXT).str.join("\n"), ((within == "sound").all() & (pl.len() > 2)).alias("_swallows")
    )
    judged = line_kinds(records, dialect)
    kind = pl.when("_swallows").then(pl.lit("quotes")).otherwise(KIND).alias(KIND)
    return Counter(dict(judged.select(kind).group_by(KIND).len().collect().iter_rows()))


def _scan(
    source: Path | bytes, dialect: Dialect, wanted: Collection[str] | None, *, num_skipped: int | None = None
) -> pl.DataFrame:
    """`_record` and the requested columns; lines without any cell are left out."""
    scanned = pl.scan_csv(
        source,
        has_header=False,
        schema=dict.fromkeys(dialect.names, pl.String),
        skip_lines=dialect.num_skipped if num_skipped is None else num_skipped,
        separator=dialect.separator,
        quote_char=dialect.quote,
        missing_columns="insert",
    )
    blank = pl.all_horizontal(pl.col(dialect.names).is_null())
    kept = [name for name in dialect.names if wanted is None or name in wanted]
    numbered = scanned.filter(~blank).select(kept).with_row_index(RECORD, offset=1)
    return numbered.with_columns(pl.col(RECORD).cast(pl.Int64)).collect(engine="streaming")


def _resynchronised(file: Path, dialect: Dialect, wanted: Collection[str] | None) -> Records:
    """The records of a file with stray quotes or lines with too many cells."""
    lines = line_kinds(_lines(file, dialect), dialect).filter(pl.col(KIND) != "blank").collect()
    whole, loose, broken, notes = resynchronised(lines, dialect, lambda texts: line_kinds(texts, dialect))
    width = len(dialect.names)
    table = _scan("\n".join(whole[TEXT]).encode(), dialect, None, num_skipped=0).drop(RECORD)
    table = table.with_columns(whole[LINE])
    if loose:
        cells = {name: [row[1][at] or None for row in loose] for at, name in enumerate(dialect.names)}
        columns = {**cells, LINE: [line for line, _ in loose]}
        table = pl.concat([table, pl.DataFrame(columns, schema=table.schema)])
    details = [(line, f"line {line}: {num} cells instead of {width}") for line, num in broken]
    rejected = pl.DataFrame(details, schema={LINE: pl.Int64, "detail": pl.String}, orient="row")
    order = pl.concat([table[LINE], rejected[LINE]]).sort()
    numbers = pl.DataFrame({LINE: order}).with_row_index(RECORD, offset=1).cast({RECORD: pl.Int64})
    kept = [name for name in dialect.names if wanted is None or name in wanted]
    return Records(
        table.join(numbers, on=LINE).sort(RECORD).select(RECORD, *kept),
        rejected.join(numbers, on=LINE).sort(RECORD).select(RECORD, "detail"),
        notes,
    )


def _without_repeated_header(records: Records, dialect: Dialect) -> Records:
    """The header in the midst of the data, as files that were put together have it, is no record."""
    names = [name for name in records.table.columns if name != RECORD]
    if not dialect.has_header or len(names) < 2:
        return records
    again = pl.all_horizontal((pl.col(name) == name).fill_null(False) for name in names)
    return _rejected(records, again, "the header again")


def _without_replaced(records: Records) -> Records:
    damaged = pl.any_horizontal(pl.exclude(RECORD).str.contains(_REPLACED, literal=True).fill_null(False))
    return _rejected(records, damaged, "bytes that are no UTF-8")


def _rejected(records: Records, bad: pl.Expr, detail: str) -> Records:
    found = records.table.filter(bad).select(RECORD, pl.lit(detail).alias("detail"))
    if not found.height:
        return records
    broken = pl.concat([records.broken, found]).sort(RECORD)
    return Records(records.table.filter(~bad), broken, records.notes)
