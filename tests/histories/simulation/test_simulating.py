"""Simulated towns: their files, and that the truth beside them is true of them."""

import errno
import json
import math
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from whereupon.catalogue import CatalogueSettings
from whereupon.catalogue.opening_hours import CLOSED, Timetable
from whereupon.cli import app
from whereupon.config import load_config
from whereupon.errors import DataError
from whereupon.histories import prepare, read_histories
from whereupon.histories.simulation import SCENES, SceneName, TownSettings, simulate
from whereupon.histories.simulation.town import REACH_KM
from whereupon.tests.texts import says

Simulate = Callable[..., Path]


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Simulate:
    """Simulate a town of these settings, once for each."""
    found: dict[str, Path] = {}

    def towns(**settings: Any) -> Path:
        key = json.dumps(settings, sort_keys=True)
        if key not in found:
            folder = tmp_path_factory.mktemp("towns") / "town"
            simulate(TownSettings(**{"people": 30, "days": 30, **settings}), folder)
            found[key] = folder
        return found[key]

    return towns


def _truth(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "truth.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("scene", get_args(SceneName))
def test_every_scene_is_prepared_without_a_reject_or_a_note(scene: SceneName, towns: Simulate, tmp_path: Path) -> None:
    folder = towns(scene=scene)
    config = load_config(folder / "town.yaml", [f"run={tmp_path}"])
    report = prepare(config.histories, CatalogueSettings(), config.run, config.seed)
    assert (report.manifest["rejects"], report.manifest["notes"]) == ({}, {})
    truth = pl.read_parquet(folder / "truth_events.parquet")
    prepared = read_histories(config.run).events
    assert prepared.height == truth.height == _truth(folder)["num_events"]
    # The splits that the figures are given for are those that `prepare` makes.
    split = prepared.select("user_id", "time", "split").join(truth, on=["user_id", "time"], how="left")
    assert split.select((pl.col("split") == pl.col("split_right")).all()).item()


@pytest.mark.parametrize("scene", get_args(SceneName))
def test_some_category_is_open_at_every_hour(scene: SceneName) -> None:
    hours = [category.opening_hours for category in SCENES[scene].categories]
    timetable = Timetable(hours)
    for day in range(1, 8):
        for hour in range(24):
            assert (timetable.states(datetime(2024, 1, day, hour, 30)) != CLOSED).any()


def test_no_one_goes_where_it_is_closed(towns: Simulate) -> None:
    folder = towns()
    items = pl.read_csv(folder / "items.csv")
    timetable = Timetable(items["opening_hours"].to_list())
    events = pl.read_csv(folder / "events.csv", try_parse_dates=True).head(300)
    number_of = {item: number for number, item in enumerate(items["item_id"])}
    for item, time in events.select("item_id", "time").iter_rows():
        assert timetable.states(time.replace(tzinfo=None))[number_of[item]] != CLOSED


def _naive_log_prob(folder: Path, user: str, item: str, time: datetime, last: str | None) -> float:
    """The choice model as its docstring has it, item by item, from the files alone."""
    categories = {one.name: one for one in SCENES["shopping"].categories}
    tastes = {
        row["item_id"]: row for row in pl.read_parquet(folder / "truth_tastes.parquet").iter_rows(named=True)
        if row["user_id"] == user
    }  # fmt: skip
    items = {row["item_id"]: row for row in pl.read_csv(folder / "items.csv").iter_rows(named=True)}
    weather = pl.read_csv(folder / "weather.csv", try_parse_dates=True)
    rains = weather.filter(pl.col("time") == time.replace(minute=0, second=0))["precipitation_mm"].item() > 0
    home = next(iter(tastes.values()))
    place = items[last] if last else {"latitude": home["home_latitude"], "longitude": home["home_longitude"]}
    power = {}
    for name, row in items.items():
        kind = categories[row["category"]]
        if Timetable([kind.opening_hours]).states(time.replace(tzinfo=None))[0] == CLOSED:
            continue
        apart = min(abs(time.hour - kind.peak), 24 - abs(time.hour - kind.peak))
        utility = tastes[name]["utility"] + max(-0.5 * (apart / kind.width_hours) ** 2, -4.0) + kind.rain * rains
        utility += kind.weekend * (time.weekday() >= 5) - _haversine_km(place, row) / REACH_KM
        power[name] = math.exp(utility)
    return math.log(power[item] / sum(power.values()))


def _haversine_km(a: dict[str, float], b: dict[str, float]) -> float:
    from_lat, to_lat = math.radians(a["latitude"]), math.radians(b["latitude"])
    across = math.radians(b["longitude"] - a["longitude"])
    haversine = (1 - math.cos(to_lat - from_lat)) / 2 + math.cos(from_lat) * math.cos(to_lat) * (
        1 - math.cos(across)
    ) / 2
    return 2 * 6371.0088 * math.asin(math.sqrt(haversine))


def test_probabilities_are_those_of_the_choice_model_item_by_item(towns: Simulate) -> None:
    folder = towns()
    events = pl.read_parquet(folder / "truth_events.parquet").sort("user_id", "time").head(25)
    last, today = None, None
    for user, item, time, log_prob in events.select("user_id", "item_id", "time", "log_prob").iter_rows():
        last = last if today == (user, time.date()) else None
        assert log_prob == pytest.approx(_naive_log_prob(folder, user, item, time, last), abs=1e-4)
        last, today = item, (user, time.date())


def test_what_was_drawn_is_near_what_was_expected(towns: Simulate) -> None:
    bounds = _truth(towns())["bounds"]["all"]
    for kind in ("with_weather", "without_weather"):
        for name, expected in bounds[kind]["expected"].items():
            assert bounds[kind]["drawn"][name] == pytest.approx(
                expected, abs=0.1
            )  # four standard errors of the log-loss


def test_who_does_not_see_the_weather_is_expected_to_know_less(towns: Simulate) -> None:
    expected = {
        kind: _truth(towns())["bounds"]["test"][kind]["expected"] for kind in ("with_weather", "without_weather")
    }
    assert expected["with_weather"]["nDCG@10"] > expected["without_weather"]["nDCG@10"] + 0.01
    assert expected["with_weather"]["log_loss"] < expected["without_weather"]["log_loss"] - 0.05


def test_hidden_and_shuffled_weather_leave_the_events_as_they_are(towns: Simulate) -> None:
    shown, hidden, shuffled = (towns(weather=weather) for weather in ("shown", "hidden", "shuffled"))
    assert (shown / "events.csv").read_bytes() == (hidden / "events.csv").read_bytes()
    assert (shown / "events.csv").read_bytes() == (shuffled / "events.csv").read_bytes()
    assert not (hidden / "weather.csv").exists()
    assert "weather" not in yaml.safe_load((hidden / "town.yaml").read_text())["histories"]
    rains = [pl.read_csv(town / "weather.csv")["precipitation_mm"] > 0 for town in (shown, shuffled)]
    assert rains[0].sum() == rains[1].sum()
    assert (rains[0] == rains[1]).mean() < 0.7


def test_other_people_do_the_requested_share_of_events(towns: Simulate) -> None:
    truth = pl.read_parquet(towns(anomalies=0.1) / "truth_events.parquet")
    assert truth["is_anomaly"].mean() == pytest.approx(0.1, abs=0.005)
    assert truth.filter("is_anomaly")["log_prob"].null_count() == truth["is_anomaly"].sum()
    assert truth.filter(~pl.col("is_anomaly"))["log_prob"].null_count() == 0
    assert set(truth.filter("is_anomaly")["user_id"]) <= set(truth.filter(~pl.col("is_anomaly"))["user_id"])


def test_same_seed_gives_the_same_files_and_another_gives_others(towns: Simulate, tmp_path: Path) -> None:
    simulate(TownSettings(people=30, days=30), tmp_path / "again")
    simulate(TownSettings(people=30, days=30, seed=8), tmp_path / "other")
    for name in ("events.csv", "items.csv", "weather.csv", "truth.json"):
        assert (tmp_path / "again" / name).read_bytes() == (towns() / name).read_bytes()
    assert (tmp_path / "other" / "events.csv").read_bytes() != (towns() / "events.csv").read_bytes()


def test_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match=says("letter.txt", "choose another")):
        simulate(TownSettings(people=2, days=2), tmp_path)


def test_simulation_that_was_broken_off_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder, settings = tmp_path / "town", TownSettings(people=5, days=5)
    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", full)
        with pytest.raises(OSError, match="truth_events"):
            simulate(settings, folder)
    assert "events.csv" in {path.name for path in folder.iterdir()}
    simulate(settings, folder)
    assert _truth(folder)["num_events"] > 0


def test_verb_writes_a_town_and_says_what_can_be_reached(tmp_path: Path) -> None:
    out = tmp_path / "town"
    options = ["--people", "10", "--days", "10", "--scene", "music", "--weather-shuffled"]
    result = CliRunner().invoke(app, ["simulate", str(out), *options])
    assert result.exit_code == 0, result.output
    assert "nDCG@10" in result.stdout
    assert _truth(out)["settings"] == {
        "people": 10, "days": 10, "scene": "music", "seed": 7, "anomalies": 0.0, "weather": "shuffled"
    }  # fmt: skip
    refused = CliRunner().invoke(app, ["simulate", str(out), "--weather-shuffled", "--weather-hidden"])
    assert refused.exit_code == 2
