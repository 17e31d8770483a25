"""Numbers, clock forms, offsets and zones: each is read for what it is; ambiguous ones need a setting."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.errors import ConfigError, DataError
from whereupon.histories.times import read_times, suspicious, to_times
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]

NOON = datetime(2021, 5, 3, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cells", "time", "unit"),
    [
        (["1620043205"], NOON, "seconds"),
        (["1620043205.25"], NOON.replace(microsecond=250_000), "seconds"),
        (["1620043205000"], NOON, "milliseconds"),
        (["1620043205000000"], NOON, "microseconds"),
        (["1620043205000000000"], NOON, "nanoseconds"),
        (["20210503"], NOON.replace(hour=0, second=0), "YYYYMMDD"),
        (["202105031200"], NOON.replace(second=0), "YYYYMMDDHHMM"),
        (["20210503120005"], NOON, "YYYYMMDDHHMMSS"),
        (["44319.50005787"], NOON, "Excel"),
    ],
)
def test_number_is_the_time_whose_size_it_has_and_that_is_said(cells: list[str], time: datetime, unit: str) -> None:
    for column in (pl.Series(cells), pl.Series([float(cells[0])])):
        found = read_times(column)
        assert found.time.to_list() == [time]
        assert unit in found.remarks[0]
        assert not found.problem


@pytest.mark.parametrize("cells", [["12", "13"], ["1999", "2004"], ["0503", "0504"], [7, 8]])
def test_day_index_year_and_part_of_a_date_are_refused(cells: list[Any]) -> None:
    found = read_times(pl.Series(cells))
    assert found.time.null_count() == 2
    assert str(int(cells[0])) in found.problem
    assert "time_format" in found.problem


def test_early_numbers_count_in_the_unit_of_the_others() -> None:
    cells = pl.Series(["0", "-86400000", "1620043205000", "1620043205000"])
    assert to_times(cells).to_list() == [
        datetime(1970, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), NOON, NOON,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "time", "offset", "zone"),
    [
        ("03.05.2021 12:00:05", NOON, None, None),
        ("3.5.21 12:00", NOON.replace(second=0), None, None),
        ("2021/05/03 12:00:05", NOON, None, None),
        ("2021-5-3 12:0:5", NOON, None, None),
        ("2021-05-03 12:00:05,250", NOON.replace(microsecond=250_000), None, None),
        ("2021-05-03\u00a012:00:05", NOON, None, None),
        ("20210503T120005Z", NOON, None, None),
        ("3 May 2021, 12:00", NOON.replace(second=0), None, None),
        ("May 3, 2021 12:00:05 PM", NOON, None, None),
        ("Mon, 03 May 2021 12:00:05 +0000", NOON, None, None),
        ("Mon May 03 12:00:05 +0000 2021", NOON, None, None),
        ("2021-05-03 12:00:05 UTC", NOON, None, None),
        ("2021-05-03 12:00:05 +0000 UTC", NOON, None, None),
        ("03/May/2021:14:00:05 +0200", NOON, 120.0, None),
        ("2021-05-03 08:00:05 EDT", NOON, -240.0, None),
        ("2021-05-03T14:00:05+02:00[Europe/Paris]", NOON, 120.0, "Europe/Paris"),
        ("2021-05-03 12:00:05 Europe/Paris", NOON, None, "Europe/Paris"),
        ("2021-05-02T36:00:05", NOON, None, None),
        ("2021-05-03T12:00:04.9999999Z", NOON.replace(second=4, microsecond=999_999), None, None),
    ],
)
def test_common_form_is_read(text: str, time: datetime, offset: float | None, zone: str | None) -> None:
    found = read_times(pl.Series([text]))
    assert (found.time[0], found.offset_minutes[0], found.zone[0]) == (time, offset, zone)


def test_hour_24_and_leap_second_are_the_next_day() -> None:
    cells = pl.Series(["2021-05-02T24:00:00Z", "2021-05-02T23:59:60Z"])
    assert to_times(cells).to_list() == [datetime(2021, 5, 3, tzinfo=UTC)] * 2


@pytest.mark.parametrize(
    "wrong", ["2021-05-03 12:61", "2021-05-03 49:00", "2021-05-03 13:00 PM", "31.04.2021", "x/y/z"]
)
def test_impossible_clock_or_day_is_no_time(wrong: str) -> None:
    assert to_times(pl.Series([wrong, "2021-05-03T12:00:05Z"])).to_list() == [None, NOON]


def test_month_first_or_day_first_follows_from_other_rows_or_is_requested() -> None:
    assert to_times(pl.Series(["3/5/2021 12:00", "3/25/2021 1:00 PM"])).dt.month().to_list() == [3, 3]
    assert to_times(pl.Series(["3/5/2021 12:00", "25/3/2021 13:00"])).dt.month().to_list() == [5, 3]
    for cells in (["3/5/2021", "4/5/2021"], ["13/5/2021", "5/13/2021"]):
        assert "time_format" in read_times(pl.Series(cells)).problem


def test_refusals_name_the_file(write: Write, run_prepare: Prepare) -> None:
    for cell in ("3/5/2021", "2004"):
        events = write("log.csv", f"user_id,item_id,time\nann,a,{cell}\nbob,b,{cell}")
        with pytest.raises(DataError, match=says("log.csv", cell, "time_format")):
            run_prepare(events={"path": events})


def test_format_that_fits_no_cell_is_named_with_the_cell(write: Write, run_prepare: Prepare) -> None:
    events = write("log.csv", "user_id,item_id,time\nann,a,2021-05-03")
    with pytest.raises(DataError, match=says("log.csv", "time_format", "%d.%m.%Y", "2021-05-03")):
        run_prepare(events={"path": events, "time_format": "%d.%m.%Y"})


@pytest.mark.parametrize(
    ("cell", "time_format", "time"),
    [
        ("2021-05-03 12:00:05.123456", "%Y-%m-%d %H:%M:%S.%f", NOON.replace(microsecond=123_456)),
        ("2021-05-03 12:00:05,5", "%Y-%m-%d %H:%M:%S,%f", NOON.replace(microsecond=500_000)),
        ("03.05.21 12:00", "%d.%m.%y %H:%M", NOON.replace(second=0)),
        ("5/3/2021 1:00:05 pm", "%m/%d/%Y %I:%M:%S %p", NOON.replace(hour=13)),
        ("2021-05-03 08:00:05 EDT", "%Y-%m-%d %H:%M:%S %Z", NOON),
        ("202105031200", "%Y%m%d%H%M", NOON.replace(second=0)),
        ("1620043205000", "%s", None),
    ],
)
def test_given_format_means_what_it_means_in_python(cell: str, time_format: str, time: datetime | None) -> None:
    assert to_times(pl.Series([cell]), time_format).to_list() == [time]


def test_format_applies_to_whole_numbers_of_parquet() -> None:
    assert to_times(pl.Series([20210503]), "%Y%m%d").to_list() == [datetime(2021, 5, 3, tzinfo=UTC)]


def test_am_and_pm_beside_a_24_hour_clock_are_distinguished() -> None:
    with pytest.raises(ConfigError, match=says("time_format", "%p", "%I")):
        to_times(pl.Series(["03/05/2021 01:00 PM"]), "%d/%m/%Y %H:%M %p")


def test_offset_zero_is_a_clock_only_beside_other_offsets() -> None:
    assert read_times(pl.Series(["2021-05-03T12:00+00:00", "2021-05-03T12:00Z"])).offset_minutes.null_count() == 2
    both = read_times(pl.Series(["2021-01-03T12:00+00:00", "2021-05-03T12:00+01:00"]))
    assert both.offset_minutes.to_list() == [0.0, 60.0]


def test_dates_and_columns_of_midnights_have_no_hour() -> None:
    assert read_times(pl.Series(["2021-05-03", "2021-05-03T12:00"])).hour_known.to_list() == [False, True]
    midnights = [f"2021-05-{day:02} 00:00:00" for day in range(1, 13)]
    found = read_times(pl.Series(midnights))
    assert not found.hour_known.any()
    assert "midnight" in found.remarks[0]
    assert read_times(pl.Series([*midnights, "2021-05-13 00:01:00"])).hour_known.all()


def test_zone_of_a_typed_column_is_known_unless_it_is_utc() -> None:
    aware = pl.Series([NOON]).cast(pl.Datetime("us", "UTC"))
    assert read_times(aware.dt.convert_time_zone("Asia/Tokyo")).zone.to_list() == ["Asia/Tokyo"]
    assert read_times(aware).zone.to_list() == [None]


MARKS = ["0001-01-01T00:00:00Z", "1900-01-01", "1970-01-01T00:00:00Z", "2099-12-31", "9999-12-31T23:59:59Z"]


def test_dates_that_mean_none_are_suspicious() -> None:
    times = to_times(pl.Series([*MARKS, "1998-03-04", "2021-05-03"])).to_frame("time")
    assert times.select(suspicious(pl.col("time"))).to_series().to_list() == [True] * 5 + [False] * 2


@pytest.mark.parametrize("time_zone", [None, "America/New_York", "Asia/Tokyo"])
def test_sentinel_dates_are_counted_and_break_nothing(
    write: Write, run_prepare: Prepare, time_zone: str | None
) -> None:
    rows = [f"ann,a{at},{mark}" for at, mark in enumerate((*MARKS, "0"))]
    rows += [f"ann,b,2021-05-{day:02}T12:00Z" for day in range(1, 9)] + ["ann,c,-70000000000", "ann,d,0000-00-00"]
    events = write("log.csv", "\n".join(["user_id,item_id,time", *rows]))
    items = write("i.csv", "item_id,available_from\nb,9999-12-31\n" + "\n".join(f"a{n},0001-01-01" for n in range(6)))
    report, histories = run_prepare(events={"path": events}, items={"path": items}, time_zone=time_zone)
    assert histories.events.height == 14
    assert sum(num for note, num in report.manifest["notes"].items() if "1970-01-01" in note) == 6
    assert sum(num for note, num in report.manifest["notes"].items() if "0001-01-01" in note) == 7
    assert report.manifest["rejects"] == {"log.csv: unparsable time": 2}
    assert min(histories.events["local_time"].to_list()).year == 1  # none left the calendar
