"""What the clock on the wall said: times without an offset, offsets and zones of events, days without an hour."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whereupon.errors import ConfigError
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]

CHICAGO = (41.88, -87.63)


def clocks(histories: Any) -> list[tuple[str, str]]:
    events = histories.events
    return [(f"{local:%a %H:%M}", f"{utc:%H:%M}") for local, utc in events.select("local_time", "time").iter_rows()]


def trips(write: Write, *times: str, columns: str = "", cells: str = "") -> Path:
    rows = [f"ann,i{at},{time}{cells}" for at, time in enumerate(times)]
    return write("trips.csv", "\n".join([f"user_id,item_id,time{columns}", *rows]))


def test_time_without_offset_is_local_by_zone_or_coordinates(write: Write, run_prepare: Prepare) -> None:
    events = trips(write, "2019-07-01 08:30", columns=",latitude,longitude", cells=f",{CHICAGO[0]},{CHICAGO[1]}")
    report, histories = run_prepare(events={"path": events})
    assert clocks(histories) == [("Mon 08:30", "13:30")]
    assert any("Mon 2019-07-01 08:30 America/Chicago" in line and "13:30 UTC" in line for line in report.lines())
    _, histories = run_prepare(events={"path": events}, time_zone="Europe/Berlin")
    assert clocks(histories) == [("Mon 08:30", "06:30")]


def test_time_without_offset_is_utc_where_it_is_said(write: Write, run_prepare: Prepare) -> None:
    events = trips(write, "2019-07-01 08:30")
    _, histories = run_prepare(events={"path": events, "times": "utc"}, time_zone="America/Chicago")
    assert clocks(histories) == [("Mon 03:30", "08:30")]
    named = write("n.csv", "user_id,item_id,start_utc\nann,a,2019-07-01 08:30")
    settings = {"events": {"path": named, "columns": {"time": "start_utc"}}, "time_zone": "America/Chicago"}
    assert clocks(run_prepare(**settings)[1]) == [("Mon 03:30", "08:30")]


def test_place_of_the_item_says_whose_clock_it_was(write: Write, run_prepare: Prepare) -> None:
    items = write("i.csv", f"item_id,latitude,longitude\ni0,{CHICAGO[0]},{CHICAGO[1]}")
    _, histories = run_prepare(events={"path": trips(write, "2019-07-01 08:30")}, items={"path": items})
    assert clocks(histories) == [("Mon 08:30", "13:30")]


def test_offset_in_the_cell_is_the_clock(write: Write, run_prepare: Prepare) -> None:
    events = trips(write, "2019-07-01T08:30:00-05:00", columns=",latitude,longitude", cells=",52.5,13.4")
    assert clocks(run_prepare(events={"path": events})[1]) == [("Mon 08:30", "13:30")]


@pytest.mark.parametrize(
    ("cell", "said"), [("-5", "hours"), ("-300", ""), ("-3e2", ""), ("-18000", "seconds"), ("-05:00", "")]
)
def test_offset_is_understood_by_its_size(write: Write, run_prepare: Prepare, cell: str, said: str) -> None:
    events = trips(write, "2019-07-01T13:30:00Z", columns=",utc_offset_minutes", cells=f",{cell}")
    report, histories = run_prepare(events={"path": events})
    assert clocks(histories) == [("Mon 08:30", "13:30")]
    assert any("read as " + said in remark for remark in report.manifest["remarks"] if "offsets" in remark) == bool(
        said
    )


def test_zone_of_a_column_goes_before_that_of_the_settings(write: Write, run_prepare: Prepare) -> None:
    rows = "ann,a,2019-07-01T13:30Z,America/Chicago\nann,b,2019-07-02T13:30Z,Mars/Olympus\nann,c,2019-07-03T13:30Z,NA"
    events = write("e.csv", f"user_id,item_id,time,tz\n{rows}")
    report, histories = run_prepare(events={"path": events, "columns": {"time_zone": "tz"}}, time_zone="Europe/Berlin")
    assert [local for local, _ in clocks(histories)] == ["Mon 08:30", "Tue 15:30", "Wed 15:30"]
    assert sum(num for note, num in report.manifest["notes"].items() if "IANA" in note) == 1


def test_unknown_zone_of_the_settings_is_refused(write: Write, run_prepare: Prepare) -> None:
    with pytest.raises(ConfigError, match=says("time_zone", "Mars/Olympus")):
        run_prepare(events={"path": trips(write, "2019-07-01 08:30")}, time_zone="Mars/Olympus")


def test_hours_that_clocks_show_twice_or_not_at_all_are_counted(write: Write, run_prepare: Prepare) -> None:
    events = trips(write, "2019-03-10 02:30", "2019-11-03 01:30")
    report, histories = run_prepare(events={"path": events}, time_zone="America/Chicago")
    assert [utc for _, utc in clocks(histories)] == ["08:30", "06:30"]
    assert sum(num for note, num in report.manifest["notes"].items() if "spring" in note or "autumn" in note) == 2


@pytest.mark.parametrize("times", [None, "utc", "local"])
@pytest.mark.parametrize("time_zone", [None, "America/Chicago"])
def test_day_stays_its_day_and_has_no_hour(
    write: Write, run_prepare: Prepare, times: str | None, time_zone: str | None
) -> None:
    events = trips(write, "2019-07-01", "2019-07-02")
    report, histories = run_prepare(events={"path": events, "times": times}, time_zone=time_zone)
    assert [local[:3] for local, _ in clocks(histories)] == ["Mon", "Tue"]
    assert histories.events["hour_known"].to_list() == [False, False]
    assert sum(num for note, num in report.manifest["notes"].items() if "hour is not known" in note) == 2


def test_known_hours_need_no_column(write: Write, run_prepare: Prepare) -> None:
    _, histories = run_prepare(events={"path": trips(write, "2019-07-01T08:30Z")})
    assert "hour_known" not in histories.events.columns
