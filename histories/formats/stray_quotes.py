"""Lines with quotes that do not pair: where records begin and end nevertheless."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Final

import polars as pl

from .dialects import Dialect, quoted_cells

LINE: Final = "_line"
TEXT: Final = "_text"
KIND: Final = "_kind"
SHORT: Final = "lines with fewer cells than columns, the missing ones empty"

_LONGEST_RECORD_LINES: Final = 1000

Judge = Callable[[pl.LazyFrame], pl.LazyFrame]
Loose = list[tuple[int, list[str]]]


def resynchronised(
    lines: pl.DataFrame, dialect: Dialect, judge: Judge
) -> tuple[pl.DataFrame, Loose, list[tuple[int, int]], Counter[str]]:
    """The records of lines of which some have stray quotes or too many cells.

    `lines` have `_line`, `_text` and `_kind`, without blank ones; `judge` gives such kinds.

    Returns:
        Records that are sound by the rules of quoting (`_line`, `_text`, in order), the cells of others that can be
        read as they stand, the lines that cannot be read with their number of cells, and counts of repairs.
    """
    joined, taken = _joined(lines, dialect, judge)
    rest = lines.filter(~pl.col(LINE).is_in(list(taken)))
    is_sound = pl.col(KIND).is_in(["sound", "short"])
    whole = pl.concat([rest.filter(is_sound).select(LINE, TEXT), joined]).sort(LINE)
    loose: Loose = []
    broken: list[tuple[int, int]] = []
    width = len(dialect.names)
    for line, text in rest.filter(~is_sound).select(LINE, TEXT).iter_rows():
        cells = _as_it_stands(text, dialect)
        if len(cells) == width:
            loose.append((line, cells))
        else:
            broken.append((line, len(cells)))
    notes = Counter({
        SHORT: rest.filter(pl.col(KIND) == "short").height,
        "lines with stray quotes, read as they stand": len(loose),
    })  # fmt: skip
    return whole, loose, broken, notes


def _joined(lines: pl.DataFrame, dialect: Dialect, judge: Judge) -> tuple[pl.DataFrame, set[int]]:
    """Records over several lines, and all the lines that they take."""
    schema = {LINE: pl.Int64, TEXT: pl.String}
    quote = dialect.quote
    if quote is None:
        return pl.DataFrame(schema=schema), set()
    odd = (lines[TEXT].str.count_matches(quote, literal=True) % 2 == 1).arg_true().to_list()
    candidates = []
    for start, end in itertools.pairwise(odd):
        if end - start < _LONGEST_RECORD_LINES:
            part = lines[start : end + 1]
            swallows = part.height > 2 and bool((part[KIND][1:-1] == "sound").all())
            if not swallows:
                candidates.append((start, end, "\n".join(part[TEXT])))
    texts = pl.LazyFrame({TEXT: [text for *_, text in candidates]}, schema={TEXT: pl.String})
    sound = judge(texts).collect()[KIND] == "sound"
    found, taken, free_from = [], set[int](), 0
    for (start, end, text), is_sound in zip(candidates, sound, strict=True):
        if is_sound and start >= free_from:
            found.append((lines[LINE][start], text))
            taken |= set(lines[LINE][start : end + 1])
            free_from = end + 1
    return pl.DataFrame(found, schema=schema, orient="row"), taken


def _as_it_stands(text: str, dialect: Dialect) -> list[str]:
    """Cells with quotes as ordinary characters, or as a lenient reader takes them if that fits better."""
    cells = text.rstrip("\r").split(dialect.separator)
    if len(cells) == len(dialect.names) or dialect.quote is None:
        return cells
    lenient = quoted_cells(text, dialect.separator, dialect.quote)
    return lenient if len(lenient) == len(dialect.names) else cells
