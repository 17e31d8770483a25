"""Weather as services write it: marks, flags and codes are read or counted, other units need a setting."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.errors import DataError
from whereupon.histories import WeatherSettings
from whereupon.histories.reading import ROW
from whereupon.histories.rejects import Notes, Rejects
from whereupon.histories.weather import clean_weather
from whereupon.tests.texts import says

GRAZ = {"latitude": 47.07, "longitude": 15.44}


def clean(cells: dict[str, list[Any]], **settings: Any) -> tuple[pl.DataFrame, Notes]:
    length = len(next(iter(cells.values())))
    cells = {"time": [f"2022-01-{day:02}T06:00Z" for day in range(1, length + 1)]} | cells
    notes, chosen = Notes(), WeatherSettings(path=Path("w.csv"), **{**GRAZ, **settings})
    raw = pl.DataFrame(cells).with_row_index(ROW, offset=1)
    return clean_weather(raw, chosen, source="w.csv", rejects=Rejects(), notes=notes), notes


def counted(notes: Notes, *words: str) -> int:
    return sum(num for note, num in notes.items() if all(word in note for word in words))


def test_marks_for_missing_are_missing_and_counted() -> None:
    cells: dict[str, list[Any]] = {
        "temperature_f": ["9999.9", " 50.0", "-9999", "NA"], "precipitation_in": ["99.99", "0.00", "", "-"],
        "wind_kn": ["999.9", "3.6", "999.9", "1.8"], "snow_depth_in": [999.9, 1.0, None, 2.0],
    }  # fmt: skip
    found, notes = clean(cells)
    assert found["temperature_c"].to_list() == [None, 10.0, None, None]
    assert found["precipitation_mm"].to_list() == [None, 0.0, None, None]
    assert found["wind_mps"].null_count() == 2
    assert counted(notes, "w.csv, temperature_f", "missing") == 2
    assert counted(notes, "w.csv, snow_depth_in", "missing") == 1


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"temperature_c": [271.2, 280.4, 290.9]}, ["temperature_k", "271.2"]),
        ({"temperature_c": ["215", "-31", "180", "64"]}, ["scale", "temperature_c", "215"]),
        ({"temperature_max_c": [215, 204], "temperature_min_c": [98, 77]}, ["scale", "temperature_max_c", "215"]),
        ({"precipitation_mm": [0.0, 0.0011, 0.0002, 0.0125]}, ["precipitation_m", "0.0125"]),
    ],
)
def test_other_units_are_requested(cells: dict[str, list[Any]], words: list[str]) -> None:
    with pytest.raises(DataError, match=says("w.csv", *words)):
        clean(cells)


def test_units_that_were_requested_are_read() -> None:
    found, _ = clean({"temperature_k": [283.15], "precipitation_m": [0.0125]})
    assert found.select("temperature_c", "precipitation_mm").row(0) == (10.0, 12.5)
    found, _ = clean({"temperature_c": ["215"], "precipitation_mm": [31]}, scale={"temperature_c": 0.1})
    assert found.select("temperature_c", "precipitation_mm").row(0) == (21.5, 31.0)
    with pytest.raises(DataError, match=says("scale", "wind_mps")):
        clean({"temperature_c": [1]}, scale={"wind_mps": 0.1})


def test_impossible_weather_is_left_out() -> None:
    cells: dict[str, list[Any]] = {"temperature_c": [*[10.0] * 40, 61, -91], "wind_mps": [*[2.0] * 40, 470, -1]}
    found, notes = clean(cells | {"time": ["2022-01-01T06:00Z"] * 42})
    assert found["temperature_c"].to_list() == [10.0] * 40 + [None] * 2
    assert found["wind_mps"].to_list() == [2.0] * 40 + [None] * 2
    assert counted(notes, "impossible") == 4


def test_flags_are_read_and_words_counted() -> None:
    cells: dict[str, list[Any]] = {
        "temperature_f": ["50s", "50", "*", "50V"],
        "precipitation_in": ["T", "0.10s", "Ts", "x"],
    }
    found, notes = clean(cells)
    assert found["temperature_c"].to_list() == [10.0, 10.0, None, 10.0]
    assert found["precipitation_mm"].to_list() == [0.0, 2.54, 0.0, None]
    assert counted(notes, "temperature_f", "flag") == 2
    assert counted(notes, "no number") == 2


def test_coded_fields_of_isd_are_in_tenths_and_utc() -> None:
    cells: dict[str, list[Any]] = {
        "time": ["2022-01-01T06:51:00", "2022-01-01T07:51:00"], "temperature_c": ["-0023,1", "+9999,9"],
        "wind_mps": ["220,1,N,0031,1", "999,9,C,9999,9"], "precipitation_mm": ["01,0013,9,5", "01,9999,9,9"],
    }  # fmt: skip
    found, notes = clean(cells)
    assert found.select("temperature_c", "wind_mps", "precipitation_mm").rows() == [(-2.3, 3.1, 1.3), (None,) * 3]
    assert found["time"].dt.hour().to_list() == [6, 7]
    assert sum("ISD" in remark for remark in notes.remarks) == 3


def test_time_of_a_table_is_the_clock_at_its_station_unless_said() -> None:
    cells: dict[str, list[Any]] = {"time": ["2022-01-01 06:00"], "wind_mps": [1]}
    found, notes = clean(cells)
    assert found["time"].dt.hour().to_list() == [5]
    assert any("Europe/Vienna" in remark and "times" in remark for remark in notes.remarks)
    assert clean(cells, times="utc")[0]["time"].dt.hour().to_list() == [6]
    assert clean(cells, columns={"time": "valid_time"})[0]["time"].dt.hour().to_list() == [6]


def test_days_called_time_are_days() -> None:
    found, notes = clean({"time": ["2022-01-01", "2022-01-02"], "wind_mps": [1, 2]})
    assert "local_day" in found.columns
    assert any("local_day" in remark for remark in notes.remarks)


def test_hemisphere_as_a_letter_is_a_sign() -> None:
    raw = pl.DataFrame({"time": ["2022-01-01T06:00Z"], "latitude": ["33.9S"], "longitude": ["18.4 E"], "wind_mps": [1]})
    notes, settings = Notes(), WeatherSettings(path=Path("w.csv"))
    found = clean_weather(raw.with_row_index(ROW), settings, source="w.csv", rejects=Rejects(), notes=notes)
    assert found.select("latitude", "longitude").row(0) == (-33.9, 18.4)
    assert not notes
