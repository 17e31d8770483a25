"""The clock at the event: offset, then the zone of the settings, then the coordinates, then UTC."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from whereupon.errors import ConfigError
from whereupon.histories.local_time import local_times
from whereupon.tests.texts import says

NEW_YORK, BERLIN = (40.75, -73.99), (52.52, 13.40)


def local(rows: list[dict[str, Any]], time_zone: str | None = None) -> tuple[list[datetime], Counter[str]]:
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "time": pl.Datetime("us", "UTC"),
        "utc_offset_minutes": pl.Float64,
        "latitude": pl.Float64,
        "longitude": pl.Float64,
    }
    notes: Counter[str] = Counter()
    return local_times(pl.DataFrame(rows, schema=schema), time_zone=time_zone, notes=notes).to_list(), notes


NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
WINTER_NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def place(at: tuple[float, float]) -> dict[str, float]:
    return {"latitude": at[0], "longitude": at[1]}


def test_offset_wins_over_everything() -> None:
    times, notes = local([{"time": NOON, "utc_offset_minutes": -90.0, **place(BERLIN)}], "Asia/Tokyo")
    assert times == [datetime(2024, 7, 1, 10, 30)]
    assert not notes


def test_given_zone_wins_over_coordinates() -> None:
    times, _ = local([{"time": NOON, **place(BERLIN)}], "Asia/Tokyo")
    assert times == [datetime(2024, 7, 1, 21)]


def test_coordinates_show_zone_and_daylight_saving() -> None:
    rows: list[dict[str, Any]] = [
        {"time": time, **place(at)} for at in (NEW_YORK, BERLIN) for time in (NOON, WINTER_NOON)
    ]
    times, notes = local(rows)
    assert [time.hour for time in times] == [8, 7, 14, 13]
    assert not notes


def test_nothing_known_leaves_utc_and_counts() -> None:
    rows: list[dict[str, Any]] = [{"time": NOON}, {"time": NOON, "utc_offset_minutes": 60.0}, {"time": WINTER_NOON}]
    times, notes = local(rows)
    assert [time.hour for time in times] == [12, 13, 12]
    assert notes == {"local time unknown, UTC taken": 2}


def test_unknown_zone_is_named() -> None:
    with pytest.raises(ConfigError, match=says("histories.time_zone", "IANA", "'Mars/Olympus'")):
        local([{"time": NOON}], "Mars/Olympus")
