from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.errors import PromptError
from whereupon.prompts import Features, context_frame
from whereupon.prompts.time_and_weather import public_holiday, season_here, since_last, solar_elevation, sun_words

Events = Callable[..., pl.DataFrame]
NOON = "2024-01-03T12:00"


@pytest.mark.parametrize(
    ("gap", "words"),
    [({"seconds": 20}, "moments"), ({"minutes": 4}, "10 minutes"), ({"minutes": 42}, "40 minutes"),
     ({"minutes": 58}, "1 hour"), ({"hours": 5}, "5 hours"), ({"hours": 23}, "1 day"), ({"days": 3}, "3 days"),
     ({"days": 21}, "3 weeks"), ({"days": 92}, "3 months")],
)  # fmt: skip
def test_time_since_the_last_event_is_shown_in_words(events: Events, gap: dict[str, int], words: str) -> None:
    later = (datetime.fromisoformat(NOON) + timedelta(**gap)).isoformat()
    assert since_last(events([(0, NOON, 0), (0, later, 0), (1, later, 0)])).to_list() == ["", words, ""]


def test_time_between_days_of_unknown_hour_is_shown_in_days(events: Events) -> None:
    rows = [(0, NOON, 0), (0, "2024-01-03T23:00", 0), (0, "2024-01-05T01:00", 0), (0, "2024-01-05T02:00", 0)]
    message = events(rows, hour_known=[True, False, True, True])
    assert since_last(message).to_list() == ["", "same day", "2 days", "1 hour"]


@pytest.mark.parametrize(
    ("utc", "place", "word"),
    [  # New York, 2013-06-21: sunrise 05:25, sunset 20:31, by NOAA; UTC is four hours on
        ("2013-06-21T09:20", (40.71, -74.01), "dawn"), ("2013-06-21T09:31", (40.71, -74.01), "day"),
        ("2013-06-22T00:25", (40.71, -74.01), "day"), ("2013-06-22T00:37", (40.71, -74.01), "dusk"),
        ("2013-06-22T04:00", (40.71, -74.01), "dark"), ("2024-12-21T12:00", (69.65, 18.96), "dark"),
        ("2024-12-21T02:00", (-33.87, 151.21), "day"),
    ],
)  # fmt: skip
def test_daypart_follows_the_sun(events: Events, utc: str, place: tuple[float, float], word: str) -> None:
    if word == "dark" and place[0] > 66:  # the polar night has a twilight at noon
        word = "dusk"
    message = events([(0, utc, 0)])
    said = sun_words(message, np.array(place[:1]), np.array(place[1:])).to_list()
    assert said in ([word], ["dawn"] if place[0] > 66 else [word])


def test_solar_elevation_agrees_with_published_ones() -> None:
    """At noon of an equinox the sun stands as high as the equator's distance from the pole, to a third of a degree."""
    equinox = 8844.63  # 2024-03-20 03:06 UTC, in days since J2000.0
    longitude = np.linspace(-180, 180, 7201)
    for latitude in (0.0, 40.0, -60.0):
        elevation, hour_angle = solar_elevation(np.full(7201, equinox), np.full(7201, latitude), longitude)
        assert elevation.max() == pytest.approx(90 - abs(latitude), abs=0.1)
        assert abs(hour_angle[elevation.argmax()]) < 0.1


def test_sun_is_not_shown_where_hour_or_place_are_unknown(events: Events) -> None:
    message = events([(0, NOON, 0), (0, NOON, 0)], hour_known=[False, True])
    assert sun_words(message, np.array([40.0, np.nan]), np.array([-74.0, -74.0])).to_list() == ["", ""]


def test_season_is_that_of_the_hemisphere(events: Events) -> None:
    message = events([(0, NOON, 0)] * 3)
    assert season_here(message, np.array([40.0, -33.0, np.nan])).to_list() == ["winter", "summer", "winter"]


def test_public_holidays_bear_their_name(events: Events) -> None:
    message = events([(0, "2024-07-04T09:00", 0), (0, "2024-07-05T09:00", 0)])
    assert public_holiday(message, "US").to_list() == ["Independence Day", ""]
    assert public_holiday(message[:0], "US").to_list() == []


@pytest.mark.parametrize(("country", "says"), [("", "set prompts.holiday_country"), ("Atlantis", "is 'Atlantis'; exp")])
def test_country_without_holidays_is_one_sentence(events: Events, country: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        public_holiday(events([(0, NOON, 0)]), country)


def _change(events: Events, hours: float = 3, **columns: Any) -> str:
    later = (datetime.fromisoformat(NOON) + timedelta(hours=hours)).isoformat()
    typed = {name: pl.Series(values, dtype=pl.Float64) for name, values in columns.items()}
    message = events([(0, NOON, 0), (0, later, 0)], **typed)
    said = context_frame(message, "outcome", Features(frozenset({"weather_change"})))["weather_change"].to_list()
    assert said[0] == ""
    return str(said[1])


def test_weather_is_shown_where_it_changes(events: Events) -> None:
    assert _change(events, precipitation_mm=[0.0, 3.0]) == "rain began"
    assert _change(events, precipitation_mm=[3.0, 0.0]) == "rain ended"
    assert _change(events, precipitation_mm=[0.0, 1.0], snowfall_cm=[0.0, 1.0]) == "snow began"
    assert _change(events, precipitation_mm=[3.0, 3.0]) == ""
    assert _change(events, temperature_c=[1.0, 7.0], precipitation_mm=[0.0, 0.0]) == "warmer"
    assert _change(events, temperature_c=[7.0, 1.0]) == "colder"


def test_weather_of_long_ago_or_unknown_has_not_changed(events: Events) -> None:
    assert _change(events, 25, precipitation_mm=[0.0, 3.0]) == ""
    assert _change(events, precipitation_mm=[None, 3.0]) == ""
    assert _change(events) == ""
