"""The moment that a person asks about: time, weather and place, said in words, become the row of an open question."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from ..errors import DataError, PromptError
from ..histories import Histories

_TEMPERATURE = re.compile(r"(-?\d+(?:\.\d+)?)\s*°?\s*([CF])\b", re.IGNORECASE)
_PLACE = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*$")
# What a word says in the units of the data: a little of it, enough to be told in the words of a prompt.
_WORDS: dict[str, dict[str, float]] = {
    "snow": {"snowfall_cm": 2.0, "precipitation_mm": 2.0},
    "rain": {"snowfall_cm": 0.0, "precipitation_mm": 4.0},
    "storm": {"wind_mps": 15.0},
    "wind": {"wind_mps": 10.0},
    "calm": {"wind_mps": 1.0},
    **dict.fromkeys(("clear", "dry", "sun", "fair"), {"snowfall_cm": 0.0, "precipitation_mm": 0.0, "wind_mps": 2.0}),
}
_KNOWN_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class Moment:
    """`at` ISO time, local to the user unless it carries an offset; `weather` in words; `place` 'LAT,LON'. All optional."""

    at: str | None = None
    weather: str | None = None
    place: str | None = None

    def versus(self, text: str) -> Moment:
        """Another moment: pieces between semicolons, each a time, a place or else the weather, replace those of this one."""
        other = self
        for piece in filter(None, map(str.strip, text.split(";"))):
            kind = "place" if _PLACE.match(piece) else "at" if _is_time(piece) else "weather"
            other = replace(other, **{kind: piece})
        return other

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.at, self.weather, self.place))) or "right after the last event"


def parse_weather(text: str) -> dict[str, float]:
    """Weather columns for words such as 'snow, -3 C' or 'clear 54 F windy'. Raises PromptError for other words."""
    values: dict[str, float] = {}
    found = _TEMPERATURE.search(text)
    if found:
        degrees = float(found[1])
        values["temperature_c"] = degrees if found[2].upper() == "C" else (degrees - 32) * 5 / 9
    for word in re.findall(r"[a-z]+", _TEMPERATURE.sub(" ", text).lower()):
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


def question(histories: Histories, user_id: str, moment: Moment) -> pl.DataFrame:
    """The user's events before the moment and, as last row with `item_idx` -1, the moment itself; `user_idx` is 0.

    Where the moment does not say, the weather is that of the user's last event if it is less than a day old, else
    unknown; further context is that of the last event. Raises DataError for an unknown user or one without an earlier
    event, PromptError for a time, place or weather that cannot be read.
    """
    user = histories.user(user_id)
    events = histories.events[histories.offset_U1[user] : histories.offset_U1[user + 1]]
    local = _local_time(moment.at, events)
    if local is not None:
        first = events["local_time"][0]
        events = events.filter(pl.col("local_time") < local)
        if not events.height:
            raise DataError(f"User {user_id} has no event before {local}: the first one is at {first} local time.")
    last = events[-1]
    row = last.with_columns(item_idx=pl.lit(-1, pl.Int32))
    if local is not None:
        shift = local - last["local_time"][0]
        row = row.with_columns(pl.col("local_time") + shift, pl.col("time") + shift)
        row = (
            row
            if shift <= _KNOWN_FOR
            else row.with_columns(pl.lit(None, row.schema[c]).alias(c) for c in _weather_of(row))
        )
    if moment.weather is not None:
        values = parse_weather(moment.weather)
        row = row.with_columns(pl.lit(values.get(c), row.schema[c]).alias(c) for c in _weather_of(row))
    if moment.place is not None:
        row = row.with_columns(pl.lit(value).alias(name) for name, value in _at_place(histories, moment.place).items())
    return pl.concat([events, row.select(events.columns)], how="vertical_relaxed").with_columns(
        user_idx=pl.lit(0, pl.Int32)
    )


def _weather_of(row: pl.DataFrame) -> list[str]:
    known = {"temperature_c", "precipitation_mm", "snowfall_cm", "snow_depth_cm", "wind_mps", "condition"}
    return [name for name in row.columns if name in known]


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _local_time(at: str | None, events: pl.DataFrame) -> datetime | None:
    """`at` in the user's local time; an explicit offset is converted by the local offset of the user's last event."""
    if at is None:
        return None
    if not _is_time(at):
        raise PromptError(f"The time {at!r} cannot be read; expected ISO 8601, such as 2013-01-26T19:00.")
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        return moment
    utc_offset: timedelta = events["local_time"][-1] - events["time"].dt.replace_time_zone(None)[-1]
    shifted = (moment - moment.utcoffset()).replace(tzinfo=None)  # type: ignore[operator]  # aware, so it has one
    return shifted + utc_offset


def _at_place(histories: Histories, place: str) -> dict[str, float | str]:
    """Coordinates, and those context columns that every event at the nearest known place agrees on."""
    found = _PLACE.match(place)
    if not found or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        raise PromptError(f"The place {place!r} cannot be read; expected LAT,LON in degrees, such as 40.64,-73.78.")
    if histories.location != "context":
        raise PromptError(
            "These events' coordinates are those of the chosen items, so no prompt speaks of a place: leave --place out."
        )
    latitude, longitude = float(found[1]), float(found[2])
    context = [str(name) for name in histories.manifest["context_columns"]]
    known = histories.events.drop_nulls(["latitude", "longitude"])
    places = known.group_by("latitude", "longitude", maintain_order=True).agg(
        *(pl.col(name).first() for name in context), *(pl.col(name).n_unique().alias(f"{name}?") for name in context)
    )
    if not places.height:
        raise DataError("No event has coordinates, so --place means nothing here: leave it out.")
    east = (places["longitude"] - longitude).to_numpy() * np.cos(np.radians(latitude))
    nearest = int(np.argmin(east**2 + (places["latitude"] - latitude).to_numpy() ** 2))
    row = places.row(nearest, named=True)
    return {"latitude": latitude, "longitude": longitude} | {c: row[c] for c in context if row[f"{c}?"] == 1}
