"""Time, weather and place of a request, given in words, become the row of an open question."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from ..errors import DataError, PromptError, first_line
from ..histories import Histories
from ..histories.weather import WEATHER_COLUMNS
from ..prompts import ContextKind
from .store.event import ContextValue

_TEMPERATURE = re.compile(r"([-−]?\d+(?:\.\d+)?)\s*°?\s*([CF])\b", re.IGNORECASE)  # noqa: RUF001  # also a true minus
_PLACE = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*$")
# What a word means in the units of the data: a small amount, but enough for the word to appear in a prompt.
_WORDS: dict[str, dict[str, float]] = {
    "snow": {"snowfall_cm": 2.0, "precipitation_mm": 2.0},
    "rain": {"snowfall_cm": 0.0, "precipitation_mm": 4.0},
    "storm": {"wind_mps": 15.0},
    "wind": {"wind_mps": 10.0},
    "calm": {"wind_mps": 1.0},
    **{word: {"snowfall_cm": 0.0, "precipitation_mm": 0.0} for word in ("clear", "dry", "sun", "fair")},
}
_KNOWN_FOR = timedelta(hours=24)
# Columns of events that are no context of their own.
OWN_COLUMNS = frozenset(
    {"user_id", "item_id", "user_idx", "item_idx", "time", "local_time", "split", "latitude", "longitude"}
)


@dataclass(frozen=True)
class RequestContext:
    """When (ISO time, local to the user unless it has an offset), in which weather (words) and where ('LAT,LON' in
    degrees) of the request, and further context columns of the histories with their values."""

    at: str | None = None
    weather: str | None = None
    place: str | None = None
    columns: Mapping[str, ContextValue] = field(default_factory=dict)

    def versus(self, text: str) -> RequestContext:
        """Another request: pieces between semicolons, each a time, a place or else the weather, replace this one's."""
        other = self
        for piece in filter(None, map(str.strip, text.split(";"))):
            kind = "place" if _PLACE.match(piece) else "at" if _is_time(piece) else "weather"
            changed: dict[str, Any] = {kind: piece}
            other = replace(other, **changed)
        return other

    def check(self) -> None:
        """Raise PromptError for a time, a weather or a place that cannot be used."""
        if self.at is not None:
            _check_time(self.at)
        if self.weather is not None:
            parse_weather(self.weather)
        if self.place is not None:
            parse_place(self.place)

    def without_place(self) -> RequestContext:
        """The same for prompts in which no place is named."""
        return replace(self, place=None)

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.at, self.weather, self.place))) or "right after the last event"


def parse_weather(text: str) -> dict[str, float]:
    """Weather columns for words such as 'snow, -3 C' or 'clear 54 F windy'. Raises PromptError for other words."""
    values: dict[str, float] = {}
    found = _TEMPERATURE.search(text)
    if found:
        degrees = float(found[1].replace("−", "-"))  # noqa: RUF001
        values["temperature_c"] = degrees if found[2].upper() == "C" else (degrees - 32) * 5 / 9
    for word in re.findall(r"[^\s,;/]+", _TEMPERATURE.sub(" ", text, count=1).lower()):
        stem = next((stem for stem in _WORDS if word.startswith(stem)), None)
        if stem is None:
            raise PromptError(
                f"The weather {text!r} has the word '{word}'; expected a temperature such as '-3 C' or '27 F' "
                f"and words among {', '.join(_WORDS)}."
            )
        values |= _WORDS[stem]
    if not values:
        raise PromptError(f"The weather {text!r} says nothing; expected for example 'snow, -3 C'.")
    return values


def check_context(context: RequestContext, left_out: Collection[ContextKind]) -> None:
    """Raise PromptError for weather that the prompts of a run leave out, for it would change nothing."""
    if context.weather is not None and "weather" in left_out:
        raise PromptError("prompts.leave_out names weather, so no prompt shows it: leave the weather out.")


def open_question(
    histories: Histories, events: pl.DataFrame, context: RequestContext, time_zone: str | None = None
) -> pl.DataFrame:
    """One person's events before the request's time and, as last row with `item_idx` -1, the request; `user_idx` is 0.

    `events` are in order, in the columns of the histories' events; there may be none if the request has a time. Where
    the request does not say, the weather is that of the last event if it is less than a day old, else unknown; further
    context is that of the last event. Raises DataError where no event lies before that time, PromptError for a time,
    place or weather that cannot be read or that these events know nothing of. `time_zone`: that of all users, if the
    configuration names one; else a user's own events say what their clock shows.
    """
    if not events.height:
        return _first_question(histories, events, context, time_zone)
    local = _local_time(context.at, events, time_zone)
    if local is not None:
        first, user_id = events["local_time"][0], events["user_id"][0]
        events = events.filter(pl.col("local_time") < local)
        if not events.height:
            raise DataError(f"User {user_id} has no event before {local}: the first one is at {first} local time.")
    last = events[-1]
    row = last.with_columns(item_idx=pl.lit(-1, pl.Int32))
    if local is not None:
        shift = local - last["local_time"][0]
        row = row.with_columns(pl.col("local_time") + shift, pl.col("time") + shift)
        if "hour_known" in row.columns:  # the hour of a request is shown where hours are shown at all
            row = row.with_columns(
                pl.lit(bool(histories.events["hour_known"].fill_null(True).any())).alias("hour_known")
            )
        if shift >= _KNOWN_FOR:
            row = with_weather(row, {})
    row = _as_said(histories, row, context)
    # "diagonal": snow that was requested is shown as snow, also where the data know rain and cold only.
    both = pl.concat([events, row], how="diagonal_relaxed")
    return both.with_columns(user_idx=pl.lit(0, pl.Int32))


def _first_question(
    histories: Histories, events: pl.DataFrame, context: RequestContext, time_zone: str | None
) -> pl.DataFrame:  # fmt: skip
    """The request alone, for an unknown user; a time without an offset is local, as in every prompt."""
    if context.at is None or not _is_time(context.at):
        raise PromptError(f"Without events, the request needs a time in ISO 8601, not {context.at!r}; give either.")
    at, zone = datetime.fromisoformat(context.at), ZoneInfo(time_zone) if time_zone else None
    at = at.replace(tzinfo=zone or UTC) if at.tzinfo is None else at.astimezone(zone) if zone else at
    known = {
        "user_id": "", "user_idx": 0, "item_idx": -1, "local_time": at.replace(tzinfo=None), "time": at.astimezone(UTC),
    }  # fmt: skip
    return _as_said(histories, pl.DataFrame([known], schema=events.schema), context)


def _as_said(histories: Histories, row: pl.DataFrame, context: RequestContext) -> pl.DataFrame:
    """The open row with the weather and the place that the request names."""
    if context.weather is not None:
        values = parse_weather(context.weather)
        if not any(name in row.columns for name in WEATHER_COLUMNS):
            raise PromptError("These events have no weather, so no prompt shows it: leave the weather out.")
        row = with_weather(row, values)
    if context.place is not None:
        row = row.with_columns(pl.lit(value).alias(name) for name, value in _at_place(histories, context.place).items())
    return _with_columns(row, context.columns)


def _with_columns(row: pl.DataFrame, columns: Mapping[str, ContextValue]) -> pl.DataFrame:
    """The open row with further context columns as the request gives them."""
    known = [name for name in row.columns if name not in OWN_COLUMNS]
    if unknown := sorted(columns.keys() - set(known)):
        found = ", ".join(known) or "none"
        raise PromptError(f"The context has no column {unknown[0]!r}; the histories have {found}.")
    try:
        return row.with_columns(pl.lit(value, row.schema[name]).alias(name) for name, value in columns.items())
    except (pl.exceptions.PolarsError, TypeError) as error:
        what = "A column of the context has a value of another kind than the histories'"
        raise PromptError(f"{what} ({first_line(error)}).") from None


def with_weather(row: pl.DataFrame, values: Mapping[str, float | str]) -> pl.DataFrame:
    """The row with this weather and no other."""
    unknown = {name: None for name in WEATHER_COLUMNS if name in row.columns}
    merged = {**unknown, **values}
    kinds = {"condition": pl.String}
    return row.with_columns(
        pl.lit(value, row.schema.get(name, kinds.get(name, pl.Float64))).alias(name) for name, value in merged.items()
    )


def _check_time(at: str) -> None:
    if not _is_time(at):
        raise PromptError(f"The time {at!r} cannot be read; expected ISO 8601, such as 2013-01-26T19:00.")


def _is_time(text: str) -> bool:
    try:
        time = datetime.fromisoformat(text)
        for hours in (-24, 24) if time.tzinfo else ():  # whatever the clock of the user, it can be said in it
            time.astimezone(UTC) + timedelta(hours=hours)
    except (ValueError, OverflowError):
        return False
    return True


def _local_time(at: str | None, events: pl.DataFrame, time_zone: str | None) -> datetime | None:
    """`at` in the user's local time; a time with an offset is converted to the time zone of all users, or else by the
    offset of the user's last event before then."""
    if at is None:
        return None
    _check_time(at)
    time = datetime.fromisoformat(at)
    if time.tzinfo is None:
        return time
    if time_zone:
        return time.astimezone(ZoneInfo(time_zone)).replace(tzinfo=None)
    earlier = events.filter(pl.col("time") < time)
    near = earlier[-1] if earlier.height else events[0]
    utc_offset: timedelta = near["local_time"][0] - near["time"].dt.replace_time_zone(None)[0]
    return time.astimezone(UTC).replace(tzinfo=None) + utc_offset


def parse_place(text: str) -> tuple[float, float]:
    """Latitude and longitude of 'LAT,LON' in degrees. Raises PromptError for what is no place on earth."""
    found = _PLACE.match(text)
    if not found or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        raise PromptError(f"The place {text!r} cannot be read; expected LAT,LON in degrees, such as 40.64,-73.78.")
    return float(found[1]), float(found[2])


def places_in_prompts(histories: Histories) -> bool:
    """Whether a prompt may speak of where the user is: events have coordinates, and not those of the chosen items."""
    return histories.location == "context" and histories.events["latitude"].count() > 0


def _at_place(histories: Histories, place: str) -> dict[str, float | str]:
    """Coordinates, and those context columns that every event at the nearest known place agrees on."""
    latitude, longitude = parse_place(place)
    if histories.location != "context":
        raise PromptError(
            "These events' coordinates are those of the chosen items, so no prompt shows a place: "
            "leave the place out, or let it filter what is near."
        )
    context = [str(name) for name in histories.manifest["context_columns"]]
    known = histories.events.drop_nulls(["latitude", "longitude"])
    places = known.group_by("latitude", "longitude", maintain_order=True).agg(
        *(pl.col(name).first() for name in context), *(pl.col(name).n_unique().alias(f"{name}?") for name in context)
    )
    if not places.height:
        raise DataError("No event has coordinates, so a place means nothing here: leave it out.")
    degrees_east = (places["longitude"].to_numpy() - longitude + 180) % 360 - 180  # the short way round
    east = degrees_east * np.cos(np.radians(latitude))
    nearest = int(np.argmin(east**2 + (places["latitude"] - latitude).to_numpy() ** 2))
    row = places.row(nearest, named=True)
    return {"latitude": latitude, "longitude": longitude} | {c: row[c] for c in context if row[f"{c}?"] == 1}
