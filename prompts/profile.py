"""The profile: what a prompt says of events that no longer fit, place by place.

A profile at event row `start` counts the user's events before `start` and nothing else, so it is known at every moment
the window that opens there is used for.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .context import DAYPARTS

MANY_TOGETHER_HOURS = 3
SECOND_HOUR_SHARE = 0.25
MAX_PLACES = 64


def profile_frame(
    item_idx_N: NDArray[np.int64], local_time: pl.Series, first_W: NDArray[np.int64], start_W: NDArray[np.int64],
    by_recency: bool = False, hour_known: pl.Series | None = None,
) -> pl.DataFrame:  # fmt: skip
    """The places of the events `first_W[w]:start_W[w]` of each window w, most important first.

    Columns: `window`, `item_idx`, `count` (visits), `share` (of the events shown), `days` ('weekdays', 'weekends',
    'any day'), `hours` (the one or two usual ones, '8 morning, 7 evening' as 'morning 8, evening 7'; "" where
    `hour_known`, boolean, an event each, holds for none of the visits).
    """
    length_W = start_W - first_W
    window_V = np.repeat(np.arange(len(first_W)), length_W)
    event_V = np.arange(len(window_V)) + np.repeat(first_W - np.cumsum(length_W) + length_W, length_W)
    local = local_time.gather(event_V)
    hour = local.dt.hour()
    if hour_known is not None:
        hour = hour.set(~hour_known.gather(event_V).fill_null(True), None)
    age_V = np.repeat(start_W, length_W) - event_V
    visits = pl.DataFrame({
        "window": window_V, "item_idx": item_idx_N[event_V], "hour": hour, "weekday": local.dt.weekday(),
        "weight": 0.5 ** (age_V / 100.0) if by_recency else np.ones(len(age_V)), "event": event_V,
    })  # fmt: skip
    places = (
        visits.group_by("window", "item_idx")
        .agg(pl.len().alias("count"), (pl.col("weekday") >= 6).mean().alias("weekend"), pl.col("weight").sum(),
             pl.col("event").max(), pl.col("hour").drop_nulls())
        .sort(["window", "weight", "event"], descending=[False, True, True])
        .group_by("window", maintain_order=True).head(MAX_PLACES)
    )  # fmt: skip
    weekend = pl.col("weekend")
    days = pl.when(weekend <= 0.1).then(pl.lit("weekdays")).when(weekend >= 0.7).then(pl.lit("weekends"))
    return places.select(
        "window", "item_idx", "count",
        (pl.col("count") / pl.col("count").sum().over("window")).alias("share"),
        days.otherwise(pl.lit("any day")).alias("days"),
        _usual_hours(places["hour"]),
    )  # fmt: skip


def _usual_hours(hours: pl.Series) -> pl.Series:
    """The hour around which most visits fall, and a second one far from it that has a quarter of them."""
    count_P = hours.list.len().to_numpy()
    histogram_PH = np.zeros((len(hours), 24))
    told = hours.explode().drop_nulls().to_numpy()
    np.add.at(histogram_PH, (np.repeat(np.arange(len(hours)), count_P), told), 1.0)
    smooth_PH = histogram_PH + 0.5 * (np.roll(histogram_PH, 1, axis=1) + np.roll(histogram_PH, -1, axis=1))
    first_P = smooth_PH.argmax(axis=1)
    distance_PH = np.abs(np.arange(24) - first_P[:, None])
    near_PH = np.minimum(distance_PH, 24 - distance_PH) <= MANY_TOGETHER_HOURS
    rest_PH = np.where(near_PH, 0.0, smooth_PH)
    second_P = rest_PH.argmax(axis=1)
    far_P = np.where(near_PH, 0.0, histogram_PH).sum(axis=1)
    has_second_P = (far_P >= SECOND_HOUR_SHARE * count_P) & (far_P >= 2)
    names = np.array([f"{DAYPARTS[hour // 6]} {hour % 12 or 12}" for hour in range(24)])
    joined = np.char.add(np.char.add(names[first_P], ", "), names[second_P])
    told_P = np.where(has_second_P, joined, names[first_P])
    return pl.Series("hours", np.where(count_P > 0, told_P, ""))
