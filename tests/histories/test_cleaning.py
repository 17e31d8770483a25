"""Declared cleaning: what each setting rejects, and where too much is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.errors import DataError
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]


def _rejected(tmp_path: Path) -> list[tuple[int, str]]:
    table = pl.read_parquet(tmp_path / "run" / "histories" / "rejects.parquet")
    return table.select("row", "reason").rows()


def _days(user: str, num: int) -> str:
    return "\n".join(f"{user},i{day},2024-01-{day + 1:02}T12:00Z" for day in range(num))


def test_nothing_is_rejected_unless_it_is_declared(write: Write, run_prepare: Prepare) -> None:
    events = write("e.csv", "user_id,item_id,time\nann,park,2024-01-01T08:00:00Z\nann,park,2024-01-01T08:00:01Z")
    assert run_prepare(events={"path": events})[1].events.height == 2


def test_same_item_within_the_window_is_rejected_and_another_item_is_not(
    write: Write, run_prepare: Prepare, tmp_path: Path
) -> None:
    rows = ["ann,park,08:01:00", "ann,park,08:00:00", "ann,bar,08:00:30", "bob,park,08:00:30", "ann,park,08:02:01"]
    lines = [f"{row.rpartition(',')[0]},2024-01-01T{row.rpartition(',')[2]}Z" for row in rows]
    events = write("e.csv", "\n".join(["user_id,item_id,time", *lines]))
    run_prepare(events={"path": events}, clean={"same_within_s": 60})
    assert _rejected(tmp_path) == [(1, "same item within 60 s")]


def test_place_that_cannot_be_reached_is_rejected_and_the_way_back_is_not(
    write: Write, run_prepare: Prepare, tmp_path: Path
) -> None:
    rows = [
        "ann,a,2024-01-01T08:00Z,40.7,-74.0",
        "ann,b,2024-01-01T09:00Z,51.5,-0.1",
        "ann,c,2024-01-01T10:00Z,40.8,-74.0",
    ]
    rows += ["bob,d,2024-01-01T08:30Z,51.5,-0.1", "ann,e,2024-01-02T10:00Z,51.5,-0.1"]
    events = write("e.csv", "\n".join(["user_id,item_id,time,latitude,longitude", *rows]))
    run_prepare(events={"path": events}, clean={"max_speed_kmh": 1000})
    assert _rejected(tmp_path) == [(2, "faster than 1000 km/h")]


def test_robots_and_rare_users_are_rejected(write: Write, run_prepare: Prepare, tmp_path: Path) -> None:
    robot = "\n".join(f"bot,i{number},2024-01-01T10:{number:02}Z" for number in range(4))
    events = write("e.csv", "\n".join(["user_id,item_id,time", _days("ann", 5), robot, _days("eve", 2)]))
    _, histories = run_prepare(events={"path": events}, clean={"max_events_per_day": 3, "min_user_events": 3})
    assert histories.user_ids == ["ann"]
    reasons = {row: reason for row, reason in _rejected(tmp_path)}
    assert sorted(reasons) == [6, 7, 8, 9, 10, 11]
    assert "robot" in reasons[6]
    assert "fewer than 3" in reasons[11]


def test_too_large_a_share_of_rejected_rows_is_refused_with_its_reasons(
    write: Write, run_prepare: Prepare, tmp_path: Path
) -> None:
    events = write("e.csv", "\n".join(["user_id,item_id,time", _days("ann", 8), ",park,2024-01-01", "bob,park,soon"]))
    with pytest.raises(DataError, match=says("15.0%", "2 of 10", "missing user 1", "unparsable time 1")):
        run_prepare(events={"path": events}, clean={"max_reject_share": 0.15})
    assert not (tmp_path / "run").exists()
    assert run_prepare(events={"path": events}, clean={"max_reject_share": 0.2})[1].events.height == 8


def test_cleaning_that_leaves_nothing_is_refused(write: Write, run_prepare: Prepare) -> None:
    events = write("e.csv", "\n".join(["user_id,item_id,time", _days("ann", 2)]))
    with pytest.raises(DataError, match=says("histories.clean", "2 events", "less strict")):
        run_prepare(events={"path": events}, clean={"min_user_events": 3})
