"""The recipe nyc-checkins: check-ins in New York 2012 and 2013, with the daily weather of Central Park."""

from ...errors import ConfigError, DataError
from ..rejects import Rejects
from ..settings import HistoriesSettings, TableSettings, WeatherSettings
from ..source import Source, read_tables

# "Gym / Fitness Center" -> Gym, "Home (private)" -> Home; "Times Sq/Theatre District" -> Times Sq
_TITLE = (
    "{{ [category.split(' (')[0].split(' / ')[0].strip(), neighbourhood.split('/')[0].strip()] | select | join(', ') }}"
)
_WEATHER = {
    "local_day": "DATE",
    "wind_mph": "AWND",
    "precipitation_in": "PRCP",
    "snowfall_in": "SNOW",
    "snow_depth_in": "SNWD",
    "temperature_max_f": "TMAX",
    "temperature_min_f": "TMIN",
}
_CENTRAL_PARK = (40.7790, -73.9692)


def read_checkins(settings: HistoriesSettings, rejects: Rejects) -> Source:
    """The three files of the folder as tables: check-ins are events, venues items.

    Raises ConfigError: `path` is not given. DataError: the folder or one of its files is missing or lacks a column.
    """
    folder = settings.path
    if folder is None:
        raise ConfigError("histories.path should name the folder with checkins.csv, venues.csv and weather; add it.")
    if not folder.is_dir():
        raise DataError(f"{folder} should be the folder of nyc-checkins but does not exist; check histories.path.")
    latitude, longitude = _CENTRAL_PARK
    weather = folder / "weather_central_park_daily.csv"
    tables = {
        "events": TableSettings(path=folder / "checkins.csv", columns={"item_id": "venue_id", "time": "utc_time"}),
        "items": TableSettings(path=folder / "venues.csv", columns={"item_id": "venue_id"}),
        "weather": WeatherSettings(path=weather, columns=_WEATHER, latitude=latitude, longitude=longitude),
    }
    return read_tables(settings.model_copy(update=tables), rejects, title=_TITLE)
