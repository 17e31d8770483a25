"""Further variables of a template: computed for the templates that name them, and for no others.

So a template that names none of them reads as it always did, and costs as little.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Float64
from .moments import (
    TIME_VARIABLES,
    WEATHER_VARIABLES,
    public_holiday,
    season_here,
    since_last,
    sun_words,
    weather_change,
)
from .places import PLACE_VARIABLES, known_degrees, place_columns

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

    def columns(self, events: pl.DataFrame, location: str, told: pl.DataFrame, own: Sequence[str]) -> list[pl.Series]:
        """The wanted variables of `events`; `told` are those that every template has.

        A context column of the data's `own` goes before a variable of its name. A column named like a variable with an
        underscore before it replaces what would be computed, as in `context_frame`.
        """
        given = [name for name in FEATURES if f"_{name}" in events.columns and name not in own]
        wanted = self.wanted - set(own) - set(given)
        found = [events[f"_{name}"].alias(name) for name in given if name in self.wanted]
        if wanted & set(PLACE_VARIABLES):
            places = place_columns(events, location, self.names_I)
            found += [places[name] for name in PLACE_VARIABLES if name in wanted]
        if "since_last" in wanted:
            found.append(since_last(events))
        if wanted & {"sun", "season_here"}:
            degrees_N2 = known_degrees(events, location)
            found += [series for series in _of_the_sky(events, degrees_N2) if series.name in wanted]
        if "public_holiday" in wanted:
            found.append(public_holiday(events, self.country))
        if "weather_change" in wanted:
            found.append(weather_change(events, told))
        return found


def _of_the_sky(events: pl.DataFrame, degrees_N2: Float64) -> list[pl.Series]:
    latitude_N, longitude_N = np.ascontiguousarray(degrees_N2.T)
    return [sun_words(events, latitude_N, longitude_N), season_here(events, latitude_N)]
