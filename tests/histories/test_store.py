"""Reading a run folder back, and users that are not there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.errors import DataError
from whereupon.files import read_json, write_json
from whereupon.histories import Histories, read_histories
from whereupon.tests.texts import says

Prepare = Callable[..., Any]


@pytest.fixture
def prepared(visits: Path, run_prepare: Prepare, tmp_path: Path) -> tuple[Path, Histories]:
    return tmp_path / "run", run_prepare(events={"path": visits})[1]


def test_unprepared_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says(str(tmp_path), "no prepared histories", "`whereupon prepare`")):
        read_histories(tmp_path)


@pytest.mark.parametrize("name", ["events.parquet", "items.parquet"])
def test_damaged_table_is_reported(prepared: tuple[Path, Histories], name: str) -> None:
    file = prepared[0] / "histories" / name
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match=says(str(prepared[0]), "`whereupon prepare`")):
        read_histories(prepared[0])
    file.unlink()
    with pytest.raises(DataError, match=says(str(prepared[0]), "`whereupon prepare`")):
        read_histories(prepared[0])


def test_other_row_count_than_the_manifest_is_reported(prepared: tuple[Path, Histories]) -> None:
    file = prepared[0] / "histories" / "events.parquet"
    pl.read_parquet(file).head(1).write_parquet(file)
    with pytest.raises(DataError, match=says(str(prepared[0]), "incomplete", "`whereupon prepare`")):
        read_histories(prepared[0])


def test_other_format_is_reported(prepared: tuple[Path, Histories]) -> None:
    path = prepared[0] / "histories" / "manifest.json"
    write_json(path, read_json(path) | {"format": 99})
    with pytest.raises(DataError, match=says("another version", "`whereupon prepare`")):
        read_histories(prepared[0])


def test_user_is_found_and_an_unknown_one_named_with_the_nearest(prepared: tuple[Path, Histories]) -> None:
    histories = prepared[1]
    assert [histories.user(name) for name in ("ann", "bob")] == [0, 1]
    with pytest.raises(DataError, match=says("'anne'", "2", "did you mean ann?")):
        histories.user("anne")
    with pytest.raises(DataError, match=says("'zzz'", "2", "did you mean ann, bob?")):
        histories.user("zzz")


def test_arrays_may_be_written_to(prepared: tuple[Path, Histories]) -> None:
    """torch.from_numpy warns of arrays that are not writable."""
    histories = prepared[1]
    arrays = (histories.user_idx_N, histories.item_idx_N, histories.time_s_N, histories.split_N, histories.offset_U1)
    assert all(array.flags.writeable for array in arrays)
