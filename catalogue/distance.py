"""How far items are from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Float64
from ..histories.weather import EARTH_RADIUS_KM
from .item_facts import Places

__all__ = ["PlacesOnSphere", "has_coordinates"]


def has_coordinates(table: pl.DataFrame) -> bool:
    """Whether any row has both a latitude and a longitude."""
    if not {"latitude", "longitude"} <= set(table.columns):
        return False
    return bool((table["latitude"].is_not_null() & table["longitude"].is_not_null()).any())


@dataclass(frozen=True)
class PlacesOnSphere:
    """Points on the unit sphere by number, float64 [N + 1, 3]; NaN where a place is unknown, and for number -1."""

    unit_N3: Float64

    @classmethod
    def of(cls, table: pl.DataFrame) -> PlacesOnSphere:
        """Places of a table's rows, by `latitude` and `longitude` in degrees; unknown where missing or not on earth."""
        places = Places.of(table["latitude"], table["longitude"])
        latitude_N, longitude_N = (
            np.append(np.radians(degrees_N), np.nan) for degrees_N in (places.latitude_N, places.longitude_N)
        )
        across_N = np.cos(latitude_N)
        return cls(np.stack([across_N * np.cos(longitude_N), across_N * np.sin(longitude_N), np.sin(latitude_N)], 1))

    def km(self, number_X: NDArray[np.integer], other_X: NDArray[np.integer]) -> Float64:
        """float64 [X]: great-circle distances in km on a sphere, from chords; NaN where either place is unknown.

        With c the chord of two points on the unit sphere, 2 R asin(c / 2): the haversine formula (Sinnott, "Virtues of
        the haversine", Sky and Telescope 68(2), 1984). The error is below a metre.
        """
        difference_X3 = self.unit_N3[number_X] - self.unit_N3[other_X]
        chord_X = np.sqrt(np.einsum("xd,xd->x", difference_X3, difference_X3))
        distance_X: Float64 = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord_X / 2, 1.0))
        return distance_X
