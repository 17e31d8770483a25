"""`whereupon forecast --map FIELD`: where a field matters, by geographically weighted regression; see `rankers.gwr`.

Shapes: G = groups of items, X and Y = rows and columns of the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from ..arrays import Bool, Float64
from ..console import say, show
from ..errors import DataError
from ..files import atomic_path, write_json
from ..histories import Histories, read_histories
from ..histories.distance import has_coordinates
from ..rankers.gwr import RegressionSettings, group, learn
from ..rankers.numbers import scaling
from .report.pictures import picture, tag, text
from .wording import MINUS

SURE: Final = 2.0  # standard errors
MOST_PANELS: Final = 6
_CELL_W, _CELL_H, _LEFT, _TOP, _GAP = 56.0, 30.0, 54.0, 58.0, 52.0
_STYLE: Final = """svg { background: #fff; font: 12px system-ui, sans-serif; fill: #333 }
.more { fill: #c0392b } .less { fill: #1a5fb4 } .unsure { fill: #999; stroke: none } .value { font-size: 11px }
.frame { fill: none; stroke: #ddd } .title { font-weight: 600 }"""


@dataclass(frozen=True)
class FieldMap:
    """Coefficients of one field at each centre, `beta_GXY`, and their standard errors, `error_GXY`, float64.

    They are log-odds of a group against the mean of all groups, for one standard deviation (`spread`) more of the
    field; of the constant, for the group itself. `num_events` were learnt from.
    """

    field: str
    names: tuple[str, ...]
    north_X: Float64
    east_Y: Float64
    beta_GXY: Float64
    error_GXY: Float64
    spread: float
    num_events: int

    @property
    def sure_GXY(self) -> Bool:
        """Where a coefficient is more than two standard errors away from 0."""
        sure_GXY: Bool = np.abs(self.beta_GXY) > SURE * self.error_GXY
        return sure_GXY


def map_run(run: Path, field: str, *, groups: int) -> Path:
    """Draw where a field matters; prints a table and gives the folder of the files. Raises DataError: see `make_map`,
    or the run is not prepared."""
    found = make_map(read_histories(run), field, groups=groups)
    folder = run / "forecasts" / f"map-{field}"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "map.svg") as path:
        path.write_text(map_picture(found), encoding="utf-8")
    write_json(folder / "map.json", as_json(found))
    _show(found)
    say(f"Coefficients with their standard errors, and a picture: {folder}")
    return folder


def make_map(histories: Histories, field: str, *, groups: int) -> FieldMap:
    """Fitted on the latest of all events.

    Raises:
        DataError: items have no coordinates, there are too few events for two groups, or no such field.
    """
    if not has_coordinates(histories.items):
        raise DataError("A map needs items with a latitude and a longitude, but none has both.")
    one = RegressionSettings(most=groups, least_events=30, steepness=0.0, own=0.0)
    grouping = group(histories, histories.shared_N, one)
    learnt = learn(histories, histories.shared_N, grouping, scaling(histories, None, "standard"), errors=True)
    if learnt is None or not len(learnt.fits.grid.north_X):
        raise DataError("A map needs two categories or items with 30 events each, at known places; there are fewer.")
    if field not in learnt.fields:
        raise DataError(f"--map should be one of {', '.join(learnt.fields)} for this data, but is {field!r}.")
    at, grid = learnt.fields.index(field), learnt.fits.grid
    beta_GXY, error_GXY = (
        fits_RGL[:-1, :, at].T.reshape(len(grouping.names), len(grid.north_X), len(grid.east_Y))
        for fits_RGL in (learnt.fits.beta_RGL, learnt.fits.error_RGL)
    )
    return FieldMap(
        field, grouping.names, grid.north_X, grid.east_Y, beta_GXY, error_GXY, float(learnt.spread_L[at]),
        learnt.num_events,
    )  # fmt: skip


def as_json(found: FieldMap) -> dict[str, Any]:
    """The result file; rows of the map run from south to north, columns from west to east."""
    return {
        "field": found.field, "standard_deviation": found.spread, "num_events": found.num_events,
        "latitudes": found.north_X.tolist(), "longitudes": found.east_Y.tolist(),
        "series": [
            {"name": name, "coefficients": beta_XY.tolist(), "standard_errors": error_XY.tolist()}
            for name, beta_XY, error_XY in zip(found.names, found.beta_GXY, found.error_GXY, strict=True)
        ],
    }  # fmt: skip


def map_picture(found: FieldMap) -> str:
    """An SVG file's text: the largest groups, north at the top; grey where a coefficient may be 0."""
    num_rows, num_columns = len(found.north_X), len(found.east_Y)
    width, height = num_columns * _CELL_W + _LEFT + 20, num_rows * _CELL_H + _GAP
    shown = found.names[:MOST_PANELS]
    largest = max(float(np.abs(found.beta_GXY[: len(shown)]).max()), 1e-9)
    body = [tag("style", Markup(_STYLE)), text(10, 18, _caption(found)), text(10, 34, _KEY)]
    for place in range(len(shown)):
        down, across = divmod(place, 2)
        body.append(_panel(found, place, largest, across * width + _LEFT, down * height + _TOP + 16))
    whole = picture(2 * width, -(-len(shown) // 2) * height + _TOP, body, f"where {found.field} matters")
    return str(whole).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


_KEY: Final = "Red: chosen more, blue: chosen less. Grey: within two standard errors of 0."


def _caption(found: FieldMap) -> str:
    return f"Log-odds against the mean group, for {found.spread:.3g} more of {found.field}"


def _panel(found: FieldMap, g: int, largest: float, left: float, top: float) -> Markup:
    num_rows, num_columns = found.beta_GXY.shape[1:]
    parts = [text(left, top - 6, found.names[g], class_="title")]
    for row, column in np.ndindex(num_rows, num_columns):
        value, sure = float(found.beta_GXY[g, row, column]), bool(found.sure_GXY[g, row, column])
        x, y = left + column * _CELL_W, top + (num_rows - 1 - row) * _CELL_H
        box = {"x": x, "y": y, "width": _CELL_W, "height": _CELL_H}
        if sure:
            strength = f"{0.15 + 0.55 * abs(value) / largest:.2f}"
            parts.append(tag("rect", **box, class_="more" if value > 0 else "less", fill_opacity=strength))
        parts.append(tag("rect", **box, class_="frame"))
        shown = f"{value:+.2f}".replace("-", MINUS)
        kind = "value" if sure else "value unsure"
        parts.append(text(x + _CELL_W / 2, y + _CELL_H / 2 + 4, shown, "middle", kind))
    for row in (0, num_rows - 1):
        y = top + (num_rows - 1 - row) * _CELL_H + _CELL_H / 2 + 4
        parts.append(text(left - 6, y, f"{found.north_X[row]:.2f}", "end", "value"))
    for column in (0, num_columns - 1):
        x, y = left + (column + 0.5) * _CELL_W, top + num_rows * _CELL_H + 14
        parts.append(text(x, y, f"{found.east_Y[column]:.2f}", "middle", "value"))
    return Markup("").join(parts)


def _show(found: FieldMap) -> None:
    """Print the table of `forecast --map`."""
    from rich.table import Table

    table = Table("series", title=f"Where {found.field} matters: {_caption(found)}", title_justify="left")
    for column in ("least", "greatest", "centres above 0", "centres below 0"):
        table.add_column(column, justify="right")
    for name, beta_XY, sure_XY in zip(found.names, found.beta_GXY, found.sure_GXY, strict=True):
        ends = (_at(found, beta_XY, int(place)) for place in (beta_XY.argmin(), beta_XY.argmax()))
        above, below = int((sure_XY & (beta_XY > 0)).sum()), int((sure_XY & (beta_XY < 0)).sum())
        table.add_row(name, *ends, f"{above} of {beta_XY.size}", f"{below} of {beta_XY.size}")
    show(table)
    say(f"Learnt from {found.num_events:,} events; a centre counts if it is more than two standard errors away from 0.")


def _at(found: FieldMap, beta_XY: Float64, place: int) -> str:
    row, column = divmod(place, len(found.east_Y))
    return f"{beta_XY.flat[place]:+.2f} at {found.north_X[row]:.3f}, {found.east_Y[column]:.3f}"
