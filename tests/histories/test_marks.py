"""Ids, marks for missing values, coordinates that are none, copies, and what nothing evaluates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.errors import DataError
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]


def counted(report: Any, *words: str) -> int:
    return sum(num for note, num in report.manifest["notes"].items() if all(word in note for word in words))


def log(write: Write, *rows: str, columns: str = "") -> Path:
    """Events of a user, an item and further cells each, a day apart."""
    cells = [row.split(",") for row in rows]
    stamped = [[*row[:2], f"2020-02-{at:02}T10:00Z", *row[2:]] for at, row in enumerate(cells, 1)]
    return write("log.csv", "\n".join([f"user_id,item_id,time{columns}", *map(",".join, stamped)]))


def test_whole_numbers_with_and_without_fraction_are_one_id(write: Write, run_prepare: Prepare) -> None:
    report, histories = run_prepare(events={"path": log(write, "7,12.0", "7.0,12", "7,13.0", "8,x")})
    assert histories.user_ids == ["7", "8"]
    assert histories.items["item_id"].to_list() == ["12", "13", "x"]
    assert counted(report, "log.csv, user_id", "12.0") == 1
    assert counted(report, "log.csv, item_id", "12.0") == 2


def test_whole_numbers_of_items_and_floats_of_events_meet(write: Write, run_prepare: Prepare) -> None:
    items = write("i.csv", "item_id,title\n12,Twelve\n13,Thirteen")
    _, histories = run_prepare(events={"path": log(write, "a,12.0", "a,13.0")}, items={"path": items})
    assert histories.items["title"].to_list() == ["Twelve", "Thirteen"]
    assert histories.events.height == 2


def test_ids_with_true_fractions_stay(write: Write, run_prepare: Prepare) -> None:
    _, histories = run_prepare(events={"path": log(write, "a,1.0", "a,1.5", "a,2.0")})
    assert histories.items["item_id"].to_list() == ["1.0", "1.5", "2.0"]


def test_marks_for_missing_are_no_ids(write: Write, run_prepare: Prepare) -> None:
    marks = ["nan", "None", "NULL", r"\N", "<NA>", " "]
    rows = [f"{mark},a" for mark in marks] + [f"ann,{mark}" for mark in marks] + ["ann,a", "NA,a"]
    report, histories = run_prepare(events={"path": log(write, *rows)})
    assert histories.user_ids == ["NA", "ann"]  # a code of its own: Namibia, North America
    assert report.manifest["rejects"] == {"log.csv: missing user": 6, "log.csv: missing item": 6}


def test_ids_that_a_spreadsheet_rounded_are_counted(write: Write, run_prepare: Prepare) -> None:
    report, _ = run_prepare(events={"path": log(write, "a,9.31245E+15", "a,9.31246E+15", "a,5E1x")})
    assert counted(report, "item_id", "rounded") == 2


def test_ids_of_other_unicode_forms_are_one(write: Write, run_prepare: Prepare) -> None:
    items = write("i.csv", "item_id,title\nna\u00efve,Book")
    _, histories = run_prepare(events={"path": log(write, "a,nai\u0308ve", "a,na\u00efve")}, items={"path": items})
    assert histories.events["item_id"].to_list() == ["na\u00efve"] * 2


@pytest.mark.parametrize("mark", ["NA", "-", r"\N", "None", "nan", "NULL", '""', "", "n/a", "?", "#N/A"])
def test_event_stays_where_an_optional_cell_is_marked_missing(write: Write, run_prepare: Prepare, mark: str) -> None:
    columns = ",latitude,longitude,utc_offset_minutes,value,mood"
    rows = [f"a,x,{mark},{mark},60,4,glad", f"a,y,48.1,11.6,{mark},{mark},{mark}"]
    path = log(write, *rows, columns=columns)
    report, histories = run_prepare(events={"path": path}, context_columns=["mood"])
    assert not report.manifest["rejects"]
    found = histories.events.select("latitude", "longitude", "value").rows()
    assert found == [(None, None, 4.0), (48.1, 11.6, None)]
    assert not counted(report, "no number")


def test_marks_in_items_are_missing_and_counted_by_column(write: Write, run_prepare: Prepare) -> None:
    items = write("i.csv", "item_id,title,latitude,longitude,kind\nx,NA,NA,NA,NULL\ny,Bar,48.1,east,pub")
    report, histories = run_prepare(events={"path": log(write, "a,x", "a,y")}, items={"path": items})
    assert histories.items["title"].to_list() == ["x", "Bar"]
    assert histories.items["kind"].to_list() == [None, "pub"]
    assert counted(report, "i.csv, title", "NA") == 1
    assert counted(report, "i.csv, longitude", "no number") == 1


PLACES = ",latitude,longitude"
BERNE = ["46.9,7.4", "46.95,7.45", "47.0,7.5", "46.8,7.6"]


def test_null_island_is_missing_where_the_others_are_elsewhere(write: Write, run_prepare: Prepare) -> None:
    rows = [f"a,i{at},{pair}" for at, pair in enumerate([*BERNE, "0,0", "0.0,0.0"])]
    report, histories = run_prepare(events={"path": log(write, *rows, columns=PLACES)})
    assert histories.events["latitude"].null_count() == 2
    assert counted(report, "log.csv", "0, 0") == 2
    near = [f"a,i{at},{pair}" for at, pair in enumerate(["0,0", "0.5,1", "1,0.5"])]
    report, histories = run_prepare(events={"path": log(write, *near, columns=PLACES)})
    assert histories.events["latitude"].to_list() == [0, 0.5, 1]


@pytest.mark.parametrize(
    "pairs", [[*BERNE, "7.4,46.9"], ["-71.1,42.3", "-71.2,42.4"], ["52.2,-106.7", "52.1,-106.6", "-106.7,52.2"]]
)
def test_exchanged_pairs_are_counted_and_put_back_on_request(
    write: Write, run_prepare: Prepare, pairs: list[str]
) -> None:
    path = log(write, *(f"a,i{at},{pair}" for at, pair in enumerate(pairs)), columns=PLACES)
    swapped = {"path": path, "coordinates": "swap_back"}
    report, _ = run_prepare(events={"path": path})
    number = counted(report, "log.csv", "exchanged", "swap_back")
    assert number == (2 if len(pairs) == 2 else 1)
    report, histories = run_prepare(events=swapped)
    assert counted(report, "put back") == number
    assert histories.events.height == len(pairs)
    assert histories.events["latitude"].is_between(40, 60).all()


def test_degrees_times_ten_million_are_requested(write: Write, run_prepare: Prepare) -> None:
    path = log(write, "a,x,469000000,74000000", "a,y,469500000,74500000", columns=PLACES)
    with pytest.raises(DataError, match=says("log.csv", "469000000", "histories.events.coordinates", "e7")):
        run_prepare(events={"path": path})
    _, histories = run_prepare(events={"path": path, "coordinates": "e7"})
    for name, expected in (("latitude", [46.9, 46.95]), ("longitude", [7.4, 7.45])):
        assert histories.events[name].to_list() == pytest.approx(expected)


def test_copies_are_found_behind_an_index_and_other_spellings(write: Write, run_prepare: Prepare) -> None:
    rows = "0,a,x,2020-02-01T10:00Z,5\n1, a ,x,2020-02-01 10:00:00Z,5.0\n2,a,x,2020-02-01T10:00Z,4\n3,a,x,1580551200,5"
    events = write("e.csv", f"n,user_id,item_id,time,value\n{rows}")
    report, histories = run_prepare(events={"path": events})
    assert report.manifest["rejects"] == {"e.csv: duplicate": 2}
    assert histories.events["value"].to_list() == [5.0, 4.0]


def test_leave_one_out_trains_on_people_with_one_event(write: Write, run_prepare: Prepare) -> None:
    path = log(write, "one,x", "two,x", "two,y", "three,x", "three,y", "three,z")
    report, histories = run_prepare(events={"path": path}, split={"protocol": "leave_one_out"})
    splits = dict(histories.events.group_by("user_id", maintain_order=True).agg("split").rows())
    assert splits == {"one": ["train"], "two": ["train", "test"], "three": ["train", "valid", "test"]}
    assert not counted(report, "not evaluated")


def test_first_events_that_nothing_predicts_are_counted(write: Write, run_prepare: Prepare) -> None:
    report, _ = run_prepare(events={"path": log(write, *(f"p{at},x" for at in range(10)))})
    assert counted(report, "test events", "not evaluated") == 2
    assert counted(report, "valid events", "not evaluated") == 1


def test_numeric_ids_of_parquet_need_no_telling(run_prepare: Prepare, tmp_path: Path) -> None:
    table = pl.DataFrame({"user_id": [1.0, 2.0], "item_id": [5, 6], "time": ["2020-02-01T10:00Z"] * 2})
    table.write_parquet(tmp_path / "e.parquet")
    _, histories = run_prepare(events={"path": tmp_path / "e.parquet"})
    assert histories.user_ids == ["1", "2"]
