"""Prepared histories in the forms of other libraries."""

from pathlib import Path

import datasets
import polars as pl
import pytest

from tests.histories.conftest import Prepare, Write
from whereupon.histories import export_data


@pytest.fixture
def items(write: Write) -> Path:
    return write("items.csv", "item_id,title,latitude,longitude\npark,City\tPark,52.5,13.4\ncinema,Old Cinema,,")


def test_recbole_files_have_types_and_are_read_back_as_the_same_events(
    visits: Path, items: Path, run_prepare: Prepare, tmp_path: Path
) -> None:
    _, histories = run_prepare(events={"path": str(visits)}, items={"path": str(items)}, time_zone="UTC")
    out = tmp_path / "town"
    assert export_data(histories, out, "recbole") == 4
    lines = (out / "town.inter").read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t")[:3] == ["user_id:token", "item_id:token", "timestamp:float"]
    assert lines[1].split("\t")[:3] == ["ann", "park", "1704096000.0"]
    assert "title:token_seq" in (out / "town.item").read_text(encoding="utf-8").splitlines()[0]
    assert "City Park" in (out / "town.item").read_text(encoding="utf-8")
    parts = [path.read_text(encoding="utf-8").splitlines()[1:] for path in out.glob("town.*.inter")]
    assert sorted(line for part in parts for line in part) == sorted(lines[1:])
    columns = {"user_id": "user_id", "item_id": "item_id", "time": "timestamp"}
    _, again = run_prepare(events={"path": str(out / "town.inter"), "columns": columns}, time_zone="UTC")
    wanted = ("user_id", "item_id", "time")
    assert again.events.select(wanted).equals(histories.events.select(wanted))


def test_parquet_and_datasets_hold_every_event_with_its_split(
    visits: Path, run_prepare: Prepare, tmp_path: Path
) -> None:
    _, histories = run_prepare(events={"path": str(visits)}, time_zone="UTC")
    export_data(histories, tmp_path / "parquet", "parquet")
    export_data(histories, tmp_path / "datasets", "datasets")
    events = pl.read_parquet(tmp_path / "parquet" / "events.parquet")
    assert events.select("user_id", "item_id", "time", "split").equals(
        histories.events.select("user_id", "item_id", "time", "split")
    )
    read = datasets.load_from_disk(str(tmp_path / "datasets" / "events"))
    assert {name: part.num_rows for name, part in read.items()} == dict(events["split"].value_counts().iter_rows())
    assert datasets.load_from_disk(str(tmp_path / "datasets" / "items")).num_rows == 2
