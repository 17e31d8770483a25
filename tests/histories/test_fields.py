"""Outliers and missing values of columns: what each setting does, its counts, and that no future value is used."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from whereupon.errors import ConfigError
from whereupon.histories.fields import statistics_before
from whereupon.histories.settings import CleanSettings, FieldSettings
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def _table(*cells: str, header: str = "heat", each_hours: int = 1) -> str:
    """A row an hour of one user, each with its cells behind user, item and time."""
    times = (BEGIN + timedelta(hours=each_hours * number) for number in range(len(cells)))
    rows = [
        f"ann,i{number},{time:%Y-%m-%dT%H:%MZ},{cell}"
        for number, (time, cell) in enumerate(zip(times, cells, strict=True))
    ]
    return "\n".join([f"user_id,item_id,time,{header}", *rows])


def _read(tmp_path: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(tmp_path / "run" / "histories" / f"{name}.parquet")


def _heat(run_prepare: Prepare, path: Path, **field: Any) -> tuple[Any, list[float | None]]:
    report, histories = run_prepare(events={"path": path}, context_columns=["heat"], clean={"fields": {"heat": field}})
    return report, histories.events["heat"].to_list()


def test_value_out_of_bounds_rejects_its_event_with_the_value(
    write: Write, run_prepare: Prepare, tmp_path: Path
) -> None:
    _, heat = _heat(run_prepare, write("e.csv", _table("5", "-300", "", "99")), min=-273.15, max=60)
    assert heat == [5.0, None]
    rows = _read(tmp_path, "rejects").select("row", "reason", "detail").rows()
    assert rows == [(2, "heat below -273.15", "heat is -300.0"), (4, "heat above 60", "heat is 99.0")]


def test_outlier_that_is_emptied_keeps_its_event_and_stands_in_changes(
    write: Write, run_prepare: Prepare, tmp_path: Path
) -> None:
    report, heat = _heat(run_prepare, write("e.csv", _table("5", "99", "7")), max=60, outliers="empty")
    assert heat == [5.0, None, 7.0]
    assert report.manifest["rejects"] == {}
    assert _read(tmp_path, "changes").rows() == [("e.csv", 2, "heat", "heat above 60", "99.0", None)]


@pytest.mark.parametrize("rule", [{"max_z": 4}, {"max_iqr": 3}])
def test_value_far_from_those_before_is_an_outlier_and_one_before_them_is_not(
    rule: dict[str, float], write: Write, run_prepare: Prepare, tmp_path: Path
) -> None:
    usual = [str(20 + number % 5) for number in range(40)]
    _heat(run_prepare, write("e.csv", _table("500", *usual, "900", "23")), **rule)
    assert _read(tmp_path, "rejects")["row"].to_list() == [42]  # the first has nothing before it to be far from


def test_impossible_values_are_no_part_of_the_statistics(write: Write, run_prepare: Prepare, tmp_path: Path) -> None:
    usual = [str(20 + number % 5) for number in range(40)]
    _heat(run_prepare, write("e.csv", _table(*["9999"] * 20, *usual, "60")), max=1000, max_z=4)
    assert _read(tmp_path, "rejects")["row"].to_list() == [*range(1, 21), 61]


def test_event_without_a_value_is_dropped(write: Write, run_prepare: Prepare, tmp_path: Path) -> None:
    report, heat = _heat(run_prepare, write("e.csv", _table("5", "NA", "7")), missing="drop")
    assert heat == ["5", "7"]  # a column without a rule of numbers stays text
    assert report.manifest["rejects"] == {"e.csv: missing heat": 1}


@pytest.mark.parametrize(("how", "filled"), [("mean", 4.0), ("median", 2.0)])
def test_missing_value_is_filled_from_the_events_before(
    how: str, filled: float, write: Write, run_prepare: Prepare, tmp_path: Path
) -> None:
    report, heat = _heat(run_prepare, write("e.csv", _table("", "1", "2", "9", "", "50")), missing=how)
    assert heat == [None, 1, 2, 9, filled, 50]
    assert _read(tmp_path, "changes").select("row", "before", "after").rows() == [(5, None, str(filled))]
    assert report.manifest["notes"]["e.csv, heat: no event before to fill the value from, left empty"] == 1


def test_later_events_change_no_filled_value_and_no_outlier(write: Write, run_prepare: Prepare, tmp_path: Path) -> None:
    """Values are replaced after each cut in turn; all that happens before it stays."""
    rng = np.random.default_rng(5)
    cells = ["" if rng.random() < 0.2 else f"{rng.normal(20, 3):.2f}" for _ in range(120)]
    cells[60] = "300"
    for how in ("mean", "median", "nearest"):
        field = {"max_z": 5, "max_iqr": 4, "outliers": "empty", "missing": how}
        _, before = _heat(run_prepare, write("e.csv", _table(*cells)), **field)
        assert before[60] != 300
        for cut in (40, 61, 100):
            others = [*cells[:cut], *("-1000" if cell else "" for cell in cells[cut:])]
            _, after = _heat(run_prepare, write("e.csv", _table(*others)), **field)
            assert after[:cut] == before[:cut]
            assert after[cut:] != before[cut:]


def test_events_of_the_same_time_fill_nothing_for_each_other(write: Write, run_prepare: Prepare) -> None:
    events = write("e.csv", _table("4", "", each_hours=0))
    assert _heat(run_prepare, events, missing="mean")[1] == [4.0, None]
    assert _heat(run_prepare, events, missing="nearest")[1] == ["4", None]


def test_nearest_value_is_that_of_the_smallest_square_and_not_too_old(write: Write, run_prepare: Prepare) -> None:
    header = "latitude,longitude,heat"
    rows = ["52.530,13.400,near", "52.550,13.440,district", "48.1,11.6,far", "52.530,13.400,", "35.7,139.7,"]
    events = write("e.csv", _table(*rows, header=header))
    field = {"missing": "nearest", "within_km": 20}
    settings: dict[str, Any] = {"events": {"path": events}, "context_columns": ["heat"], "location": "context"}
    _, histories = run_prepare(**settings, clean={"fields": {"heat": field}})
    assert histories.events["heat"].to_list() == ["near", "district", "far", "near", None]
    _, histories = run_prepare(**settings, clean={"fields": {"heat": {**field, "within_hours": 2.5}}})
    assert histories.events["heat"].to_list()[3] == "district"


def test_nearest_value_does_not_give_away_the_place_of_the_chosen_item(write: Write, run_prepare: Prepare) -> None:
    """Bob is known to be in Munich when he chooses a place in Berlin."""
    rows = ["ann,a,08:00,52.52,13.40,Berlin", "bob,b,08:30,48.1,11.6,Munich", "bob,c,09:00,52.52,13.40,"]
    rows = [f"{row[:6]}2024-01-01T{row[6:11]}Z{row[11:]}" for row in rows]
    events = write("e.csv", "\n".join(["user_id,item_id,time,latitude,longitude,heat", *rows]))
    settings: dict[str, Any] = {"context_columns": ["heat"], "clean": {"fields": {"heat": {"missing": "nearest"}}}}
    for location, found in (("outcome", "Munich"), ("context", "Berlin")):
        _, histories = run_prepare(events={"path": events}, location=location, **settings)
        assert histories.events.filter(item_id="c")["heat"].to_list() == [found]


def test_statistics_agree_with_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    seconds = rng.integers(0, 60, 200)
    x = [None if rng.random() < 0.3 else float(rng.normal()) for _ in seconds]
    times = pl.Series((seconds * 1_000_000).tolist()).cast(pl.Datetime("us", "UTC"))
    found = statistics_before(pl.DataFrame({"time": times, "x": x}), "x")
    order = sorted((second, number) for number, second in enumerate(seconds) if x[number] is not None)
    for second, row in zip(seconds, found.iter_rows(named=True), strict=True):
        earlier = [x[number] for when, number in order if when < second]
        if not earlier:
            assert row["count"] is None
            continue
        assert 0.94 * len(earlier) - 1 <= row["count"] <= len(earlier)
        used = earlier[: row["count"]]
        assert row["mean"] == pytest.approx(np.mean(used))
        assert [row[name] for name in ("low", "median", "high")] == pytest.approx(np.quantile(used, [0.25, 0.5, 0.75]))


def test_column_that_the_events_do_not_have_is_named(visits: Path, run_prepare: Prepare) -> None:
    with pytest.raises(ConfigError, match=says("histories.clean.fields", "'heat'", "context_columns")):
        run_prepare(events={"path": visits}, clean={"fields": {"heat": {"min": 0}}})


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValidationError, match=says("min (5) is above max (3)")):
        FieldSettings(min=5, max=3)
    with pytest.raises(ValidationError, match=says("fields.value.missing", "keep or drop")):
        CleanSettings(fields={"value": FieldSettings(missing="mean")})
