"""Further variables of a template: computed for the templates that name them, and for no others.

So a template that names none of them reads as it always did, and costs as little.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from .places import PLACE_VARIABLES, Places, names_of
from .time_and_weather import (
    TIME_VARIABLES,
    WEATHER_VARIABLES,
    public_holiday,
    season_here,
    since_last,
    sun_words,
    weather_change,
)

FEATURES: Final = (*PLACE_VARIABLES, *TIME_VARIABLES, *WEATHER_VARIABLES)


@dataclass(frozen=True, eq=False)
class Features:
    """Which of FEATURES a template names, and what they are made with.

    `names_I`: a name of the place of each item, by item index, null where there is none; `country`: see
    `public_holiday`.
    """

    wanted: frozenset[str] = frozenset()
    country: str = ""
    names_I: pl.Series | None = None

    @classmethod
    def of(cls, variables: Collection[str], country: str, names_I: pl.Series | None) -> Features:
        return cls(frozenset(variables) & set(FEATURES), country, names_I)

    @cached_property
    def _names_I1(self) -> pl.Series | None:
        return None if self.names_I is None else names_of(self.names_I)

    @property
    def needs(self) -> tuple[str, ...]:
        """The variables that every template has of which some of the requested ones are made."""
        return ("precipitation_word", "temperature_c") if "weather_change" in self.wanted else ()

    def columns(self, events: pl.DataFrame, location: str, shown: pl.DataFrame, own: Sequence[str]) -> list[pl.Series]:
        """The requested variables of `events`; `shown` are those that every template has.

        A context column of the data's `own` goes before a variable of its name. A column named like a variable with an
        underscore before it replaces what would be computed, as in `context_frame`.
        """
        given = [name for name in FEATURES if f"_{name}" in events.columns and name not in own]
        wanted = self.wanted - set(own) - set(given)
        found = [events[f"_{name}"].alias(name) for name in given if name in self.wanted]
        places = Places(events, location, self._names_I1)
        found += [places.column(name) for name in PLACE_VARIABLES if name in wanted]
        if "since_last" in wanted:
            found.append(since_last(events))
        if "sun" in wanted:
            found.append(sun_words(events, *places.degrees_here))
        if "season_here" in wanted:
            found.append(season_here(events, places.degrees_here[0]))
        if "public_holiday" in wanted:
            found.append(public_holiday(events, self.country))
        if "weather_change" in wanted:
            found.append(weather_change(events, shown))
        return found
