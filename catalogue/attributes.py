"""Attributes of items: one kind of value in each column, whichever way the items come.

The kinds are text, numbers, true or false, and times. A column keeps the type that it has in the catalogue. Whole
numbers fit a column of fractions, and a fraction without a remainder (3.0) fits one of whole numbers, since JSON knows
one kind of number only; any other value of another kind is refused. A column without any value so far takes the type of
the first values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from ..errors import CatalogueError
from ..histories.parsing import to_days, to_times

_TYPES: dict[type, pl.DataType] = {
    bool: pl.Boolean(), int: pl.Float64(), float: pl.Float64(), str: pl.String(), datetime: pl.Datetime("us", "UTC"),
}  # fmt: skip
_TEXT = (pl.String, pl.Categorical, pl.Enum)


def items_table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of text, numbers, booleans, times and None as a table; a value that a row lacks is null.

    Numbers become float64. Raises CatalogueError for a column with values of two kinds.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame({name: _column(name, rows) for name in names})


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> pl.Series:
    first: Any = None
    for row in rows:
        value = row.get(name)
        first = value if first is None else first
        if value is not None and _TYPES[type(value)] != _TYPES[type(first)]:
            kind = _kind(_TYPES[type(first)])
            raise _refusal(f"The column {name!r} begins with {kind}", row.get("item_id"), value, kind)
    return pl.Series(name, [row.get(name) for row in rows], dtype=pl.Null() if first is None else _TYPES[type(first)])


def fit_columns(
    known: pl.DataFrame, items: pl.DataFrame, *, is_text: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both tables with one type for each column that they share.

    Args:
        known: the items of the catalogue.
        items: others, with `item_id`. A column without any value that is not in the catalogue is left out.
        is_text: text stands for whatever the catalogue's column holds, as in a CSV file.

    Raises CatalogueError: a value of another kind than the catalogue's column has, or a new column without a name.
    """
    retyped, fitted = [], []
    for cells in items.get_columns():
        name, is_empty = cells.name, cells.null_count() == len(cells)
        if name not in known.columns:
            if not name.strip():
                raise CatalogueError("A column of the new items has no name; give it one, or leave it out.")
            fitted += [] if is_empty else [cells]
        elif is_empty:
            fitted.append(pl.repeat(None, len(cells), dtype=known.schema[name], eager=True).alias(name))
        elif known[name].null_count() == known.height:
            retyped.append(pl.repeat(None, known.height, dtype=cells.dtype, eager=True).alias(name))
            fitted.append(cells)
        else:
            fitted.append(_checked(cells, known.schema[name], items["item_id"], is_text))
    # By name, for polars makes up names for columns that have none.
    return known.with_columns(retyped), pl.DataFrame({cells.name: cells for cells in fitted})


def _checked(cells: pl.Series, dtype: pl.DataType, item_ids: pl.Series, is_text: bool) -> pl.Series:
    fitted = cells if cells.dtype == dtype else _fitted(cells, dtype, is_text=is_text)
    other = (cells.is_not_null() & fitted.is_null()).arg_true()
    if len(other):
        row = other[0]
        where = f"The column {cells.name!r} holds {_kind(dtype, whole=True)} in the catalogue"
        raise _refusal(where, item_ids[row], cells[row], _kind(dtype, whole=True))
    return fitted


def _fitted(cells: pl.Series, dtype: pl.DataType, *, is_text: bool) -> pl.Series:
    """The cells in another type; null where that would change a value."""
    try:
        if is_text and cells.dtype == pl.String and dtype not in _TEXT:
            return _read(cells.str.strip_chars(), dtype)
        if _kind(cells.dtype) == _kind(dtype):
            cast = cells.cast(dtype, strict=False)
            same = cast.cast(cells.dtype, strict=False) == cells if dtype.is_integer() else cast.is_not_null()
            return pl.select(pl.when(same).then(cast).alias(cells.name)).to_series()
    except pl.exceptions.PolarsError:  # types without any way between them
        pass
    return pl.repeat(None, len(cells), dtype=dtype, eager=True).alias(cells.name)


def _read(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Text as values of a type; null where it cannot be read as one."""
    if dtype == pl.Boolean:
        words = text.str.to_lowercase()
        return words.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    if dtype == pl.Date:
        return to_days(text)
    if isinstance(dtype, pl.Datetime):
        times = to_times(text)
        return (times if dtype.time_zone else times.dt.replace_time_zone(None)).cast(dtype)
    read = text.cast(dtype, strict=False)
    if dtype.is_integer():
        return read.fill_null(_fitted(text.cast(pl.Float64, strict=False), dtype, is_text=False))
    return read


def _kind(dtype: pl.DataType, *, whole: bool = False) -> str:
    """The kind of a type, in words; `whole`: set whole numbers apart."""
    if dtype == pl.Boolean:
        return "true or false"
    if dtype.is_numeric():
        return "whole numbers" if whole and dtype.is_integer() else "numbers"
    if dtype in _TEXT:
        return "text"
    return "times" if isinstance(dtype, pl.Datetime) else str(dtype.base_type())


def _refusal(where: str, item_id: object, value: object, kind: str) -> CatalogueError:
    shown = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    what = {bool: "", int: "the number ", float: "the number ", str: "the text "}.get(type(value), "the value ")
    short = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return CatalogueError(f"{where}, but item {item_id!r} has {what}{short}; give it {kind}, or leave it out.")
