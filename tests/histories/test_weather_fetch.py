"""Weather near the events, from Meteostat's own classes with made-up observations: nothing is downloaded."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.histories.conftest import Prepare, Write
from tests.texts import says
from whereupon.errors import ConfigError, DataError
from whereupon.histories import Histories, WeatherSettings, fetch_weather, read_histories
from whereupon.histories.weather_fetch import busiest_cells

meteostat = pytest.importorskip("meteostat")
pd = pytest.importorskip("pandas")

NEW_YORK = (40.7, -74.0)


def _series(station: str, start: datetime, end: datetime) -> Any:
    hours = pd.date_range(start.replace(minute=0, second=0), end, freq="h")
    index = pd.MultiIndex.from_product([[station], hours, ["isd_lite"]], names=["station", "time", "source"])
    values = {"temp": [float(hour.hour) for hour in hours], "prcp": [0.5] * len(hours)}
    stations = pd.DataFrame({"id": [station]}).set_index("id")
    return meteostat.TimeSeries(
        meteostat.Granularity.HOURLY, stations, pd.DataFrame(values, index=index), start, end
    )  # fmt: skip


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """A service with one station in New York; the points that were requested."""
    asked: list[tuple[float, float]] = []
    station = pd.DataFrame({"id": ["72502"], "latitude": [40.75], "longitude": [-74.05]}).set_index("id")

    def nearby(point: Any, radius: int, limit: int) -> Any:
        asked.append((point.latitude, point.longitude))
        return station if abs(point.latitude - 40.7) < 1 else station[:0]

    monkeypatch.setattr(meteostat.stations, "nearby", nearby)
    monkeypatch.setattr(meteostat, "hourly", _series)
    return asked


@pytest.fixture
def town(visits: Path, write: Write, run_prepare: Prepare) -> Histories:
    """Two places, one of them without coordinates."""
    items = write("items.csv", "item_id,title,latitude,longitude\npark,City Park,40.7,-74.0\ncinema,Old Cinema,,")
    return run_prepare(events={"path": str(visits)}, items={"path": str(items)}, time_zone="UTC")[1]


def test_hours_from_a_day_before_the_first_event_are_joined_and_their_licence_is_in_the_manifest(
    town: Histories, visits: Path, service: list[tuple[float, float]], run_prepare: Prepare, tmp_path: Path
) -> None:
    out = tmp_path / "weather.csv"
    num = fetch_weather(town, out)
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "station_id,latitude,longitude,time,temperature_c,precipitation_mm,wind_kmh"
    assert lines[1].split(",")[3] == "2023-12-31T08:00:00Z"
    assert len(lines) == num + 1 == 4 * 24 + 14 + 1
    assert service == [NEW_YORK]
    items = {"path": str(tmp_path / "items.csv")}
    location = {"weather": {"path": str(out)}, "time_zone": "UTC"}
    _, joined = run_prepare(events={"path": str(visits)}, items=items, **location)
    assert joined.events["temperature_c"].drop_nulls().to_list()
    manifest = read_histories(tmp_path / "run").manifest
    assert "CC0" in json.dumps(manifest["sources"]["weather.csv"]["licences"])


def test_place_of_the_settings_is_requested_where_nothing_has_coordinates(
    visits: Path, service: list[tuple[float, float]], run_prepare: Prepare, tmp_path: Path
) -> None:
    _, histories = run_prepare(events={"path": str(visits)}, time_zone="UTC")
    with pytest.raises(ConfigError, match=says("histories.weather.latitude")):
        fetch_weather(histories, tmp_path / "weather.csv")
    station = WeatherSettings(path=tmp_path / "weather.csv", latitude=NEW_YORK[0], longitude=NEW_YORK[1])
    assert fetch_weather(histories, tmp_path / "weather.csv", station)
    assert service == [NEW_YORK]


def test_no_station_and_no_answer_are_one_sentence_and_no_file(
    town: Histories, service: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(meteostat, "hourly", broken)
    with pytest.raises(DataError, match=says("did not answer", "no route to host")):
        fetch_weather(town, tmp_path / "weather.csv")
    monkeypatch.setattr(meteostat.stations, "nearby", lambda point, radius, limit: pd.DataFrame())
    with pytest.raises(DataError, match=says("no hourly weather", "50 km")):
        fetch_weather(town, tmp_path / "weather.csv")
    assert not (tmp_path / "weather.csv").exists()


def test_busiest_cells_come_first_with_the_number_of_their_events(town: Histories) -> None:
    assert busiest_cells(town, None).rows() == [(40.7, -74.0, 2)]
