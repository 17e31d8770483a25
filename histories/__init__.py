"""Reading, cleaning, joining weather, local time and place, splitting."""

from .drafting import draft_configuration, write_draft
from .exporting import export_data
from .preparing import TitleMaker, catalogue_hash, prepare
from .settings import HistoriesSettings, SplitSettings, TableSettings, WeatherJoinSettings, WeatherSettings
from .source import read_items
from .splitting import CAVEATS, HISTORY, SPLITS
from .store import Histories, build_histories, histories_folder, read_histories
from .summary import PrepareReport
from .weather_fetch import fetch_weather

__all__ = [
    "CAVEATS", "HISTORY", "SPLITS", "Histories", "HistoriesSettings", "PrepareReport", "SplitSettings", "TableSettings",
    "TitleMaker", "WeatherJoinSettings", "WeatherSettings", "build_histories", "catalogue_hash", "draft_configuration",
    "export_data", "fetch_weather", "histories_folder", "prepare", "read_histories", "read_items", "write_draft",
]  # fmt: skip
