"""Pairs of coordinates that cannot be where something was: 0, 0 for "none", latitude and longitude exchanged, units."""

from typing import Final

import polars as pl

from ..errors import DataError
from .rejects import Notes
from .settings import Coordinates, Location

_FAR: Final = 10.0  # degrees from the middle of all pairs
_NEAR: Final = 3.0
_INHABITED: Final = (-60.0, 72.0)  # latitudes; a data set that lies beyond them is more likely exchanged
_E7: Final = 1e7
_NO_DEGREES: Final = 1e5


def clean_places(
    latitude: pl.Series, longitude: pl.Series, how: Coordinates, *, what: str, setting: str, notes: Notes
) -> tuple[pl.Series, pl.Series]:
    """Latitude and longitude as float64 degrees, without what only looks like a place; `notes` counts what was found.

    0, 0 is missing where the other pairs lie elsewhere, or where there are no others. Exchanged pairs are counted, and
    exchanged back only if `how` says so. `what` names the table and `setting` where `how` stands, for sentences. Raises
    DataError: degrees times ten million that `how` does not name.
    """
    if how == "e7":
        latitude, longitude = (latitude / _E7).round(7), (longitude / _E7).round(7)
    elif (latitude.abs() > _NO_DEGREES).sum() > 0.5 * latitude.count() > 0:
        raise DataError(
            f"{what} should have coordinates in degrees, but a latitude like {latitude.drop_nulls()[0]:.15g} is "
            f"degrees times ten million; set {setting}: e7."
        )
    frame = pl.DataFrame({"y": latitude, "x": longitude})
    is_null = (pl.col("y") == 0) & (pl.col("x") == 0)
    others = frame.filter(pl.col("y").is_between(-90, 90) & pl.col("x").is_between(-180, 180) & ~is_null)
    if others.height and others.select(pl.max_horizontal(pl.all().median().abs())).item() <= _FAR:
        is_null = pl.lit(False)
    if num := int(frame.select(is_null.sum()).item() or 0):
        notes[f"{what}: coordinates 0, 0, taken as missing"] += num
        frame = frame.with_columns(pl.when(~is_null).then(name).alias(name) for name in ("y", "x"))
    swapped = frame.select(_swapped(others).fill_null(False).alias("swapped")).to_series()
    if num := int(swapped.sum()):
        if how == "swap_back":
            notes[f"{what}: latitude and longitude exchanged, put back"] += num
            y, x = frame["y"], frame["x"]
            frame = pl.DataFrame([x.zip_with(swapped, y).alias("y"), y.zip_with(swapped, x).alias("x")])
        else:
            notes[f"{what}: latitude and longitude look exchanged, left so ({setting}: swap_back puts them back)"] += (
                num
            )
    return frame["y"].alias(latitude.name), frame["x"].alias(longitude.name)


def _swapped(others: pl.DataFrame) -> pl.Expr:
    """Whether a pair is a place only when exchanged, or is far from all `others` and near them when exchanged."""
    y, x = pl.col("y"), pl.col("x")
    impossible = (y.abs() > 90) & (y.abs() <= 180) & (x.abs() <= 90)
    if not others.height:
        return impossible
    low, high = _INHABITED
    beyond = ~y.is_between(low, high) & x.is_between(low, high)
    if float(others.select(beyond.mean()).item()) > 0.5:
        return impossible | beyond
    middle_y, middle_x = others.select(pl.all().median()).row(0)
    far: pl.Expr = ((y - middle_y).abs() > _FAR) | ((x - middle_x).abs() > _FAR)
    near: pl.Expr = ((x - middle_y).abs() < _NEAR) & ((y - middle_x).abs() < _NEAR)
    return impossible | (far & near)


def known_place(name: str, location: Location) -> pl.Expr:
    """Where the user is known to be just before the event; the weather of that place is the event's.

    Where the coordinates are those of the chosen item, the weather there could give the choice away: the user's last
    known place counts instead. Only a first event, which nothing predicts, has no other place than its own.
    """
    own = pl.col(name)
    if location == "context":
        return own
    first = pl.int_range(pl.len()) == 0
    return pl.when(first).then(own).otherwise(own.shift(1).forward_fill()).over("user_id")
