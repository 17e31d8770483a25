"""Attributes of items: one kind of value in each column (text, numbers, true or false, times), however they come.

A column keeps the type that it has in the catalogue; one without any value so far takes the type of the first values.
Whole numbers fit a column of fractions, and a fraction without a remainder (3.0) fits one of whole numbers, since JSON
knows one kind of number only; any other value of another kind is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from ..errors import CatalogueError
from ..histories.times import to_days, to_times

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
    dtype: pl.DataType = pl.Null()
    for row in rows:
        if (value := row.get(name)) is None:
            continue
        own = _TYPES[type(value)]
        dtype = own if dtype == pl.Null else dtype
        if own != dtype:
            raise _refusal(f"The column {name!r} begins with {_kind(dtype)}", row.get("item_id"), value, _kind(dtype))
    return pl.Series(name, [row.get(name) for row in rows], dtype=dtype)


def fit_columns(
    known: pl.DataFrame, items: pl.DataFrame, *, is_text: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The catalogue's items and others (with `item_id`), with one type for each column that both have.

    A column without any value that is not in the catalogue is left out. `is_text`: text stands for whatever the
    catalogue's column holds, as in a CSV file. Raises CatalogueError: a value of another kind than the catalogue's
    column has, or a new column without a name.
    """
    retyped, fitted = [], []
    for cells in items.get_columns():
        name, is_empty = cells.name, cells.null_count() == len(cells)
        if name not in known.columns:
            if not name.strip():
                raise CatalogueError("A column of the new items has no name; give it one, or leave it out.")
            fitted += [] if is_empty else [cells]
        elif is_empty:
            fitted.append(_empty(name, len(cells), known.schema[name]))
        elif known[name].null_count() == known.height:
            retyped.append(_empty(name, known.height, cells.dtype))
            fitted.append(cells)
        else:
            fitted.append(_checked(cells, known.schema[name], items["item_id"], is_text))
    # By name, for polars makes up names for columns that have none.
    return known.with_columns(retyped), pl.DataFrame({cells.name: cells for cells in fitted})


def _checked(cells: pl.Series, dtype: pl.DataType, item_ids: pl.Series, is_text: bool) -> pl.Series:
    fitted = cells if cells.dtype == dtype else _fitted(cells, dtype, is_text=is_text)
    if len(other := (cells.is_not_null() & fitted.is_null()).arg_true()):
        row, kind = other[0], _kind(dtype, whole=True)
        raise _refusal(f"The column {cells.name!r} holds {kind} in the catalogue", item_ids[row], cells[row], kind)
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
    return _empty(cells.name, len(cells), dtype)


def _empty(name: str, num: int, dtype: pl.DataType) -> pl.Series:
    return pl.Series(name, [None], dtype=dtype).new_from_index(0, num)


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
