"""`whereupon forecast`: the table, the files, and what it says where nothing can be forecast."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from whereupon.cli import app
from whereupon.errors import DataError
from whereupon.eval import forecast
from whereupon.eval.forecast import parse_horizon
from whereupon.histories import Histories

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
HOUR, DAY = 3_600, 86_400


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text("run: run\nhistories:\n  recipe: nycflights13\n")
    return tmp_path / "toy.yaml"


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(histories: Histories, *options: str) -> Result:
        monkeypatch.setattr(forecast, "read_histories", lambda run: histories)
        return CliRunner().invoke(app, ["forecast", str(config), *options])

    return run


def some_days(build: Build, num: int) -> Histories:
    rng = np.random.default_rng(5)
    rows = [
        (0, item, day * DAY + hour * HOUR, "train")
        for day in range(num)
        for hour, item in ((9, 0), (9, 0), (14, 1), (20, 1), (21, 2))
        if rng.random() < 0.8
    ]
    return build([*rows, (1, 2, num * DAY, "test")], 3)


def test_table_picture_and_figures_are_written(build: Build, run: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("statsforecast", reason="forecasts need statsforecast: pip install 'whereupon[forecast]'")
    result = run(some_days(build, 30), "--horizon", "24h", "--series", "2")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "run" / "forecasts" / "item-hour"
    assert result.stdout.rstrip().endswith(str(folder).split("/")[-1])
    assert "item-0" in result.stdout
    assert "the rest" in result.stdout
    assert "1 groups are pooled" in " ".join(result.stderr.split())
    found = json.loads((folder / "forecast.json").read_text())
    assert [one["name"] for one in found["series"]] == ["item-1", "item-0", "the rest"]
    first = found["series"][0]
    assert len(found["times"]) == len(first["mean"]) == 24
    assert all(low <= mean <= high for low, mean, high in zip(first["low"], first["mean"], first["high"], strict=True))
    assert found["num_origins"] > 3
    assert found["times"][0] == "1970-01-31T00:00:00"
    svg = (folder / "forecast.svg").read_text()
    assert svg.startswith("<svg xmlns=")
    assert svg.count("item-0") == 2  # its panel, and the description
    assert svg.count('class="band"') == 3


def test_few_days_are_refused_in_a_sentence(build: Build, run: Callable[..., Result]) -> None:
    pytest.importorskip("statsforecast", reason="forecasts need statsforecast: pip install 'whereupon[forecast]'")
    for num in (1, 4):
        result = run(some_days(build, num))
        assert result.exit_code == 1
        assert "days of events" in " ".join(result.stderr.split())
        assert "Traceback" not in result.output


def test_missing_package_is_named_in_a_sentence(
    build: Build, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whereupon.forecasts.arima._PACKAGE", "no_such_package")
    result = run(some_days(build, 30))
    assert result.exit_code == 1
    assert "pip install 'whereupon[forecast]'" in " ".join(result.stderr.split())


def test_items_without_categories_are_refused_in_a_sentence(build: Build, run: Callable[..., Result]) -> None:
    result = run(some_days(build, 30), "--by", "category")
    assert result.exit_code == 1
    assert "--by item or --by area" in " ".join(result.stderr.split())


def test_horizon_is_hours_or_days() -> None:
    assert parse_horizon("48h", "hour") == 48
    assert parse_horizon("7d", "hour") == 168
    assert parse_horizon("7 d", "day") == 7
    for text, every in (("2", "hour"), ("0h", "hour"), ("61d", "hour"), ("36h", "day"), ("soon", "day")):
        with pytest.raises(DataError, match="such as 48h or 7d"):
            parse_horizon(text, every)  # type: ignore[arg-type]
