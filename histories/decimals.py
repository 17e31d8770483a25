"""Numbers with a decimal comma."""

from collections.abc import Collection
from typing import Final, Literal

import polars as pl

_COMMA: Final = r"^\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*$"
_POINT: Final = r"\d\.\d"
_THOUSANDS: Final = r"^\s*[+-]?\d{1,3}(,\d{3})+\s*$"
_CODED: Final = r"^\s*[+-]\d{4},\d\s*$"  # a value of ISD (NOAA) in tenths, and its quality
_LIMITS: Final = {"latitude": 90, "longitude": 180}
_HALF: Final = 0.5


def points_for_commas(
    table: pl.DataFrame, names: Collection[str], decimal: Literal[".", ","] | None
) -> tuple[pl.DataFrame, list[str]]:
    """The table with a point for the comma in numbers of these columns, and the columns where it was.

    Without `decimal` a column has decimal commas if numbers with one comma are at least half of its cells, none has a
    point, and they are no coded fields of ISD such as `+0056,1`. Commas before just three digits everywhere could part
    thousands: they count as decimal in coordinates, or where another column has decimal commas beyond doubt.
    """
    texts = [name for name in names if name in table.columns and table.schema[name] == pl.String]
    if decimal == "." or not texts:
        return table, []
    likely, doubtful = [], []
    for name in texts:
        cells = table[name].drop_nulls()
        with_comma = int(cells.str.contains(_COMMA).sum())
        if not with_comma:
            continue
        if decimal is None and (with_comma < _HALF * len(cells) or cells.str.contains(_POINT).any()):
            continue
        if decimal is None and int(cells.str.contains(_CODED).sum()) == with_comma:
            continue
        is_doubtful = decimal is None and name not in _LIMITS
        if is_doubtful and int(cells.str.contains(_THOUSANDS).sum()) == with_comma:
            doubtful.append(name)
        else:
            likely.append(name)
    found = [name for name in texts if name in likely or (likely and name in doubtful)]
    cell = pl.col(found)
    replaced = pl.when(cell.str.contains(_COMMA)).then(cell.str.replace(",", ".", literal=True)).otherwise(cell)
    return (table.with_columns(replaced.name.keep()) if found else table), found
