"""Each bad row is rejected with its reason and row; what is repaired is counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.errors import ConfigError, DataError
from whereupon.histories.events import copies
from whereupon.histories.reading import ROW
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]

BAD_EVENTS = """user_id,item_id,time,latitude,longitude,utc_offset_minutes
    ann,park,2024-01-01T08:00:00Z,40.7,-74.0,-300
    ,park,2024-01-01T09:00:00Z,40.7,-74.0,-300
    ann,,2024-01-01T10:00:00Z,40.7,-74.0,-300
    ann,park,noon,40.7,-74.0,-300
    ann,park,2024-01-01T11:00:00Z,91,-74.0,-300
    ann,park,2024-01-01T12:00:00Z,40.7,-180.5,-300
    ann,park,2024-01-01T13:00:00Z,40.7,,-300
    ann,park,2024-01-01T14:00:00Z,,,-300
    ann,moon,2024-01-01T15:00:00Z,40.7,-74.0,-300
    ann,park,2024-01-01T08:00:00Z,40.7,-74.0,-300
    ann,park,2024-01-01T16:00:00Z,40.7,-74.0,EST
    ann,park,2024-01-01T17:00:00Z,40.7,-74.0,"""
REJECTED = [
    (2, "missing user", "user_id is empty"),
    (3, "missing item", "item_id is empty"),
    (4, "unparsable time", "noon"),
    (5, "coordinates out of range", "91, -74.0"),
    (6, "coordinates out of range", "40.7, -180.5"),
    (7, "coordinates out of range", "40.7, "),
    (9, "unknown item", "moon"),
    (10, "duplicate", "ann, park, 2024-01-01T08:00:00Z"),
    (11, "bad UTC offset", "EST"),
]


def test_each_bad_row_is_rejected_with_reason_and_row(write: Write, run_prepare: Prepare, tmp_path: Path) -> None:
    events = write("events.csv", BAD_EVENTS)
    items = write("items.csv", "item_id,title\npark,Park\ncinema,Cinema")
    report, histories = run_prepare(events={"path": events}, items={"path": items})
    rejects = pl.read_parquet(tmp_path / "run" / "histories" / "rejects.parquet")
    assert rejects.rows() == [("events.csv", *rejected) for rejected in REJECTED]
    assert histories.events["time"].dt.hour().to_list() == [8, 14, 17]
    assert report.manifest["rejects"]["events.csv: coordinates out of range"] == 3
    assert sum(report.manifest["rejects"].values()) == len(REJECTED)
    assert ("rejected, events.csv: unknown item", 1, "row 9: moon") in report.steps()
    assert ("rejected, events.csv: coordinates out of range", 3, "row 5: 91, -74.0") in report.steps()


def test_file_without_a_usable_row_names_the_first_reason(write: Write, run_prepare: Prepare) -> None:
    events = write("events.csv", "user_id,item_id,time\nann,park,soon\nann,park,later")
    with pytest.raises(DataError, match=says("events.csv", "rejected", "row 1", "unparsable time", "soon")):
        run_prepare(events={"path": events})


def test_items_without_a_table_come_from_the_events(visits: Path, run_prepare: Prepare) -> None:
    _, histories = run_prepare(events={"path": visits})
    assert histories.items.rows() == [("park", "park"), ("cinema", "cinema")]


def test_items_that_no_user_visited_stay(visits: Path, write: Write, run_prepare: Prepare) -> None:
    items = write("items.csv", "item_id,title\nzoo,Zoo\ncinema,Cinema\npark,Park\npark,Second Park\n,Nowhere")
    report, histories = run_prepare(events={"path": visits}, items={"path": items})
    assert histories.items["title"].to_list() == ["Zoo", "Cinema", "Park"]
    assert histories.events["item_idx"].to_list() == [2, 1, 2, 1]
    assert report.manifest["rejects"] == {"items.csv: missing item": 1, "items.csv: repeated item": 1}


def test_item_keeps_its_place_in_the_catalogue_without_a_place_on_earth(
    visits: Path, write: Write, run_prepare: Prepare
) -> None:
    items = write("items.csv", "item_id,latitude,longitude\ncinema,95,0\npark,40.5,-74")
    _, histories = run_prepare(events={"path": visits}, items={"path": items})
    assert histories.items["latitude"].to_list() == [None, 40.5]
    assert histories.events["latitude"].to_list() == [40.5, None, 40.5, None]  # those of the item, as events have none


def test_times_without_offset_are_counted(write: Write, run_prepare: Prepare) -> None:
    events = write("events.csv", "user_id,item_id,time\nann,park,2024-01-01 08:00\nann,park,2024-01-02T08:00Z")
    report, _ = run_prepare(events={"path": events}, time_zone="Europe/Berlin")
    assert report.manifest["notes"]["times without an offset read as local time"] == 1
    report, _ = run_prepare(events={"path": events})
    assert report.manifest["notes"]["times without an offset read as UTC"] == 1


def test_parquet_events_with_numeric_ids_equal_their_csv(visits: Path, run_prepare: Prepare, tmp_path: Path) -> None:
    typed = pl.read_csv(visits, try_parse_dates=True)
    typed.write_parquet(tmp_path / "visits.parquet")
    _, from_csv = run_prepare(events={"path": visits})
    _, from_parquet = run_prepare(events={"path": tmp_path / "visits.parquet"})
    assert from_parquet.events.equals(from_csv.events)
    numbered = typed.with_columns(user_id=pl.Series([2, 1, 1, 2]), latitude=pl.lit(float("nan")), longitude=pl.lit(0.0))
    numbered.write_parquet(tmp_path / "visits.parquet")
    with pytest.raises(DataError, match="coordinates out of range"):
        run_prepare(events={"path": tmp_path / "visits.parquet"})
    numbered.with_columns(longitude=pl.lit(float("nan"))).write_parquet(tmp_path / "visits.parquet")
    _, histories = run_prepare(events={"path": tmp_path / "visits.parquet"})
    assert histories.user_ids == ["1", "2"]


def test_context_columns_keep_their_name_and_kind(write: Write, run_prepare: Prepare) -> None:
    text = (
        "user_id,item_id,time,mood,temperature_c\nann,park,2024-01-01T08:00Z, glad ,3.5\nann,park,2024-01-02T08:00Z,,x"
    )
    events = write("events.csv", text)
    _, histories = run_prepare(events={"path": events}, context_columns=["mood", "temperature_c"])
    assert histories.events["mood"].to_list() == ["glad", None]
    assert histories.events["temperature_c"].to_list() == [3.5, None]


@pytest.mark.parametrize("name", ["split", "user_id", "local_time", "_row"])
def test_context_column_with_a_reserved_name_is_refused(visits: Path, run_prepare: Prepare, name: str) -> None:
    with pytest.raises(ConfigError, match=says("context_columns", f"'{name}'")):
        run_prepare(events={"path": visits}, context_columns=[name])


def test_missing_context_column_is_named(visits: Path, run_prepare: Prepare) -> None:
    with pytest.raises(DataError, match=says("visits.csv", "'mood'", "user_id")):
        run_prepare(events={"path": visits}, context_columns=["mood"])


def test_latitude_alone_is_reported(write: Write, run_prepare: Prepare) -> None:
    events = write("events.csv", "user_id,item_id,time,latitude\nann,park,2024-01-01T08:00Z,40")
    with pytest.raises(DataError, match=says("events.csv", "latitude", "longitude", "neither")):
        run_prepare(events={"path": events})


def test_what_happened_and_how_much_are_kept(write: Write, run_prepare: Prepare) -> None:
    rows = "ann,park,2024-01-01T08:00Z,visit,4.5\nann,zoo,2024-01-02T08:00Z,,many\nann,park,2024-01-03T08:00Z, buy ,"
    events = write("e.csv", f"user_id,item_id,time,event,stars\n{rows}")
    report, histories = run_prepare(events={"path": events, "columns": {"value": "stars"}})
    assert histories.events.select("event", "value").rows() == [("visit", 4.5), (None, None), ("buy", None)]
    assert report.manifest["notes"]["e.csv, value: cells that are no number, left empty"] == 1


def test_value_named_as_context_stays_as_it_is(write: Write, run_prepare: Prepare) -> None:
    events = write("e.csv", "user_id,item_id,time,value\nann,park,2024-01-01T08:00Z,high")
    _, histories = run_prepare(events={"path": events}, context_columns=["value"])
    assert histories.events["value"].to_list() == ["high"]


def test_items_are_available_from_their_time_or_from_their_first_event(write: Write, run_prepare: Prepare) -> None:
    header = "item_id,available_from"
    items = write("i.csv", f"{header}\npark,2024-01-01\nzoo,2025-01-01T00:00Z\nbar,soon\ncafe,\npub,2026-01-01")
    rows = "ann,zoo,2024-01-05T08:00Z\nann,park,2024-01-02T08:00Z\nbob,zoo,2024-01-03T08:00Z"
    events = write("e.csv", f"user_id,item_id,time\n{rows}")
    report, histories = run_prepare(events={"path": events}, items={"path": items})
    assert histories.items["available_from"].dt.strftime("%F %R").to_list() == [
        "2024-01-01 00:00", "2024-01-03 08:00", None, None, "2026-01-01 00:00",
    ]  # fmt: skip
    assert histories.items.schema["available_from"] == pl.Datetime("us", "UTC")
    notes = report.manifest["notes"]
    assert notes["items whose available_from cannot be read, taken as always known"] == 1
    assert notes["items with an event before their available_from, which is moved there"] == 1


def test_copies_by_hash_are_those_of_a_comparison_of_rows() -> None:
    rng = np.random.default_rng(4)
    events = pl.DataFrame(
        {
            ROW: range(200),
            "user_id": rng.integers(0, 3, 200).astype(str),
            "latitude": [None if x == 0 else x / 2 for x in rng.integers(0, 4, 200)],
            "hour_known": rng.random(200) < 0.5,
        }
    )
    seen = set[tuple[object, ...]]()
    expected = []
    for row in events.drop(ROW).iter_rows():
        expected.append(row in seen)
        seen.add(row)
    assert copies(events).to_list() == expected
    assert not copies(events.unique(events.columns[1:])).any()
