"""Files of weather as they are downloaded: `whereupon init` recognises each, and what it writes reads them right."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.config import Config, load_config
from whereupon.errors import DataError
from whereupon.histories import prepare, read_histories

HOURS = [f"{hour:02}" for hour in range(8)]
PLACE = "40.78,-73.97"


def _events(folder: Path) -> Path:
    """Four people who choose at 5:30 UTC on the second of March."""
    rows = [f"u{at % 4},i{at % 3},2023-03-02T05:{30 + at}:00Z,40.78,-73.97" for at in range(12)]
    path = folder / "events.csv"
    path.write_text("\n".join(["user_id,item_id,time,latitude,longitude", *rows, ""]))
    return path


def _rows(header: str, rows: list[str]) -> str:
    return "\n".join([header, *rows, ""])


GHCN = "STATION,DATE,LATITUDE,LONGITUDE,ELEVATION,NAME,PRCP,PRCP_ATTRIBUTES,SNOW,SNWD,TMAX,TMIN"
GHCN_ROWS = [f'USW00094728,2023-03-0{day},40.78,-73.97,42.7,"NEW YORK, NY US",25,",,W",20,30,156,44' for day in (1, 2)]
METRIC = [f'USW00094728,2023-03-0{day},40.78,-73.97,42.7,"NEW YORK, NY US",2.5,",,W",20,30,15.6,4.4' for day in (1, 2)]
US = [f'USW00094728,2023-03-0{day},40.78,-73.97,42.7,"NEW YORK, NY US",0.10,",,W",0.8,1.2,60,40' for day in (1, 2)]
GSOD = '"STATION","DATE","LATITUDE","LONGITUDE","NAME","TEMP","TEMP_ATTRIBUTES","WDSP","MAX","MIN","PRCP","SNDP"'
GSOD_ROWS = [
    f'"72505394728","2023-03-0{day}","40.78","-73.97","NEW YORK","  50.0","24","  9.7","60.1","39.9"," 0.10","999.9"'
    for day in (1, 2)
]
ISD = '"STATION","DATE","SOURCE","LATITUDE","LONGITUDE","REPORT_TYPE","WND","TMP","AA1"'
ISD_ROWS = [
    f'"72505394728","2023-03-02T{hour}:00:00","4","40.78","-73.97","FM-15","160,1,N,0050,1","+0100,1","01,0025,9,5"'
    for hour in HOURS
]
LCD = '"STATION","DATE","REPORT_TYPE","HourlyDryBulbTemperature","HourlyPrecipitation","HourlyWindSpeed"'
LCD_ROWS = [
    f'"72505394728","2023-03-0{day}T{hour:02}:51:00","FM-15","50","0.10s","11"' for day in (1, 2) for hour in range(24)
]
ERA5 = "valid_time,u10,v10,t2m,tp,latitude,longitude"
ERA5_ROWS = [f"2023-03-02 {hour}:00:00,3.1,-2.2,283.15,0.0025,{PLACE}" for hour in HOURS]
METEO = (
    "latitude,longitude,elevation,utc_offset_seconds,timezone,timezone_abbreviation\n40.78,-73.97,42.0,0,GMT,GMT\n\n"
)
METEO_HEAD = "time,temperature_2m (°C),precipitation (mm),snow_depth (m),wind_speed_10m (km/h)"
METEO_ROWS = [f"2023-03-02T{hour}:00,10.0,2.5,0.03,18.0" for hour in HOURS]
STAT = "time,temp,dwpt,rhum,prcp,snow,wdir,wspd,wpgt,pres,tsun,coco"
STAT_ROWS = [f"2023-03-02 {hour}:00:00,10.0,1.0,60,2.5,30,270,18.0,,1012.1,,3" for hour in HOURS]
OPEN = (
    "dt,dt_iso,timezone,city_name,lat,lon,temp,visibility,pressure,humidity,wind_speed,wind_deg,rain_1h,snow_1h,"
    "weather_id,weather_main,weather_description"
)
OPEN_ROWS = [
    f"{1677715200 + 3600 * hour},2023-03-02 {hour:02}:00:00 +0000 UTC,-18000,New York,{PLACE},283.15,10000,1012,60,5.0,"
    "270,2.5,,500,Rain,light rain"
    for hour in range(8)
]
OURS = "time,latitude,longitude,temperature_c,precipitation_mm"
OURS_ROWS = [f"2023-03-02T{hour}:00:00Z,{PLACE},10.0,2.5" for hour in HOURS]
FILES = {
    "ghcn.csv": (_rows(GHCN, GHCN_ROWS), "GHCN-Daily", 10.0, 2.5),
    "ghcn_metric.csv": (_rows(GHCN, METRIC), "GHCN-Daily", 10.0, 2.5),
    "ghcn_us.csv": (_rows(GHCN, US), "GHCN-Daily", 10.0, 2.54),
    "gsod.csv": (_rows(GSOD, GSOD_ROWS), "Global Summary", 10.0, 2.54),
    "isd.csv": (_rows(ISD, ISD_ROWS), "Integrated Surface", 10.0, 2.5),
    "lcd.csv": (_rows(LCD, LCD_ROWS), "Local Climatological", 10.0, 2.54),
    "era5.csv": (_rows(ERA5, ERA5_ROWS), "ERA5", 10.0, 2.5),
    "open-meteo-40.78N73.97W42m.csv": (METEO + _rows(METEO_HEAD, METEO_ROWS), "Open-Meteo", 10.0, 2.5),
    "meteostat.csv": (_rows(STAT, STAT_ROWS), "Meteostat", 10.0, 2.5),
    "openweather.csv": (_rows(OPEN, OPEN_ROWS), "OpenWeather", 10.0, 2.5),
    "weather.csv": (_rows(OURS, OURS_ROWS), "our names", 10.0, 2.5),
}
WITHOUT_A_PLACE = {"lcd.csv", "meteostat.csv"}


def _drafted(folder: Path, *files: Path) -> Config:
    out = folder / "first.yaml"
    result = CliRunner().invoke(app, ["init", *map(str, files), "-o", str(out)])
    assert result.exit_code == 0, result.output
    return load_config(out)


@pytest.mark.parametrize("name", FILES)
def test_downloaded_file_is_recognised_and_read_in_its_units(name: str, tmp_path: Path) -> None:
    text, kind, celsius, fall_mm = FILES[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    config = _drafted(tmp_path, tmp_path / name, _events(tmp_path))
    assert kind in (tmp_path / "first.yaml").read_text()
    weather = config.histories.weather
    assert weather is not None
    if name in WITHOUT_A_PLACE:
        with pytest.raises(DataError, match=r"histories\.weather\.latitude"):
            prepare(config.histories, config.catalogue, config.run)
        weather = weather.model_copy(update={"latitude": 40.78, "longitude": -73.97})
    histories = config.histories.model_copy(update={"weather": weather})
    prepare(histories, config.catalogue, config.run)
    said = read_histories(config.run).events.select("temperature_c", "precipitation_mm").drop_nulls()
    assert said.height == 12
    assert said["temperature_c"].to_list() == pytest.approx([celsius] * 12, abs=0.01)
    assert said["precipitation_mm"].to_list() == pytest.approx([fall_mm] * 12, abs=0.01)


def test_snow_is_in_centimetres(tmp_path: Path) -> None:
    for name, depth in (("ghcn.csv", 3.0), ("open.csv", 3.0)):
        text = FILES[name][0] if name in FILES else FILES["open-meteo-40.78N73.97W42m.csv"][0]
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        (folder / name).write_text(text, encoding="utf-8")
        config = _drafted(folder, folder / name, _events(folder))
        prepare(config.histories, config.catalogue, config.run)
        assert read_histories(config.run).events["snow_depth_cm"].to_list() == pytest.approx([depth] * 12)


def test_several_stations_of_one_kind_are_one_table_and_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(FILES["isd.csv"][0])
    (tmp_path / "b.csv").write_text(FILES["isd.csv"][0].replace("40.78", "41.78"))
    (tmp_path / "other.csv").write_text(FILES["gsod.csv"][0])
    config = _drafted(tmp_path, *(tmp_path / f"{name}.csv" for name in ("a", "b", "other")), _events(tmp_path))
    assert config.histories.weather is not None
    assert [Path(path).name for path in config.histories.weather.path] == ["a.csv", "b.csv"]  # type: ignore[union-attr]
    assert (
        "# not used: other.csv, which is weather of another kind (Global Summary"
        in (tmp_path / "first.yaml").read_text()
    )


def test_packed_file_is_recognised_as_well(tmp_path: Path) -> None:
    (tmp_path / "isd.csv.gz").write_bytes(gzip.compress(FILES["isd.csv"][0].encode()))
    config = _drafted(tmp_path, tmp_path / "isd.csv.gz", _events(tmp_path))
    assert config.histories.weather is not None
    assert config.histories.weather.columns["temperature_c"] == "TMP"


def test_events_with_a_temperature_of_their_own_are_events(tmp_path: Path) -> None:
    events = pl.read_csv(_events(tmp_path)).with_columns(temperature_c=pl.lit(3.0))
    events.write_csv(tmp_path / "events.csv")
    config = _drafted(tmp_path, tmp_path / "events.csv")
    assert config.histories.weather is None
    assert config.histories.events is not None


def test_daily_open_meteo_in_us_units_is_read_as_days_of_its_clock(tmp_path: Path) -> None:
    head = METEO.replace(",0,GMT,GMT", ",-18000,America/New_York,EST")
    rows = [f"2023-03-0{day},50.0,40.0,0.1,10.0" for day in (1, 2)]
    names = "time,temperature_2m_max (°F),temperature_2m_min (°F),precipitation_sum (inch),wind_speed_10m_mean (mp/h)"
    (tmp_path / "daily.csv").write_text(head + _rows(names, rows), encoding="utf-8")
    config = _drafted(tmp_path, tmp_path / "daily.csv", _events(tmp_path))
    prepare(config.histories, config.catalogue, config.run)
    events = read_histories(config.run).events
    assert events["temperature_c"].to_list() == pytest.approx([(45 - 32) / 1.8] * 12, abs=0.01)
    assert events["precipitation_mm"].to_list() == pytest.approx([2.54] * 12)
