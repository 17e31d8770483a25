"""Tables whose cells have types: Parquet, Arrow, Excel and OpenDocument."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import polars as pl

from ...errors import first_line
from .containers import Kind

_LARGEST_WHOLE: Final = 2.0**53  # above, a float does not hold every whole number


def read_typed(file: Path, kind: Kind, wanted: Collection[str] | None) -> tuple[pl.DataFrame, list[str]]:
    """The requested columns of a table with their types, and the names of all; None keeps all.

    Raises PolarsError and what the readers raise: the file is damaged.
    """
    if kind == "excel":
        table = _excel(file)
        return table.select(_kept(table.columns, wanted)), table.columns
    if kind == "arrow stream":
        table = pl.read_ipc_stream(file)
        return table.select(_kept(table.columns, wanted)), table.columns
    scan: Callable[[Path], pl.LazyFrame] = pl.scan_parquet if kind == "parquet" else pl.scan_ipc
    lazy = scan(file)
    names = lazy.collect_schema().names()
    return lazy.select(_kept(names, wanted)).collect(engine="streaming"), names


def _kept(names: Collection[str], wanted: Collection[str] | None) -> list[str]:
    return [name for name in names if wanted is None or name in wanted]


def _excel(file: Path) -> pl.DataFrame:
    """The first sheet; numbers that are all whole become integers, since Excel has no others than floats.

    Raises ValueError: the workbook is damaged.
    """
    import fastexcel

    try:
        table = fastexcel.read_excel(file).load_sheet(0).to_polars()
    except fastexcel.FastExcelError as error:
        raise ValueError(first_line(error)) from None
    wholes = [
        column.name
        for column in table.iter_columns()
        if column.dtype == pl.Float64 and not (column % 1 != 0).any() and not (column.abs() > _LARGEST_WHOLE).any()
    ]
    return table.with_columns(pl.col(wholes).cast(pl.Int64))
