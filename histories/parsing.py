"""Columns of text or typed cells turned into numbers, degrees, labels and ids; what cannot be turned is null."""

from collections import Counter
from typing import Final

import polars as pl

# What programs write for "nothing": Python, R, SQL dumps, spreadsheets, pandas. Compared without case.
_MARKS: Final = (
    "", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "nat", "null", "(null)", "nil", "none", r"\n",
)  # fmt: skip
# Marks that could be somebody's id or an item's title: only numbers and times are missing by them.
_DASHES: Final = ("-", "--", "?", ".")
# "NA" is no mark here: it is an id of its own in data by country or airline.
_ID_MARKS: Final = ("", "nan", "<na>", "null", "none", r"\n", "nat")
_HEMISPHERE: Final = r"^([+-]?\d+(?:\.\d+)?)\s*°?\s*([NSEWnsew])$"
_WHOLE: Final = r"^(-?\d+)\.0+$"
_FRACTION: Final = r"^-?\d+\.\d+$"
_SCIENTIFIC: Final = r"^\d(\.\d+)?[eE]\+?\d+$"


def is_missing(cells: pl.Expr) -> pl.Expr:
    """Whether text cells are empty or hold one of the usual marks for a missing value."""
    return cells.str.strip_chars().str.to_lowercase().is_in([*_MARKS, *_DASHES]).fill_null(True)


def given_cells(cells: pl.Series) -> pl.Series:
    """Which cells (bool) hold anything at all, be it what it should be or not."""
    if cells.dtype == pl.String:
        return pl.select(~is_missing(pl.lit(cells))).to_series()
    if cells.dtype.is_float():
        return cells.is_not_nan().fill_null(False)  # some writers put NaN for "nothing"
    return cells.is_not_null()


def to_floats(cells: pl.Series) -> pl.Series:
    """Numbers as float64; what is no finite number is null."""
    text = cells.str.strip_chars() if cells.dtype == pl.String else cells
    numbers = text.cast(pl.Float64, strict=False)
    return pl.select(pl.when(numbers.is_finite()).then(numbers).alias(cells.name)).to_series()


def counted_floats(cells: pl.Series, notes: Counter[str], what: str) -> pl.Series:
    """`to_floats`; `notes` counts the cells that hold something else, under the name of the column, `what`."""
    return _counted(cells, to_floats(cells), notes, what)


def to_degrees(cells: pl.Series) -> pl.Series:
    """Degrees as float64, also where the hemisphere is a letter behind the number (`52.5N`, `13.4 W`)."""
    numbers = to_floats(cells)
    if cells.dtype != pl.String or numbers.null_count() == cells.null_count():
        return numbers
    parts = cells.str.strip_chars().str.extract_groups(_HEMISPHERE).struct.unnest()
    degrees, letter = parts.to_series(0).cast(pl.Float64, strict=False), parts.to_series(1).str.to_lowercase()
    sign = letter.is_in(["s", "w"]).cast(pl.Float64) * -2 + 1
    return numbers.zip_with(numbers.is_not_null(), degrees * sign)


def counted_degrees(cells: pl.Series, notes: Counter[str], what: str) -> pl.Series:
    """`to_degrees`; `notes` counts the cells that hold something else, under the name of the column, `what`."""
    return _counted(cells, to_degrees(cells), notes, what)


def to_text(cells: pl.Series) -> pl.Series:
    """Labels as stripped strings; empty ones and the usual marks for a missing value are null."""
    text = cells.cast(pl.String, strict=False).str.strip_chars()
    missing = text.str.to_lowercase().is_in(list(_MARKS))
    return pl.select(pl.when(~missing).then(text).alias(cells.name)).to_series()


def to_ids(cells: pl.Series, *, whole: bool = False) -> pl.Series:
    """Identifiers as stripped strings in Unicode's composed form (NFC); marks for a missing value are null.

    `whole`: `12.0` is `12`, see `are_whole`.
    """
    text = cells.cast(pl.String, strict=False).str.strip_chars()
    missing = text.str.to_lowercase().is_in(list(_ID_MARKS))
    text = pl.select(pl.when(~missing).then(text).alias(cells.name)).to_series().str.normalize("NFC")
    return text.str.replace(_WHOLE, "$1") if whole else text


def are_whole(*columns: pl.Series) -> bool:
    """Whether ids with a fraction are whole numbers that went through a column of floats: each of them ends in `.0`.

    `columns` are those in which the same ids are written, of events and items.
    """
    has_fraction = False
    for cells in columns:
        if cells.dtype.is_integer():
            continue
        text = cells.cast(pl.String, strict=False).str.strip_chars()
        fractions = text.filter(text.str.contains(_FRACTION).fill_null(False))
        if len(fractions) and not fractions.str.contains(_WHOLE).all():
            return False
        has_fraction |= len(fractions) > 0
    return has_fraction


def note_ids(cells: pl.Series, notes: Counter[str], what: str, *, whole: bool) -> None:
    """Count under the name of the column, `what`, ids that lost their digits, and those whose `.0` is dropped."""
    if cells.dtype.is_integer():
        return
    text = cells.cast(pl.String, strict=False).str.strip_chars()
    if whole and (num := int(text.str.contains(_WHOLE).sum())):
        notes[f"{what}: ids like 12.0, which is 12"] += num
    if num := int(text.str.contains(_SCIENTIFIC).sum()):
        notes[f"{what}: ids like 8.5E+17, which a spreadsheet has rounded, so several may be one now"] += num


def _counted(cells: pl.Series, read: pl.Series, notes: Counter[str], what: str) -> pl.Series:
    if num := int((given_cells(cells) & read.is_null()).sum()):
        notes[f"{what}: cells that are no number, left empty"] += num
    return read
