"""How far places are from each other: great-circle distances on a sphere.

Places are points on the unit sphere, float64 [..., 3], NaN where a place is unknown. With c the chord of two points,
their distance is 2 R asin(c / 2). This is the haversine formula (Sinnott, "Virtues of the haversine", Sky and Telescope
68(2), 1984), whose haversine is (c / 2)^2. It errs by less than a micrometre for near places, and by less than a metre
for places on opposite sides of the earth.

Shapes: N = rows of a table, X = places given by number, P = places, S = places to choose from.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Float64, Int64

EARTH_RADIUS_KM: Final = 6371.0088  # mean radius, IUGG
KM_PER_DEGREE: Final = EARTH_RADIUS_KM * float(np.radians(1.0))  # of latitude
_CHUNK_PAIRS = 4_000_000  # distances held at once: 32 MB


def distance_km(point_X3: Float64, other_X3: Float64) -> Float64:
    """Distances of points, or of all pairs where shapes broadcast so: float64 [...]; NaN where either is unknown."""
    # By differences of axes: an inner product cannot separate near places.
    chord2_X = np.zeros(np.broadcast_shapes(point_X3.shape[:-1], other_X3.shape[:-1]))
    for axis in range(3):
        chord2_X += (point_X3[..., axis] - other_X3[..., axis]) ** 2
    distance_X: Float64 = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(np.sqrt(chord2_X) / 2, 1.0))
    return distance_X


def points(*, latitude: NDArray[Any] | float, longitude: NDArray[Any] | float) -> Float64:
    """Places given in degrees: float64 [..., 3]; NaN where a coordinate is missing or not on earth."""
    latitude_X, longitude_X = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    on_earth_X = (np.abs(latitude_X) <= 90) & (np.abs(longitude_X) <= 180)
    latitude_X, longitude_X = (np.radians(np.where(on_earth_X, one_X, np.nan)) for one_X in (latitude_X, longitude_X))
    across_X = np.cos(latitude_X)
    return np.stack([across_X * np.cos(longitude_X), across_X * np.sin(longitude_X), np.sin(latitude_X)], axis=-1)


def points_of(table: pl.DataFrame) -> Float64:
    """Places of a table's rows by its columns `latitude` and `longitude`: float64 [N, 3]."""
    latitude, longitude = (
        table[name].cast(pl.Float64, strict=False).to_numpy()
        for name in ("latitude", "longitude")  # NaN for null
    )
    return points(latitude=latitude, longitude=longitude)


def has_coordinates(table: pl.DataFrame) -> bool:
    """Whether any row has both a latitude and a longitude."""
    if not {"latitude", "longitude"} <= set(table.columns):
        return False
    latitude, longitude = table["latitude"], table["longitude"]
    if not (latitude.has_nulls() and longitude.has_nulls()):  # each step of polars takes longer than a look at a flag
        return min(len(latitude) - latitude.null_count(), len(longitude) - longitude.null_count()) > 0
    return bool((latitude.is_not_null() & longitude.is_not_null()).any())


def nearest(point_P3: Float64, other_S3: Float64) -> tuple[Int64, Float64]:
    """The nearest of some known places for each point, in chunks that bound the memory.

    Its position int64 [P], the first of equally near ones; its distance in km float64 [P], infinite for an unknown one.
    """
    chunk = max(1, _CHUNK_PAIRS // len(other_S3))
    nearest_P, least_P = np.empty(len(point_P3), np.int64), np.empty(len(point_P3))
    for start in range(0, len(point_P3), chunk):
        part = slice(start, start + chunk)
        distance_PS = distance_km(point_P3[part, None], other_S3)
        distance_PS[np.isnan(distance_PS)] = np.inf
        nearest_P[part], least_P[part] = distance_PS.argmin(axis=1), distance_PS.min(axis=1)
    return nearest_P, least_P


@dataclass(frozen=True)
class PlacesOnSphere:
    """Places of a table's rows, given by number; -1, which stands for no row, is an unknown place.

    `point_N3` is float64 [N + 1, 3], unknown in the last row.
    """

    point_N3: Float64

    @classmethod
    def of(cls, table: pl.DataFrame) -> "PlacesOnSphere":
        """Those of its columns `latitude` and `longitude`."""
        return cls(np.append(points_of(table), np.full((1, 3), np.nan), axis=0))

    def km(self, number_X: NDArray[np.integer], other_X: NDArray[np.integer]) -> Float64:
        """Distances: float64 [X], NaN where either place is unknown."""
        return distance_km(self.point_N3[number_X], self.point_N3[other_X])
