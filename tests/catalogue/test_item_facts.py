"""Masks over the items: by hand on a few towns, and against loops and sets."""

import math
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue import ItemFacts, item_facts
from whereupon.catalogue.opening_hours import CLOSED, OPEN, UNKNOWN
from whereupon.errors import CatalogueError

EARTH_KM = 6371.0088
BERLIN, POTSDAM, SYDNEY = (52.52, 13.405), (52.39, 13.06), (-33.87, 151.21)


def _facts(**columns: Any) -> ItemFacts:
    size = len(next(iter(columns.values())))
    return ItemFacts(pl.DataFrame({"item_id": [f"i{i}" for i in range(size)]} | columns))


def _placed(places: list[tuple[float | None, float | None]]) -> ItemFacts:
    return ItemFacts(
        pl.DataFrame(
            {"item_id": map(str, range(len(places))), "place": places},
            schema={"item_id": pl.String, "place": pl.Array(pl.Float64, 2)},
        ).with_columns(latitude=pl.col("place").arr.get(0), longitude=pl.col("place").arr.get(1))
    )


def _haversine_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    (phi, lam), (phi_b, lam_b) = (map(math.radians, place) for place in (a, b))
    half = math.sin((phi - phi_b) / 2) ** 2 + math.cos(phi) * math.cos(phi_b) * math.sin((lam - lam_b) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, half)))


# Near


def test_items_are_near_within_the_radius_only() -> None:
    facts = _placed([BERLIN, POTSDAM, SYDNEY])  # Potsdam is 27.5 km from Berlin
    for km, near in ((0.001, [1, 0, 0]), (27.4, [1, 0, 0]), (27.6, [1, 1, 0]), (16000, [1, 1, 0]), (30000, [1, 1, 1])):
        assert facts.near(latitude=BERLIN[0], longitude=BERLIN[1], km=km).tolist() == [bool(one) for one in near]


def test_items_across_the_date_line_are_near() -> None:
    facts = _placed([(0.0, 179.999), (0.0, -179.999), (0.0, 179.9)])
    assert facts.near(latitude=0, longitude=180, km=1).tolist() == [True, True, False]


def test_items_around_the_pole_are_near_whatever_their_longitude() -> None:
    facts = _placed([(89.999, 0.0), (89.999, 120.0), (89.0, 0.0)])
    assert facts.near(latitude=90, longitude=-30, km=1).tolist() == [True, True, False]


@pytest.mark.parametrize(
    "missing", [(None, None), (52.5, None), (None, 13.4), (math.nan, 13.4), (91.0, 13.4), (52.5, 181.0)]
)
def test_item_without_a_place_on_earth_is_near_nothing(missing: tuple[float | None, float | None]) -> None:
    facts = _placed([BERLIN, missing])
    assert facts.places.known_I.tolist() == [True, False]
    assert facts.near(latitude=52.5, longitude=13.4, km=40000).tolist() == [True, False]


def test_coordinates_given_as_text_are_numbers() -> None:
    facts = _facts(latitude=["52.52", "north"], longitude=["13.405", "13.4"])
    assert facts.near(latitude=52.52, longitude=13.405, km=1).tolist() == [True, False]


degrees = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
offsets = st.sampled_from([0.0, 1e-3, -1e-3, 1e-5, -1e-5, 1.0, -1.0])  # km around the border; a metre, a centimetre


@given(degrees, st.lists(degrees | st.just((None, None)), min_size=1, max_size=12), offsets, st.data())
@settings(deadline=None)
def test_near_is_the_haversine_loop_to_a_millimetre(
    centre: tuple[float, float], places: list[Any], offset: float, data: st.DataObject
) -> None:
    close = [(centre[0] * 0.999999, centre[1] * 0.999999), centre]
    places = places + close
    distances = [math.inf if place[0] is None else _haversine_km(centre, place) for place in places]
    border = data.draw(st.sampled_from([d for d in distances if d < math.inf]))
    km = max(1e-4, border + offset)
    near = _placed(places).near(latitude=centre[0], longitude=centre[1], km=km).tolist()
    for place, distance, found in zip(places, distances, near, strict=True):
        # Near the antipode the formula itself knows no millimetres.
        if abs(distance - km) > (1e-6 if distance < 19_000 else 1e-3):
            assert found == (distance < km), (place, distance, km)


@given(st.floats(-89, 89), st.floats(-179, 179), st.floats(0.0005, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_crowd_at_the_border_of_a_small_circle_is_distinguished(
    latitude: float, longitude: float, km: float, seed: int
) -> None:
    """Items a metre at most inside or outside: float32 alone is too coarse."""
    random = np.random.default_rng(seed)
    angle, reach = random.uniform(0, 2 * np.pi, 50), np.maximum(0, km + random.uniform(-1e-3, 1e-3, 50)) / EARTH_KM
    east = np.degrees(reach * np.sin(angle)) / np.cos(np.radians(latitude))
    places = [
        (float(a), float(b))
        for a, b in zip(latitude + np.degrees(reach * np.cos(angle)), longitude + east, strict=True)
    ]
    near = _placed(places).near(latitude=latitude, longitude=longitude, km=km)
    distances = np.array([_haversine_km((latitude, longitude), place) for place in places])
    certain = np.abs(distances - km) > 1e-8
    assert (near == (distances < km))[certain].all()


def test_items_without_coordinates_cannot_be_requested_nearness() -> None:
    with pytest.raises(CatalogueError, match=r"^This filter needs a column 'latitude' .* only item_id, title; add it"):
        _facts(title=["a"]).near(latitude=0, longitude=0, km=1)


# Category


CATEGORIES = ["Bar", "Café", " bar ", None, "", "  ", "Straße", "ＢＡＲ", "Cafe\u0301"]  # noqa: RUF001  # the last is decomposed


@pytest.mark.parametrize(
    ("asked", "items"),
    [
        (["BAR"], [0, 2]),
        (["CAFÉ"], [1, 8]),
        (["Cafe\u0301 "], [1, 8]),
        (["STRASSE"], [6]),
        (["bar", "Bar", "straße"], [0, 2, 6]),
    ],
)
def test_category_is_reported_by_neither_case_nor_unicode_form(asked: list[str], items: list[int]) -> None:
    facts = _facts(category=CATEGORIES)
    assert np.flatnonzero(facts.in_category(asked)).tolist() == items
    assert np.flatnonzero(facts.categories.code_I < 0).tolist() == [3, 4, 5]


def test_unknown_category_is_reported_with_the_nearest() -> None:
    facts = _facts(category=["Coffee Shop", "Bar", "Gym"])
    with pytest.raises(
        CatalogueError, match=r"^There is no category 'cofee shop' among 3; did you mean Coffee Shop\?$"
    ):
        facts.in_category(["bar", "cofee shop"])
    with pytest.raises(
        CatalogueError, match=r"no category 'Zoo' among 3 \(nor 1 more\); did you mean Coffee Shop, Bar"
    ):
        facts.in_category(["Zoo", "Ux"])


def test_unknown_category_where_no_item_has_one_is_reported() -> None:
    with pytest.raises(CatalogueError, match=r"^There is no category 'Bar' among 0\.$"):
        _facts(category=pl.Series([None], dtype=pl.String)).in_category(["Bar"])


def test_categories_that_are_numbers_are_their_text() -> None:
    assert _facts(category=[7, 8, None]).in_category(["8"]).tolist() == [False, True, False]


def test_categories_in_lists_are_refused() -> None:
    with pytest.raises(CatalogueError, match=r"^The items' category should be text but is List\(String\); make it one"):
        _facts(category=[["Bar", "Café"]]).in_category(["Bar"])


words = st.text(st.sampled_from("aAäÄßsS\u0308 ıİiI"), max_size=3)  # noqa: RUF001


@given(st.lists(words | st.none(), min_size=1, max_size=20), st.data())
@settings(deadline=None)
def test_category_mask_is_the_set_of_equal_names(column: list[str | None], data: st.DataObject) -> None:
    facts = _facts(category=pl.Series(column, dtype=pl.String))
    named = [name for name in column if name and name.strip()]
    if not named:
        return
    asked = data.draw(st.lists(st.sampled_from(named), min_size=1, max_size=3))
    wanted = {item_facts._fold(name) for name in asked}
    expected = [bool(name and name.strip()) and item_facts._fold(str(name)) in wanted for name in column]
    assert facts.in_category(asked).tolist() == expected


# Opening hours


def test_states_of_items_are_those_of_their_hours() -> None:
    facts = _facts(opening_hours=["24/7", None, "Mo 10:00-12:00", "nonsense", "24/7", ""])
    assert facts.states(datetime(2024, 1, 2, 11)).tolist() == [OPEN, UNKNOWN, CLOSED, UNKNOWN, OPEN, UNKNOWN]
    assert facts.unreadable_I.tolist() == [False, False, False, True, False, False]


def test_items_that_all_lack_hours_are_unknown() -> None:
    facts = _facts(opening_hours=pl.Series([None, None], dtype=pl.String))
    assert facts.states(datetime(2024, 1, 2)).tolist() == [UNKNOWN, UNKNOWN]
    assert facts.unreadable_I.tolist() == [False, False]


# Ids


def test_listed_items_are_found_whatever_their_order() -> None:
    facts = _facts(title=["a", "b", "c", "d"])
    assert facts.listed(["i3", "i0", "i3"]).tolist() == [True, False, False, True]
    assert facts.listed([]).tolist() == [False] * 4


def test_unknown_id_is_reported_with_the_nearest() -> None:
    facts = ItemFacts(pl.DataFrame({"item_id": ["JFK", "EWR", "LaGuardia"]}))
    with pytest.raises(CatalogueError, match=r"^There is no item 'la-guardia' among 3; did you mean LaGuardia\?$"):
        facts.listed(["JFK", "la-guardia"])
    with pytest.raises(CatalogueError, match=r"^There is no item 'JFKK' among 3 \(nor 1 more\); did you mean JFK"):
        facts.listed(["JFKK", "EWR", "xyz"])


def test_unknown_id_among_very_many_is_reported_with_its_neighbours() -> None:
    facts = ItemFacts(pl.DataFrame({"item_id": [f"venue-{i:06}" for i in reversed(range(30_000))]}))
    with pytest.raises(CatalogueError, match=r"no item 'venue-0123x5' among 30,000; did you mean .*venue-0123\d5"):
        facts.listed(["venue-000001", "venue-0123x5"])


@given(
    st.lists(st.text(max_size=3), min_size=1, max_size=20, unique=True), st.data(), st.sampled_from([1, 3, 2**63]),
)  # fmt: skip
@settings(deadline=None)
def test_listed_mask_is_the_set_even_where_hashes_collide(names: list[str], data: st.DataObject, modulus: int) -> None:
    asked = data.draw(st.lists(st.sampled_from(names) | st.text(max_size=3), max_size=6))
    facts = ItemFacts(pl.DataFrame({"item_id": names}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_facts, "_hash", lambda ids: ids.hash().to_numpy() % np.uint64(modulus))
        if set(asked) <= set(names):
            assert facts.listed(asked).tolist() == [name in asked for name in names]
        else:
            first = next(name for name in asked if name not in names)
            with pytest.raises(CatalogueError) as refused:
                facts.listed(asked)
            assert str(refused.value).startswith(f"There is no item {first!r} among {len(names)}")
