"""Privacy: what is hidden, that nothing that is written shows it, and that the key alone leads back."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.errors import ConfigError, DataError
from whereupon.histories.distance import distance_km, points_of
from whereupon.histories.privacy import Privacy, privacy_of_run
from whereupon.histories.pseudonyms import Pseudonyms
from whereupon.histories.settings import PrivacySettings
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]
KEY = "WHEREUPON_PRIVACY_KEY"
USERS = ("ann@example.org", "bob@example.org", "eve@example.org")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "a key of more than sixteen bytes")


@pytest.fixture
def log(write: Write) -> Path:
    """Three users on three items, `home` that of one user only, at minutes that no other table holds."""
    rows = [
        f"{user},{item},2024-01-01T{hour:02}:{minute}Z,{52.5 + number / 1000},13.4"
        for number, user in enumerate(USERS)
        for item, hour, minute in (("park", 8, 13), ("zoo", 8, 14), ("park", 9, 59))
    ]
    rows += [f"{USERS[0]},home,2024-01-02T08:13Z,52.51234,13.41234", f"{USERS[1]},park,soon,52.5,13.4"]
    return write("log.csv", "\n".join(["user_id,item_id,time,latitude,longitude", *rows]))


def test_nothing_that_is_written_names_a_user_or_a_rare_item(log: Path, run_prepare: Prepare, tmp_path: Path) -> None:
    report, histories = run_prepare(events={"path": log}, privacy={"min_item_users": 2})
    written = json.dumps(report.manifest) + "\n".join(report.lines()) + str(report.steps())
    for path in (tmp_path / "run").rglob("*.parquet"):
        written += pl.read_parquet(path).write_csv()
    for raw in (*USERS, "example.org", "08:13", "52.51234", "more than sixteen bytes"):
        assert raw not in written
    assert histories.items["item_id"].to_list() == ["park", "zoo"]
    assert report.manifest["rejects"] == {"log.csv: unparsable time": 1, "log.csv: item of fewer than 2 users": 1}
    said = report.manifest["privacy"]
    assert (said["num_pseudonyms"], said["num_events_at_rare_items"], said["num_places"]) == (3, 1, 1)


def test_same_key_gives_the_same_ids_and_another_key_others(
    log: Path, run_prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"events": {"path": log}, "privacy": {"min_item_users": None}}
    ids = run_prepare(**settings)[1].user_ids
    assert run_prepare(**settings)[1].user_ids == ids
    assert sorted(map(Pseudonyms(b"a key of more than sixteen bytes").of_id, USERS)) == ids
    monkeypatch.setenv(KEY, "another key of sixteen bytes")
    assert not set(run_prepare(**settings)[1].user_ids) & set(ids)


def test_pseudonym_is_its_own_pseudonym_and_one_of_another_key_is_not() -> None:
    ours, theirs = Pseudonyms(b"k" * 16), Pseudonyms(b"l" * 16)
    name = ours.of_id("ann")
    assert ours.of_id(name) == name != "ann"
    assert theirs.of_id(name) != name
    assert ours.of_ids(pl.Series(["ann", "bob", "ann", name])).to_list() == [name, ours.of_id("bob"), name, name]
    assert "k" * 16 not in repr(ours)


def test_times_are_rounded_down_and_events_keep_their_order(write: Write, run_prepare: Prepare) -> None:
    rng = np.random.default_rng(11)
    minutes = rng.permutation(24 * 60)[:80]
    rows = [f"ann,i{minute},2024-03-31T{minute // 60:02}:{minute % 60:02}Z" for minute in minutes]
    events = write("e.csv", "\n".join(["user_id,item_id,time", *rows]))
    privacy = {"min_item_users": None, "round_minutes": 30}
    _, histories = run_prepare(events={"path": events}, privacy=privacy, time_zone="Europe/Berlin")
    assert histories.events["item_id"].to_list() == [f"i{minute}" for minute in sorted(minutes)]
    assert set(histories.events["time"].dt.minute()) == {0, 30}
    since_midnight = histories.events["time"].dt.hour().cast(int) * 60 + histories.events["time"].dt.minute()
    assert since_midnight.to_list() == [minute // 30 * 30 for minute in sorted(minutes)]
    assert set(histories.events["local_time"].dt.minute()) == {0, 30}


def test_places_move_within_their_square_and_near_ones_become_one() -> None:
    rng = np.random.default_rng(2)
    places = pl.DataFrame({"latitude": rng.uniform(-89, 89, 500), "longitude": rng.uniform(-180, 180, 500)})
    times = pl.Series(range(500)).cast(pl.Datetime("us", "UTC"))
    events = places.with_columns(times.alias("time"), times.dt.replace_time_zone(None).alias("local_time"))
    events = events.with_columns(pl.lit(True).alias("hour_known"), pl.int_range(500).alias("_row"))
    privacy = Privacy(PrivacySettings(cell_km=10), Pseudonyms(b"k" * 16))
    moved = privacy.coarse(events)
    assert distance_km(points_of(places), points_of(moved)).max() <= 10 / 2**0.5 * 1.02
    for (latitude, longitude), (north, east) in zip(
        places.iter_rows(), moved.select("latitude", "longitude").iter_rows(), strict=True
    ):
        assert privacy.place(latitude=latitude, longitude=longitude) == (north, east)
    again = privacy.coarse(moved)  # the middle of a square is in it
    assert again.select("latitude", "longitude").equals(moved.select("latitude", "longitude"))


def test_time_of_a_request_is_rounded_as_in_the_histories() -> None:
    privacy = Privacy(PrivacySettings(), Pseudonyms(b"k" * 16))
    assert privacy.time(datetime(2024, 1, 1, 8, 44, 59, 7, tzinfo=UTC)) == datetime(2024, 1, 1, 8, 30, tzinfo=UTC)


def test_key_that_is_missing_short_or_beside_the_data_is_refused(
    log: Path, run_prepare: Prepare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(KEY, "short")
    with pytest.raises(ConfigError, match=says("16 bytes", KEY, "openssl")):
        run_prepare(events={"path": log}, privacy={})
    monkeypatch.delenv(KEY)
    with pytest.raises(ConfigError, match=says("needs a key", KEY, "openssl")):
        run_prepare(events={"path": log}, privacy={})
    with pytest.raises(ConfigError, match=says("key_file", "cannot be read")):
        run_prepare(events={"path": log}, privacy={"key_file": tmp_path / "none"})
    (tmp_path / "key").write_text("a key of more than sixteen bytes\n")
    with pytest.raises(ConfigError, match=says("outside of the data", "key", "another folder")):
        run_prepare(events={"path": log}, privacy={"key_file": tmp_path / "key"})


def test_data_without_a_common_item_is_refused(log: Path, run_prepare: Prepare) -> None:
    with pytest.raises(DataError, match=says("min_item_users", "3 items", "fewer than 9 users")):
        run_prepare(events={"path": log}, privacy={"min_item_users": 9})


def test_run_of_another_key_or_without_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = PrivacySettings()
    prepared = {"key_check": Pseudonyms.of(ours).check}
    assert privacy_of_run(None, None) is None
    found = privacy_of_run(ours, prepared)
    assert found is not None
    with pytest.raises(ConfigError, match=says("with histories.privacy", "does not set")):
        privacy_of_run(None, prepared)
    with pytest.raises(ConfigError, match=says("without histories.privacy", "sets")):
        privacy_of_run(ours, None)
    monkeypatch.setenv(KEY, "another key of sixteen bytes")
    with pytest.raises(ConfigError, match=says("another key")):
        privacy_of_run(ours, prepared)
