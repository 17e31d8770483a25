"""Weather: units, the nearest station, and nothing that was not known at the event."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from whereupon.errors import ConfigError, DataError
from whereupon.histories import WeatherJoinSettings, WeatherSettings
from whereupon.histories.reading import ROW
from whereupon.histories.rejects import Notes, Rejects
from whereupon.histories.weather import clean_weather, join_weather, nearest_stations
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]

MIDNIGHT = datetime(2024, 1, 2, tzinfo=UTC)
STATIONS = [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)]  # 111 km apart


def clean(columns: dict[str, Any], **settings: Any) -> pl.DataFrame:
    raw = pl.DataFrame(columns).with_row_index(ROW, offset=1)
    chosen = WeatherSettings(path=Path("w.csv"), **settings)
    return clean_weather(raw, chosen, source="w.csv", rejects=Rejects(), notes=Notes())


def test_units_are_converted() -> None:
    row = {
        "time": ["2024-01-01T00:00Z"],
        "temperature_f": ["14"],
        "precipitation_in": ["0.5"],
        "snowfall_in": ["2"],
        "snow_depth_in": ["10"],
        "wind_mph": ["10"],
        "condition": [" snow "],
    }
    found = clean(row, latitude=0, longitude=0).drop("latitude", "longitude", "time").row(0, named=True)
    assert found == {
        "temperature_c": -10.0,
        "precipitation_mm": 12.7,
        "snowfall_cm": 5.08,
        "snow_depth_cm": 25.4,
        "wind_mps": 4.4704,
        "condition": "snow",
    }


@pytest.mark.parametrize(("field", "value", "mps"), [("wind_kmh", 36, 10), ("wind_kn", 36, 18.52), ("wind_mps", 2, 2)])
def test_wind_units_agree(field: str, value: int, mps: float) -> None:
    found = clean({"time": ["2024-01-01T00:00Z"], field: [value]}, latitude=0, longitude=0)
    assert found["wind_mps"].to_list() == [mps]


def test_mean_of_a_days_extremes_stands_in_for_its_mean() -> None:
    extremes = {"temperature_max_f": ["50", ""], "temperature_min_f": ["14", "14"]}
    found = clean({"local_day": ["2024-01-01", "2024-01-02"], **extremes}, latitude=0, longitude=0)
    assert found["temperature_c"].to_list() == [0.0, None]


def test_bad_rows_are_rejected() -> None:
    rejects = Rejects()
    raw = pl.DataFrame(
        {
            "time": ["2024-01-01T00:00Z", "x", "2024-01-01T00:00Z"],
            "latitude": [0, 0, 99],
            "longitude": [0, 0, 0],
            "wind_mps": [1, 2, 3],
        }
    ).with_row_index(ROW, offset=1)
    kept = clean_weather(raw, WeatherSettings(path=Path("w.csv")), source="w.csv", rejects=rejects, notes=Notes())
    assert kept["wind_mps"].to_list() == [1]
    assert rejects.table().rows() == [
        ("w.csv", 2, "unparsable time", "x"),
        ("w.csv", 3, "coordinates out of range", "99.0, 0.0"),
    ]


@pytest.mark.parametrize(
    ("columns", "settings", "facts"),
    [
        ({"wind_mps": [1]}, {"latitude": 0, "longitude": 0}, ["time", "local_day"]),
        ({"time": ["2024-01-01"], "wind_mps": [1]}, {}, ["histories.weather.latitude"]),
        ({"time": ["2024-01-01"]}, {"latitude": 0, "longitude": 0}, ["weather column"]),
        ({"time": ["x"], "wind_mps": [1]}, {"latitude": 0, "longitude": 0}, ["w.csv", "rejected"]),
    ],
)
def test_table_that_lacks_something_says_what(
    columns: dict[str, Any], settings: dict[str, Any], facts: list[str]
) -> None:
    with pytest.raises(DataError, match=says(*facts)):
        clean(columns, **settings)


def haversine_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    (lat_a, lon_a), (lat_b, lon_b) = [(radians(x), radians(y)) for x, y in (a, b)]
    half = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin((lon_b - lon_a) / 2) ** 2
    return 2 * 6371.0088 * asin(sqrt(min(1.0, half)))


DEGREES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@limits(max_examples=50, deadline=None)
@given(st.lists(DEGREES, min_size=1, max_size=8), st.lists(DEGREES, min_size=1, max_size=5))
def test_nearest_station_agrees_with_a_loop(
    places: list[tuple[float, float]], stations: list[tuple[float, float]]
) -> None:
    nearest, distance = nearest_stations(np.array(places), np.array(stations))
    for at, place in enumerate(places):
        all_km = [haversine_km(place, station) for station in stations]
        assert distance[at] == pytest.approx(min(all_km), abs=1e-3)
        assert all_km[nearest[at]] == pytest.approx(min(all_km), abs=1e-3)


def test_nearest_station_across_the_date_line() -> None:
    nearest, distance = nearest_stations(
        np.array([[0.0, 179.9], [np.nan, np.nan]]), np.array([[0.0, 170], [0, -179.9]])
    )
    assert nearest[0] == 1
    assert distance == pytest.approx([22.239, np.inf], abs=1e-3)


def joined(
    events: list[tuple[int, int]], rows: list[tuple[int, int]], notes: Counter[str] | None = None, **settings: Any
) -> list[float | None]:
    """Wind (= number of its row) of events (minute, station), from rows (minute, station), joined over minutes."""
    event_table = pl.DataFrame(
        {
            "time": [MIDNIGHT + timedelta(minutes=minute) for minute, _ in events],
            "_latitude": [STATIONS[at][0] for _, at in events],
            "_longitude": [STATIONS[at][1] for _, at in events],
        }
    ).with_columns(local_time=pl.col("time").dt.replace_time_zone(None))
    weather = pl.DataFrame(
        {
            "latitude": [STATIONS[at][0] for _, at in rows],
            "longitude": [STATIONS[at][1] for _, at in rows],
            "time": [MIDNIGHT + timedelta(minutes=minute) for minute, _ in rows],
            "wind_mps": [float(number) for number in range(len(rows))],
        }
    )
    result = join_weather(event_table, weather, WeatherJoinSettings(**settings), Counter() if notes is None else notes)
    assert result["time"].to_list() == event_table["time"].to_list()
    return result["wind_mps"].to_list()


MINUTES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2)), min_size=1, max_size=15)


@limits(max_examples=50, deadline=None)
@given(MINUTES, MINUTES, st.sampled_from([0, 1, 60]), st.sampled_from([0, 30, 180]))
def test_timed_join_agrees_with_a_loop(
    events: list[tuple[int, int]], rows: list[tuple[int, int]], delay: int, tolerance: int
) -> None:
    expected: list[float | None] = []
    known_stations = {station for _, station in rows}
    for minute, station in events:
        known = [
            (at + delay, number)
            for number, (at, other) in enumerate(rows)
            if station in known_stations and other == station and minute - tolerance <= at + delay <= minute
        ]
        expected.append(float(max(known)[1]) if known else None)
    found = joined(events, rows, delay_minutes=delay, tolerance_hours=tolerance / 60, max_distance_km=50)
    assert found == expected


@limits(max_examples=50, deadline=None)
@given(MINUTES, MINUTES, MINUTES)
def test_weather_after_an_event_never_reaches_it(
    events: list[tuple[int, int]], rows: list[tuple[int, int]], later: list[tuple[int, int]]
) -> None:
    last = max(minute for minute, _ in events)
    stations = [(0, at) for at in range(3)]  # all stations known, so that later rows bring no new one
    future = [(last + 1 + minute, station) for minute, station in later]
    assert joined(events, stations + rows) == joined(events, stations + rows + future)


def test_hourly_row_is_known_only_after_its_hour() -> None:
    rows = [(0, 0), (60, 0)]
    assert joined([(59, 0), (60, 0), (119, 0), (120, 0)], rows, delay_minutes=60) == [None, 0.0, 0.0, 1.0]
    assert joined([(59, 0), (60, 0)], rows) == [0.0, 1.0]


def test_far_and_old_weather_is_not_used_and_counted() -> None:
    notes: Counter[str] = Counter()
    found = joined([(10, 0), (10, 1), (300, 0)], [(0, 0)], notes, tolerance_hours=1, max_distance_km=100)
    assert found == [0.0, None, None]
    assert notes == {"events without a weather station in reach": 1, "events without a weather row": 1}


DAILY = """local_day,temperature_c
    2024-01-01,1
    2024-01-02,2
    2024-01-03,3
    2024-01-04,"""


@pytest.mark.parametrize(("daily", "expected"), [("previous_day", [None, 1, 2, 3]), ("same_day", [1, 2, 3, None])])
def test_daily_weather_is_yesterdays_unless_set_otherwise(
    write: Write, run_prepare: Prepare, visits: Path, daily: str, expected: list[float | None]
) -> None:
    weather = {"path": write("weather.csv", DAILY), "latitude": 0, "longitude": 0}
    _, histories = run_prepare(events={"path": visits}, weather=weather, weather_join={"daily": daily}, time_zone="UTC")
    assert histories.events.sort("time")["temperature_c"].to_list() == expected


def test_daily_weather_goes_by_the_local_day(write: Write, run_prepare: Prepare) -> None:
    events = write("e.csv", "user_id,item_id,time,utc_offset_minutes\nann,park,2024-01-03T04:59Z,-300")
    weather = {"path": write("weather.csv", DAILY), "latitude": 0, "longitude": 0}
    _, histories = run_prepare(events={"path": events}, weather=weather)
    assert histories.events["temperature_c"].to_list() == [1.0]  # 2 January, 23:59 over there


def test_no_weather_of_its_day_or_later_reaches_an_event(write: Write, run_prepare: Prepare, visits: Path) -> None:
    """Change every row that was not complete when the event happened: the event must not notice."""
    settings = {"latitude": 0, "longitude": 0}
    before: list[list[float | None]] = []
    after: list[list[float | None]] = []
    for day in range(1, 5):
        for values, wind in ((before, 1.0), (after, 99.0)):
            rows = [f"{date(2024, 1, n)},{float(n) if n < day else wind}" for n in range(1, 5)]
            path = write("weather.csv", "\n".join(["local_day,wind_mps", *rows]))
            _, histories = run_prepare(events={"path": visits}, weather={"path": path, **settings}, time_zone="UTC")
            found = histories.events.filter(pl.col("local_time").dt.day() == day)["wind_mps"].to_list()
            values.append(found)
    assert before == after == [[None], [1.0], [2.0], [3.0]]


TWO_STATIONS = """time,latitude,longitude,temperature_c
    2024-01-01T00:00Z,0,0,10
    2024-01-01T00:00Z,0,1,20"""
THERE_AND_BACK = """user_id,item_id,time,latitude,longitude
    ann,a,2024-01-01T01:00Z,0,0
    ann,b,2024-01-01T02:00Z,0,1
    ann,a,2024-01-01T03:00Z,0,0"""


@pytest.mark.parametrize(("location", "expected"), [("context", [10, 20, 10]), ("outcome", [10, 10, 20])])
def test_weather_at_the_chosen_item_never_gives_it_away(
    write: Write, run_prepare: Prepare, location: str, expected: list[float]
) -> None:
    events, weather = write("e.csv", THERE_AND_BACK), write("w.csv", TWO_STATIONS)
    _, histories = run_prepare(events={"path": events}, weather={"path": weather}, location=location)
    assert histories.events["temperature_c"].to_list() == expected
    assert histories.location == location


def test_one_station_serves_events_without_coordinates(write: Write, run_prepare: Prepare, visits: Path) -> None:
    weather = {"path": write("weather.csv", DAILY), "latitude": 50, "longitude": 8}
    report, histories = run_prepare(events={"path": visits}, weather=weather, time_zone="UTC")
    assert histories.events["temperature_c"].null_count() == 1
    assert report.manifest["notes"]["events without a weather row"] == 1
    assert report.manifest["weather_missing"] == {"temperature_c": 1}


def test_same_weather_from_two_sources_is_refused(write: Write, run_prepare: Prepare, visits: Path) -> None:
    weather = {"path": write("weather.csv", DAILY), "latitude": 50, "longitude": 8}
    with pytest.raises(ConfigError, match=says("context_columns", "temperature_c", "weather table")):
        run_prepare(events={"path": visits}, weather=weather, context_columns=["temperature_c"])
