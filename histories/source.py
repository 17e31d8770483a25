"""The raw tables of one data set, under our column names."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from .settings import HistoriesSettings, Location

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """Raw tables and what is known about them.

    Attributes:
        events: `_row`, `user_id`, `item_id`, `time`, and what else there is, as `read_table` gives it.
        items: `_row`, `item_id` and attributes; None where the events alone tell of items.
        weather: `_row`, and fields of `weather.SOURCE_FIELDS`; None without weather.
        events_name, items_name, weather_name: file names, for rejects and messages.
        files: every file read, for the manifest.
        settings: the settings with what the recipe filled in.
        location: see HistoriesSettings.
        title: Jinja template of the recipe's titles over item columns; None takes the column `title`.
        num_left_out: events outside of the asked slice.
    """

    events: pl.DataFrame
    items: pl.DataFrame | None
    weather: pl.DataFrame | None
    events_name: str
    items_name: str
    weather_name: str
    files: list[Path]
    settings: HistoriesSettings
    location: Location
    title: str | None = None
    num_left_out: int = 0
