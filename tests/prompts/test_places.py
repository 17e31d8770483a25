"""Where somebody is known to be: against hand-made walks, a library's geohash by hand, and a naive reference."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.prompts.places import MIN_NIGHTS, PLACE_VARIABLES, Places, cells, directions, distance_words, names_of

Events = Callable[..., pl.DataFrame]
HOME, CORNER, NORTH, FAR = (40.70, -74.00), (40.70, -73.99), (40.72, -74.00), (42.36, -71.06)
WALK = [HOME, HOME, CORNER, NORTH, HOME]
HOURS = ["2024-01-01T22:00", "2024-01-02T23:00", "2024-01-03T09:00", "2024-01-03T09:30", "2024-01-03T18:00"]


def place_columns(message: pl.DataFrame, location: str, names: pl.Series | None) -> pl.DataFrame:
    """All variables of the place, a row an event."""
    places = Places(message, location, None if names is None else names_of(names))
    return pl.DataFrame([places.column(name) for name in PLACE_VARIABLES])


def _events(events: Events, places: Sequence[tuple[float, float] | None], hours: Sequence[str] = HOURS) -> pl.DataFrame:
    rows = [(0, hour, item) for item, hour in enumerate(hours)]
    latitude, longitude = ([place and place[axis] for place in places] for axis in (0, 1))
    degrees = {"latitude": latitude, "longitude": longitude}
    return events(rows, **{name: pl.Series(values, dtype=pl.Float64) for name, values in degrees.items()})


def test_outcomes_say_where_the_last_event_was_and_how_one_came_there(events: Events) -> None:
    said = place_columns(_events(events, WALK), "outcome", None)
    assert said["moved"].to_list() == ["", "", "same place", "800 m", "2 km"]
    assert said["direction"].to_list() == ["", "", "", "east", "north"]
    assert said["cell"].to_list()[0] == ""
    assert said["cell"][1] == said["cell"][2] != said["cell"][4]


def test_context_says_where_one_is(events: Events) -> None:
    said = place_columns(_events(events, WALK), "context", None)
    assert said["moved"].to_list() == ["", "same place", "800 m", "2 km", "2 km"]
    assert said["direction"].to_list() == ["", "", "east", "north", "south"]


def test_home_is_the_place_of_the_most_nights_before(events: Events) -> None:
    said = place_columns(_events(events, WALK), "context", None)
    assert said["from_home"].to_list() == ["", "", "800 m", "2 km", "at home"]
    assert said["home_direction"].to_list() == ["", "", "east", "north", ""]
    assert said["home_km"].to_list() == [None, None, pytest.approx(0.8), pytest.approx(2.2), 0.0]


def test_home_moves_with_the_nights(events: Events) -> None:
    nights = [f"2024-01-{day:02}T22:00" for day in range(1, 8)]
    said = place_columns(_events(events, [HOME, HOME, NORTH, NORTH, NORTH, NORTH, HOME], nights), "context", None)
    assert said["from_home"].to_list() == ["", "", "2 km", "2 km", "2 km", "at home", "2 km"]


def test_nights_of_unknown_hour_are_no_nights(events: Events) -> None:
    message = _events(events, WALK).with_columns(hour_known=pl.lit(False))
    said = place_columns(message, "context", None)
    assert set(said["from_home"]) == {""}
    assert set(said["speed"]) == {""}


def test_place_of_the_last_item_has_its_name_and_others_their_cell(events: Events) -> None:
    names = pl.Series(["Soho", None, "Chelsea"])
    said = place_columns(_events(events, WALK), "outcome", names)
    assert said["here"].to_list() == ["", "Soho", said["cell"][2], "Chelsea", said["cell"][4]]
    assert place_columns(_events(events, WALK), "context", names)["here"][0] == said["cell"][1], "an item says nothing"


@pytest.mark.parametrize(
    ("minutes", "to", "word"),
    [(30, CORNER, "walking"), (6, NORTH, "cycling"), (180, FAR, "driving"), (60, FAR, "flying"), (1, NORTH, ""),
     (600, FAR, ""), (30, HOME, "")],
)  # fmt: skip
def test_speed_has_a_word_where_it_can_be_known(
    events: Events, minutes: int, to: tuple[float, float], word: str
) -> None:
    later = (datetime(2024, 1, 1, 8) + timedelta(minutes=minutes)).isoformat()
    said = place_columns(_events(events, [HOME, to], ["2024-01-01T08:00", later]), "context", None)
    assert said["speed"].to_list() == ["", word]


def test_users_do_not_share_places(events: Events) -> None:
    message = events([(0, HOURS[0], 0), (1, HOURS[1], 0)], latitude=[40.0, 41.0], longitude=[-74.0, -74.0])
    for location in ("context", "outcome"):
        assert place_columns(message, location, None)["moved"].to_list() == ["", ""]


def test_unknown_places_are_passed_over(events: Events) -> None:
    said = place_columns(_events(events, [HOME, None, NORTH], HOURS[:3]), "outcome", None)
    assert said["cell"].to_list()[1:] == [said["cell"][1]] * 2
    nowhere = place_columns(_events(events, [None, None], HOURS[:2]), "outcome", None)
    assert set(nowhere.row(1)) == {"", None}


@pytest.mark.parametrize(
    ("latitude", "longitude", "cell"),
    [(57.64911, 10.40744, "u4pruy"), (42.605, -5.603, "ezs42"), (0.0, 0.0, "s00000"), (90.0, 180.0, "zzzzzz")],
)
def test_cell_is_the_geohash(latitude: float, longitude: float, cell: str) -> None:
    """The first two are the examples of the geohash's own description (Wikipedia, "Geohash")."""
    found, unknown = cells(np.array([[latitude, longitude], [np.nan, 0.0]])).to_list()
    assert (found[: len(cell)], len(found), unknown) == (cell, 6, "")


@pytest.mark.parametrize(
    ("km", "words"),
    [(0.01, "same place"), (0.06, "100 m"), (0.94, "900 m"), (0.96, "1 km"), (9.4, "9 km"), (9.6, "10 km"),
     (44.0, "40 km"), (96.0, "100 km"), (1234.0, "1200 km"), (math.nan, "")],
)  # fmt: skip
def test_distance_has_few_digits(km: float, words: str) -> None:
    assert distance_words(np.array([km]), 0.05, "same place").to_list() == [words]


@pytest.mark.parametrize(
    ("to", "word"),
    [((1, 0), "north"), ((1, 1), "north-east"), ((0, 1), "east"), ((-1, 1), "south-east"), ((-1, 0), "south"),
     ((-1, -1), "south-west"), ((0, -1), "west"), ((1, -1), "north-west"), ((0, 359), "west"), ((0, 0), "")],
)  # fmt: skip
def test_direction_is_that_of_the_compass(to: tuple[int, int], word: str) -> None:
    at = np.array([to], np.float64)
    km = np.array([0.0 if to == (0, 0) else 100.0])
    assert directions(np.zeros((1, 2)), at, km).to_list() == [word]


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 23)), max_size=12),
    location=st.sampled_from(["context", "outcome"]),
)
def test_home_equals_a_count_of_the_nights_before(
    events: Events, rows: list[tuple[int, int, int]], location: str
) -> None:
    places = [None, (40.0, -74.0), (40.1, -74.0), (40.2, -74.0)]
    rows = sorted(rows, key=lambda row: row[0])
    times = [f"2024-01-{day + 1:02}T{hour:02}:00" for day, (_, _, hour) in enumerate(rows)]
    message = events([(row[0], time, 0) for row, time in zip(rows, times, strict=True)],
                  **{name: pl.Series([places[row[1]] and places[row[1]][axis] for row in rows], dtype=pl.Float64)
                     for axis, name in enumerate(("latitude", "longitude"))})  # fmt: skip
    said = place_columns(message, location, None)["from_home"].to_list()
    for n, (user, here, _) in enumerate(rows):
        before = [row for row in rows[:n] if row[0] == user]
        if location == "outcome":
            here = next((row[1] for row in reversed(before) if row[1]), 0)
        home, most, count = 0, MIN_NIGHTS - 1, [0] * 4
        for _, place, hour in before:
            count[place] += bool(place) and (hour >= 21 or hour < 6)
            if place and count[place] > most and (hour >= 21 or hour < 6):
                home, most = place, count[place]
        expected = "" if not home or not here else "at home" if home == here else f"{abs(home - here)}0 km"
        assert said[n] == expected, (rows, n)
