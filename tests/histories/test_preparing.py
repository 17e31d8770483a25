"""`prepare` as a whole: what it writes, what it keeps, and that it is all or nothing."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.catalogue import CatalogueSettings
from whereupon.errors import CatalogueError, DataError
from whereupon.histories import HistoriesSettings, catalogue_hash, prepare, read_histories
from whereupon.histories.settings import TableSettings
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]


def test_events_are_sorted_by_user_and_time_and_indexed(visits: Path, run_prepare: Prepare) -> None:
    report, histories = run_prepare(events={"path": visits}, split={"train": 0.5, "valid": 0.25})
    assert histories.events.select("user_id", "item_id", "user_idx", "item_idx", "split").rows() == [
        ("ann", "park", 0, 0, "train"),
        ("ann", "cinema", 0, 1, "train"),
        ("bob", "park", 1, 0, "valid"),
        ("bob", "cinema", 1, 1, "test"),
    ]
    assert histories.user_ids == ["ann", "bob"]
    assert histories.offset_U1.tolist() == [0, 2, 4]
    assert histories.split_N.tolist() == [0, 0, 1, 2]
    assert histories.time_s_N[0] == datetime(2024, 1, 1, 8, tzinfo=UTC).timestamp()
    assert [str(array.dtype) for array in (histories.offset_U1, histories.user_idx_N, histories.item_idx_N)] == [
        "int64",
        "int32",
        "int32",
    ]
    assert report.manifest["splits"]["valid"] == {
        "num_events": 1,
        "first_time": "2024-01-03T12:00:00Z",
        "last_time": "2024-01-03T12:00:00Z",
    }


def test_equal_times_keep_the_order_of_the_file(write: Write, run_prepare: Prepare) -> None:
    rows = [f"ann,{item},2024-01-01T08:00Z" for item in "dbca"]
    events = write("e.csv", "\n".join(["user_id,item_id,time", *rows]))
    _, histories = run_prepare(events={"path": events}, split={"train": 0.5, "valid": 0.25})
    assert histories.events["item_id"].to_list() == ["d", "b", "c", "a"]
    assert histories.split_N.tolist() == [0, 0, 1, 2]


def test_manifest_shows_what_the_data_was_made_from(visits: Path, run_prepare: Prepare, tmp_path: Path) -> None:
    report, histories = run_prepare(events={"path": visits})
    manifest = json.loads((tmp_path / "run" / "histories" / "manifest.json").read_text())
    assert manifest == histories.manifest == json.loads(json.dumps(report.manifest))
    assert len(manifest["inputs"]["visits.csv"]) == 64
    assert manifest["catalogue_hash"] == histories.catalogue_hash == catalogue_hash(histories.items)
    assert manifest["seed"] == 7
    assert manifest["versions"]["polars"] == pl.__version__
    assert {path.name for path in (tmp_path / "run" / "histories").iterdir()} == {
        "events.parquet",
        "items.parquet",
        "changes.parquet",
        "rejects.parquet",
        "manifest.json",
    }


def test_same_input_has_the_same_hashes_and_another_event_another(write: Write, run_prepare: Prepare) -> None:
    rows = "user_id,item_id,time\nann,park,2024-01-01T08:00Z\nann,cinema,2024-01-02T08:00Z\n"
    hashes = []
    for text in (rows, rows, f"{rows}ann,park,2024-01-03T08:00Z", f"{rows}ann,zoo,2024-01-03T08:00Z"):
        _, histories = run_prepare(events={"path": write("e.csv", text)})
        hashes.append((histories.data_hash, histories.catalogue_hash))
    assert hashes[0] == hashes[1]
    assert hashes[2][0] != hashes[1][0]
    assert hashes[2][1] == hashes[1][1]
    assert hashes[3][1] != hashes[2][1]


def test_added_item_renames_no_other(visits: Path, write: Write, run_prepare: Prepare) -> None:
    settings = {"events": {"path": visits}, "items": {"path": write("i.csv", "item_id,title\npark,Park\ncinema,Park")}}
    assert run_prepare(**settings)[1].items["title"].to_list() == ["Park", "Park 2"]
    write("i.csv", "item_id,title\nnew,Park\ncinema,Park\npark,Park")
    report, histories = run_prepare(**settings)
    assert dict(histories.items.select("item_id", "title").rows()) == {
        "new": "Park 3",
        "cinema": "Park 2",
        "park": "Park",
    }
    assert report.manifest["titles"]["kept"] == 2


def test_other_title_settings_start_afresh(visits: Path, write: Write, run_prepare: Prepare) -> None:
    items = write("i.csv", "item_id,title,town\npark,Park,Ulm\ncinema,Park,Bonn")
    settings = {"events": {"path": visits}, "items": {"path": items}}
    run_prepare(**settings)
    _, histories = run_prepare(**settings, catalogue={"title_attributes": ["town"]})
    assert histories.items["title"].to_list() == ["Park (Ulm)", "Park (Bonn)"]


def test_failure_leaves_the_earlier_histories_whole(
    visits: Path, run_prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = run_prepare(events={"path": visits})

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("whereupon.histories.preparing.write_json", full_disk)
    with pytest.raises(OSError, match="No space"):
        run_prepare(events={"path": visits}, time_zone="Asia/Tokyo")
    after = read_histories(tmp_path / "run")
    assert after.events.equals(before.events)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["histories"]


def test_summary_shows_counts_in_words(visits: Path, run_prepare: Prepare) -> None:
    report, _ = run_prepare(events={"path": visits}, split={"train": 0.5, "valid": 0.25})
    assert report.lines()[2:6] == [
        "4 events of 2 users on 2 items (2 of them seen), 2024-01-01 to 2024-01-04",
        "train: 2 events, from 2024-01-01T08:00:00Z",
        "valid: 1 events, from 2024-01-03T12:00:00Z",
        "test: 1 events, from 2024-01-04T21:00:00Z",
    ]


def test_unicode_comes_through(write: Write, run_prepare: Prepare) -> None:
    events = write("é v é n.csv", "user_id,item_id,time\nJosé,東京,2024-01-01T08:00Z\nЖ,🏛️,2024-01-02T08:00Z")
    _, histories = run_prepare(events={"path": events})
    assert histories.user_ids == ["José", "Ж"]
    assert histories.items["title"].to_list() == ["東京", "🏛️"]
    assert histories.user("Ж") == 1


def test_catalogue_of_one_item_is_prepared(write: Write, run_prepare: Prepare) -> None:
    _, histories = run_prepare(events={"path": write("e.csv", "user_id,item_id,time\nann,park,2024-01-01T08:00Z")})
    assert histories.items.height == 1
    assert histories.split_N.tolist() == [2]


def test_run_folder_that_is_a_file_is_reported(visits: Path) -> None:
    settings = HistoriesSettings(events=TableSettings(path=visits))
    with pytest.raises(DataError, match=says(str(visits), "run folder", "is a file")):
        prepare(settings, CatalogueSettings(), visits)


def test_template_of_an_unknown_column_is_reported(visits: Path, run_prepare: Prepare) -> None:
    with pytest.raises(CatalogueError, match=says("columns of the items", "item_id", "'name'")):
        run_prepare(events={"path": visits}, catalogue={"title": "{{ name }}"})


@pytest.mark.parametrize("name", ["visits.csv", "events.parquet"])
def test_files_of_others_in_the_folder_are_never_replaced(
    name: str, visits: Path, run_prepare: Prepare, tmp_path: Path
) -> None:
    theirs = tmp_path / "run" / "histories" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(visits.read_bytes())
    with pytest.raises(DataError, match=says("replaced", str(theirs.parent), name)):
        run_prepare(events={"path": visits})
    assert theirs.read_bytes() == visits.read_bytes()
    theirs.unlink()
    run_prepare(events={"path": visits})
    (theirs.parent / ".DS_Store").touch()  # of a file manager that has shown the folder
    run_prepare(events={"path": visits})  # its own files it does replace


def test_what_was_sniffed_is_said_with_one_event_as_an_example(tmp_path: Path, run_prepare: Prepare) -> None:
    events = tmp_path / "e.dat"
    events.write_bytes("42::17::1406894400\n43::café::1406894500\n".encode("latin-1"))
    columns = {"user_id": 1, "item_id": 2, "time": 3}
    report, _ = run_prepare(events={"path": events, "columns": columns}, time_zone="America/New_York")
    said = "\n".join(report.lines())
    for fact in ("e.dat", "'::'", "no header", "cp1252", "user 42, item 17, Fri 2014-08-01 08:00 America/New_York"):
        assert fact in said


def test_broken_lines_of_every_table_are_rejected_with_their_number(write: Write, run_prepare: Prepare) -> None:
    events = write("e.csv", "user_id,item_id,time\nann,park,2024-01-01T08:00Z\nann,a,b,c,d\nann,zoo,2024-01-02T08:00Z")
    items = write("i.csv", "item_id,title\npark,Park\nx,The Good, the Bad\nzoo,Zoo")
    report, histories = run_prepare(events={"path": events}, items={"path": items})
    assert report.manifest["rejects"] == {"e.csv: broken line": 1, "i.csv: broken line": 1}
    assert histories.events.height == 2


def test_items_without_titles_are_said_with_the_likely_column(visits: Path, write: Write, run_prepare: Prepare) -> None:
    items = write("i.csv", "item_id,prod_name,category\npark,Green Park,a\ncinema,Old Cinema,a")
    report, _ = run_prepare(events={"path": visits}, items={"path": items})
    said = "\n".join(report.lines())
    assert "no column title" in said
    assert "'prod_name'" in said
    report, _ = run_prepare(events={"path": visits}, items={"path": items, "columns": {"title": "prod_name"}})
    assert "no column title" not in "\n".join(report.lines())


def test_time_format_of_items_reads_their_available_from(visits: Path, write: Write, run_prepare: Prepare) -> None:
    items = write("i.csv", "item_id,title,available_from\npark,Park,01.02.2022\ncinema,Cinema,03.02.2022")
    _, histories = run_prepare(events={"path": visits}, items={"path": items, "time_format": "%d.%m.%Y"})
    assert histories.items["available_from"].dt.date().cast(pl.String).to_list() == ["2022-02-01", "2022-02-03"]


@pytest.mark.parametrize("title", ["{name}", "item_id"])
def test_title_template_without_a_column_is_refused(title: str, visits: Path, run_prepare: Prepare) -> None:
    with pytest.raises(CatalogueError, match=says("catalogue.title", "{{ item_id }}", title)):
        run_prepare(events={"path": visits}, catalogue={"title": title})


def test_decimal_commas_are_numbers_in_events_and_items(write: Write, run_prepare: Prepare) -> None:
    events = write("e.csv", "user_id;item_id;time;value\nann;park;2024-01-01T08:00Z;4,5\nann;zoo;2024-01-02T08:00Z;3")
    items = write("i.csv", 'item_id,title,latitude,longitude\npark,Park,"52,514","13,404"\nzoo,Zoo,"52,5","13,4"')
    report, histories = run_prepare(events={"path": events}, items={"path": items})
    assert histories.events["value"].to_list() == [4.5, 3.0]
    assert histories.items["latitude"].to_list() == [52.514, 52.5]
    assert "decimal comma" in "\n".join(report.lines())
