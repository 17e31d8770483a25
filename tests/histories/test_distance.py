import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.histories import distance
from whereupon.histories.distance import EARTH_RADIUS_KM, PlacesOnSphere, has_coordinates, nearest, points

DEGREE_KM = EARTH_RADIUS_KM * math.pi / 180
LATITUDES, LONGITUDES = st.floats(-90, 90), st.floats(-180, 180)


def _table(latitude: list[float | None], longitude: list[float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {"latitude": latitude, "longitude": longitude}, schema=dict.fromkeys(("latitude", "longitude"), pl.Float64)
    )


def test_distance_along_meridian_and_equator_is_that_of_the_arc() -> None:
    places = PlacesOnSphere.of(_table([0, 1, 0, -90], [0, 0, 180, 0]))
    km = places.km(np.array([0, 0, 0, 2]), np.array([1, 2, 3, 2]))
    assert km == pytest.approx([DEGREE_KM, 180 * DEGREE_KM, 90 * DEGREE_KM, 0])


def test_unknown_place_and_no_item_are_at_unknown_distances() -> None:
    places = PlacesOnSphere.of(_table([0, None, 91], [0, 0, 0]))
    assert np.isnan(places.km(np.array([0, 0, 0, -1]), np.array([1, 2, -1, -1]))).all()


def test_tables_without_any_whole_pair_of_coordinates_have_none() -> None:
    assert has_coordinates(_table([1, None], [2, None]))
    assert not has_coordinates(_table([1, None], [None, 2]))
    assert not has_coordinates(pl.DataFrame({"latitude": [1.0]}))


@settings(deadline=None)
@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_distance_equals_the_haversine(
    latitude: float, longitude: float, other_latitude: float, other_longitude: float
) -> None:
    places = PlacesOnSphere.of(_table([latitude, other_latitude], [longitude, other_longitude]))
    phi, other = math.radians(latitude), math.radians(other_latitude)
    half = math.sin((other - phi) / 2) ** 2
    half += math.cos(phi) * math.cos(other) * math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    haversine_km = 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(half, 1)))
    assert places.km(np.array([0]), np.array([1]))[0] == pytest.approx(haversine_km, abs=1e-3)


def test_nearest_places_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    here, there = (points(latitude=rng.uniform(-90, 90, n), longitude=rng.uniform(-180, 180, n)) for n in (9, 4))
    here[3], there[2] = np.nan, there[0]  # an unknown place; two equally near ones, of which the first is taken
    whole = nearest(here, there)
    assert (whole[1][3], 2 in whole[0]) == (np.inf, False)
    monkeypatch.setattr(distance, "_CHUNK_PAIRS", 10)
    assert [part.tolist() for part in nearest(here, there)] == [part.tolist() for part in whole]
