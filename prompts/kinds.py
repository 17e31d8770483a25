"""Kinds of context: which columns and variables speak of time, of place and of weather, and lines that leave some out.

What is left out is empty: words are "", numbers and truths are null, and the line is tidied, so that any template reads
well without it. Titles are what is chosen and no context: they stay, also where they name a neighbourhood.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, get_args

import polars as pl

from ..errors import PromptError
from ..histories.weather import WEATHER_COLUMNS
from .places import PLACE_VARIABLES
from .time_and_weather import TIME_VARIABLES, WEATHER_VARIABLES

ContextKind = Literal["time", "place", "weather"]
CONTEXT_KINDS: Final[tuple[ContextKind, ...]] = get_args(ContextKind)

COORDINATES: Final = ("latitude", "longitude")
_COLUMNS: Final[dict[str, ContextKind]] = {
    "local_time": "time", "hour_known": "time", "holiday": "time",
    **dict.fromkeys((*COORDINATES, "place", "origin", "neighbourhood", "borough", "city", "distance_km"), "place"),
    **dict.fromkeys(WEATHER_COLUMNS, "weather"),
}  # fmt: skip
# What `context_frame` computes. `new_day` says where a template shows more than the hour, see `context_changes`.
VARIABLES: Final[dict[ContextKind, tuple[str, ...]]] = {
    "time": ("weekday", "is_weekend", "hour", "hour12", "daypart", "day_of_month", "month", "season",
             "days_since_previous", "new_day", *TIME_VARIABLES),
    "place": ("place", *PLACE_VARIABLES),
    "weather": ("temperature_c", "temperature_f", "temperature_word", "precipitation_word", "wind_word",
                "precipitation_mm", "wind_mps", "weather", *WEATHER_VARIABLES),
}  # fmt: skip
PROFILE_TIME: Final = ("days", "hours")

_SEPARATORS = re.compile(r"(?:\s*[,;|·:])+")
_FIRST = re.compile(r"^[\s,;|·:]+(?=\S)")
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")
_OPENED = re.compile(r"([(\[])[\s,;|·]+")
_CLOSED = re.compile(r"[\s,;|·]+([)\]])")


def columns_of(kind: ContextKind, columns: Sequence[str], further: Mapping[str, ContextKind]) -> list[str]:
    """Which of the `columns` of events speak of `kind`, in their order.

    `further` says so of context columns whose names say nothing (`prompts.column_kinds`), and goes before what names
    say. Raises PromptError where it names a column that is not there, for what is to be left out would then be shown.
    """
    if absent := sorted(further.keys() - set(columns)):
        raise PromptError(
            f"prompts.column_kinds names {absent[0]!r}, which is no context column of these histories; "
            "correct it, or add the column to histories.context_columns and run `whereupon prepare` again."
        )
    return [name for name in columns if further.get(name, _COLUMNS.get(name)) == kind]


def leave_out(
    frame: pl.DataFrame, events: pl.DataFrame, kinds: Collection[ContextKind], further: Mapping[str, ContextKind]
) -> pl.DataFrame:
    """The variables that `context_frame` made of `events`, without some kinds of context.

    Without time there are no days: `new_day` is then where something else changes, see `context_changes`.
    """
    gone = {name for kind in kinds for name in (*VARIABLES[kind], *columns_of(kind, events.columns, further))}
    emptied = frame.with_columns(_empty(frame.schema[name]).alias(name) for name in frame.columns if name in gone)
    changes = "time" in kinds and "new_day" in frame.columns
    return emptied.with_columns(context_changes(emptied, events, further)) if changes else emptied


def context_changes(frame: pl.DataFrame, events: pl.DataFrame, further: Mapping[str, ContextKind]) -> pl.Series:
    """`new_day` where days are not to be shown: boolean, a row an event.

    True for a user's first event, and where the words for the weather or for the place (coordinates are none) differ
    from those of the event before. A template that shows them once a day then shows them when they are others, and
    that they are shown does not betray the day.
    """
    places = [name for name in columns_of("place", events.columns, further) if name not in COORDINATES]
    weather_names = [name for name in ("weather", *places) if name in frame.columns]
    before = events.select("user_idx").hstack(frame.select(weather_names))
    return before.select(pl.any_horizontal(pl.all().ne_missing(pl.all().shift(1))).alias("new_day")).to_series()


def leave_out_of_profile(frame: pl.DataFrame, kinds: Collection[ContextKind]) -> pl.DataFrame:
    """The variables of `profile_frame` without some kinds: it shows time alone, beside how often."""
    return frame.with_columns(pl.lit("").alias(name) for name in PROFILE_TIME) if "time" in kinds else frame


def tidy(line: str) -> str:
    """One line without what empty variables leave: doubled spaces, separators beside each other, empty brackets.

    Of neighbouring separators the last one stays, as it is the one that closes the line: "Monday, , :" is "Monday:".
    """
    while (tidied := _tidied(line)) != line:  # brackets may stand in brackets
        line = tidied
    return line


def _tidied(line: str) -> str:
    line = _CLOSED.sub(r"\1", _OPENED.sub(r"\1", line))
    line = _SEPARATORS.sub(_last, _EMPTY_BRACKETS.sub(" ", line))
    return " ".join(_FIRST.sub("", line).split())


def _last(separators: re.Match[str]) -> str:
    """The last one, with a space before it where it is one that stands between spaces."""
    last = separators[0][-1]
    return f" {last}" if last in "|·" and separators[0][0].isspace() else last


def _empty(dtype: pl.DataType) -> pl.Expr:
    return pl.lit("") if dtype == pl.String else pl.lit(None, dtype)
