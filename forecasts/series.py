"""Counts of events by group of items and by hour or day, on one clock.

The clock is UTC plus one offset, that of most events. So whatever is counted before an hour began is earlier than any
time in that hour, also where users live in several time zones.

Shapes: N = events, I = items, S = series, T = steps (hours or days).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import numpy as np
import polars as pl

from ..arrays import Bool, Float64, Int64
from ..errors import DataError
from ..histories import Histories
from ..histories.distance import has_coordinates

By = Literal["category", "area", "item"]
Every = Literal["hour", "day"]
THE_REST: Final = "the rest"
CELL_DEGREES: Final = 0.02  # an area: about two kilometres from south to north
STEP_S: Final[dict[Every, int]] = {"hour": 3_600, "day": 86_400}
_YEAR_S = 31_557_600


@dataclass(frozen=True)
class Grouping:
    """Which series each item counts for.

    `names` are those of S series; the last is "the rest" where items are pooled. `series_I` int64 [I]. `num_pooled` is
    how many groups are pooled as the rest, since they are too many or have too few events.
    """

    names: tuple[str, ...]
    series_I: Int64
    num_pooled: int


@dataclass(frozen=True)
class Series:
    """Counts, float64 [S, T], of the steps from `first_step` on.

    Steps are counted from 1970-01-01 00:00 on the clock of `offset_s` seconds after UTC; each takes `step_s` seconds.
    """

    count_ST: Float64
    first_step: int
    step_s: int
    offset_s: int

    def step_of(self, time_s_X: Int64) -> Int64:
        """The column of each time, in unix seconds; columns may lie outside of T."""
        step_X: Int64 = (time_s_X + self.offset_s) // self.step_s - self.first_step
        return step_X

    def when(self, column: int) -> datetime:
        """When a column begins, on the clock of the series."""
        return datetime(1970, 1, 1) + timedelta(seconds=(self.first_step + column) * self.step_s)


def group_items(histories: Histories, by: By, counted_N: Bool, *, most: int = 20, least_events: int = 30) -> Grouping:
    """The `most` groups with the most of the counted events, each with at least `least_events`; all others are pooled.

    Raises:
        DataError: the items have no categories or no coordinates.
    """
    name_I = _names(histories, by)
    names = name_I.unique(maintain_order=True)
    group_I = name_I.replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    count_G = np.bincount(group_I[histories.item_idx_N[counted_N]], minlength=len(names))
    order_G = np.argsort(-count_G, kind="stable")
    large_L = order_G[:most][count_G[order_G[:most]] >= least_events]
    series_G = np.full(len(names), len(large_L), np.int64)
    series_G[large_L] = np.arange(len(large_L))
    pooled = len(names) - len(large_L)
    shown = tuple(str(names[int(group)]) for group in large_L) + (THE_REST,) * (pooled > 0)
    return Grouping(shown, series_G[group_I], pooled)


def _names(histories: Histories, by: By) -> pl.Series:
    items = histories.items
    if by == "item":
        return items["item_id"].cast(pl.String)
    if by == "category":
        if "category" not in items.columns:
            raise DataError("Items should have a column `category` but have none; say --by item or --by area.")
        return items["category"].cast(pl.String).fill_null("no category")
    if not has_coordinates(items):
        raise DataError("Items should have a latitude and a longitude but have none; say --by item or --by category.")
    south, west = (
        (pl.col(name) / CELL_DEGREES).floor() * CELL_DEGREES + CELL_DEGREES / 2 for name in ("latitude", "longitude")
    )
    at = pl.concat_str([south.round(2).cast(pl.String), west.round(2).cast(pl.String)], separator=", ")
    return items.select(at.fill_null("no coordinates")).to_series()


def count_series(
    histories: Histories, grouping: Grouping, every: Every, counted_N: Bool | None = None, *, most_years: int = 200
) -> Series:  # fmt: skip
    """Counts of the events that may count for all users, from the first whole day to the last step that is over.

    `counted_N` bool [N] says which events there are; None: all. The last step is the one before that of the last event,
    for it may still be under way. Raises DataError where no step is over, or where events lie more than `most_years`
    apart: a single wrong date would make millions of steps without an event.
    """
    counted_N = histories.shared_N if counted_N is None else histories.shared_N & counted_N
    time_N, step_s = histories.time_s_N[counted_N], STEP_S[every]
    if not len(time_N):
        raise DataError("Counts need events but there are none; run `whereupon prepare` on more data.")
    offset_s = clock_offset_s(histories, counted_N)
    step_N = (time_N + offset_s) // step_s
    a_day = STEP_S["day"] // step_s
    first = int(step_N.min()) // a_day * a_day
    num_steps = int(step_N.max()) - first
    if num_steps < 1:
        raise DataError(f"All events lie in one {every}; a forecast needs some days of events.")
    if num_steps * step_s > most_years * _YEAR_S:
        days = [str(np.datetime64(int(time), "s"))[:10] for time in (time_N.min(), time_N.max())]
        or_else = ", or say --every day" if every == "hour" else ""
        raise DataError(
            f"Events counted by the {every} should lie within {most_years} years but lie between {days[0]} and "
            f"{days[1]}; correct wrong dates and run `whereupon prepare` again{or_else}."
        )
    num_series = len(grouping.names)
    inside_N = step_N < first + num_steps
    cell_N = grouping.series_I[histories.item_idx_N[counted_N]] * num_steps + step_N - first
    count_X = np.bincount(cell_N[inside_N], minlength=num_series * num_steps).astype(np.float64)
    return Series(count_X.reshape(num_series, num_steps), first, step_s, offset_s)


def clock_offset_s(histories: Histories, counted_N: Bool) -> int:
    """How far most local clocks are ahead of UTC, in whole hours, as seconds."""
    events = histories.events.filter(pl.Series(counted_N))
    local_s_N = events["local_time"].cast(pl.Datetime("us")).dt.epoch("s").to_numpy()
    hour_N = np.round((local_s_N - histories.time_s_N[counted_N]) / 3_600).astype(np.int64)
    hours, count = np.unique(hour_N, return_counts=True)
    return int(hours[count.argmax()]) * 3_600
