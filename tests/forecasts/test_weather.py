"""Forecasts of the weather: they know what was measured near there and before, and no more."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.errors import DataError
from whereupon.forecasts.weather import MOST_HOURS, Measured, WeatherForecasts
from whereupon.histories import Histories

pytest.importorskip("statsforecast", reason="forecasts need statsforecast: pip install 'whereupon[forecast]'")
Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
HOUR, DAY = 3_600, 86_400
TOWN = (40.0, -74.0)


def made_up(build: Build, days: int = 40, **changes: Any) -> Histories:
    """An event every other hour; days are 10 degrees warmer than nights, and it rains from noon to six."""
    hour_N = np.arange(0, days * 24, 2)
    histories = build([(0, 0, int(hour) * HOUR, "train") for hour in hour_N], 1)
    warmth_N = 10 - 5 * np.cos(2 * np.pi * hour_N / 24) + np.random.default_rng(1).normal(0, 0.5, len(hour_N))
    rain_N = np.where((hour_N % 24 >= 12) & (hour_N % 24 < 18), 3.0, 0.0)
    columns = {"temperature_c": warmth_N, "precipitation_mm": rain_N, "latitude": 40.1, "longitude": -74.1} | changes
    return replace(histories, events=histories.events.with_columns(
        pl.Series(name, np.broadcast_to(value, len(hour_N))) for name, value in columns.items()
    ))  # fmt: skip


def test_tomorrow_is_as_warm_and_as_wet_as_its_hour_always_is(build: Build) -> None:
    forecasts = WeatherForecasts(made_up(build))
    for hour, celsius, wet in ((3, 6.5, 0.0), (14, 14.3, 1.0), (23, 5.2, 0.0)):
        found = forecasts.at((41 * 24 + hour) * HOUR, TOWN)
        assert found is not None
        assert found[0] == pytest.approx(celsius, abs=1.0)
        assert found[1] == pytest.approx(wet, abs=0.2)
    assert forecasts.columns((41 * 24 + 14) * HOUR, TOWN)["condition"] == "rain forecast"
    assert forecasts.columns((41 * 24 + 3) * HOUR, TOWN) == {
        "temperature_c": pytest.approx(6.5, abs=1.0), "precipitation_mm": 0.0, "condition": "forecast",
    }  # fmt: skip


def test_frost_makes_snow_of_rain(build: Build) -> None:
    forecasts = WeatherForecasts(made_up(build, temperature_c=-4.0, precipitation_mm=1.0))
    found = forecasts.columns(41 * DAY, TOWN)
    assert (found["condition"], found["precipitation_mm"]) == ("snow forecast", 0.4)


def test_what_is_measured_later_changes_nothing_and_earlier_does(build: Build) -> None:
    histories = made_up(build)
    second = 30 * DAY + 5 * HOUR
    found = WeatherForecasts(histories).at(second, TOWN)
    time_s = pl.col("time").dt.epoch("s")
    for changed, is_same in ((time_s >= second, True), (time_s >= second - 4 * HOUR, False)):
        hot = pl.when(changed).then(40.0).otherwise("temperature_c").alias("temperature_c")
        wet = pl.when(changed).then(9.0).otherwise("precipitation_mm").alias("precipitation_mm")
        other = replace(histories, events=histories.events.with_columns(hot, wet))
        assert (WeatherForecasts(other).at(second, TOWN) == found) is is_same


def test_far_places_and_times_have_no_forecast(build: Build) -> None:
    forecasts = WeatherForecasts(made_up(build))
    end = int(forecasts.histories.time_s_N.max())
    assert forecasts.at(end + DAY, (48.0, 11.0)) is None
    assert forecasts.at(end + DAY, None) is None
    assert forecasts.at(3 * DAY, TOWN) is None  # too little was measured by then
    assert forecasts.at(end + MOST_HOURS * HOUR, TOWN) is not None
    assert forecasts.at(end + (MOST_HOURS + 1) * HOUR, TOWN) is None
    assert forecasts.columns(end + DAY, None) == {}


def test_places_that_were_asked_about_long_ago_are_forgotten(build: Build) -> None:
    forecasts = WeatherForecasts(made_up(build))
    time_s = int(forecasts.histories.time_s_N.max()) + DAY
    before = forecasts.at(time_s, TOWN)
    for degree in range(100):
        forecasts.at(time_s, (-40.0, float(degree)))
    assert len(forecasts._measured) == 64
    assert forecasts.at(time_s, TOWN) == before


def test_events_without_coordinates_are_all_of_one_place(build: Build) -> None:
    histories = made_up(build)
    nowhere = replace(histories, events=histories.events.drop("latitude", "longitude"))
    second = 41 * DAY
    assert WeatherForecasts(nowhere).at(second, None) == WeatherForecasts(histories).at(second, TOWN)


def test_hours_without_an_event_lie_on_a_line(build: Build) -> None:
    histories = made_up(build, 1, temperature_c=np.arange(12) * 4.0)
    measured = Measured.of(histories, np.ones(12, bool))
    assert measured.before(6)[0].tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert measured.before(0).shape == (2, 0)


def test_events_without_weather_are_refused_in_a_sentence(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = made_up(build, 1)
    with pytest.raises(DataError, match="need events with precipitation_mm"):
        WeatherForecasts(replace(histories, events=histories.events.drop("precipitation_mm")))
    monkeypatch.setattr("whereupon.forecasts.arima._PACKAGE", "no_such_package")
    with pytest.raises(DataError, match=r"pip install 'whereupon\[forecast\]'"):
        WeatherForecasts(histories)
