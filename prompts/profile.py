"""The profile: what a prompt says of events that no longer fit, place by place.

A profile at event row `start` counts the user's events before `start` and nothing else, so it is known at the time
the window that opens there is used for.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from ..arrays import Float64, Int64, ragged
from .context import DAYPARTS
from .lookup import words_at

MANY_TOGETHER_HOURS = 3
SECOND_HOUR_SHARE = 0.25
MAX_PLACES = 64


def profile_frame(
    item_idx_N: Int64, local_time: pl.Series, first_W: Int64, start_W: Int64,
    by_recency: bool = False, hour_known: pl.Series | None = None,
) -> pl.DataFrame:  # fmt: skip
    """The places of the events `first_W[w]:start_W[w]` of each window w, most important first.

    Columns: `window`, `item_idx`, `count` (visits), `share` (of the events shown), `days` ('weekdays', 'weekends',
    'any day'), `hours` (the one or two usual ones, '8 morning, 7 evening' as 'morning 8, evening 7'; "" where
    `hour_known`, boolean, an event each, holds for none of the visits).
    """
    window_V, event_V = ragged(first_W, start_W - first_W)
    place_V, window_P, item_P = _places(window_V, item_idx_N[event_V])
    weight_V = 0.5 ** ((start_W[window_V] - event_V) / 100.0) if by_recency else np.ones(len(event_V))
    weight_P: Float64 = np.bincount(place_V, weight_V, len(window_P)).astype(np.float64)
    order_P = _most_important(place_V, window_P, weight_P, event_V)
    window_P, item_P, num_P = window_P[order_P], item_P[order_P], len(order_P)

    shown_P = np.full(int(place_V.max(initial=-1)) + 1, -1)
    shown_P[order_P] = np.arange(num_P)
    place_V = shown_P[place_V]
    event_V, place_V = event_V[place_V >= 0], place_V[place_V >= 0]
    count_P = np.bincount(place_V, minlength=num_P)
    local_V = local_time.to_numpy()[event_V]
    weekday_V = (local_V.astype("datetime64[D]").astype(np.int64) + 3) % 7
    weekend_P = np.bincount(place_V, weekday_V >= 5, num_P) / np.maximum(count_P, 1)
    hour_V = local_V.astype("datetime64[h]").astype(np.int64) % 24
    if hour_known is not None:
        known_V = hour_known.fill_null(True).to_numpy()[event_V]
        hour_V, place_V = hour_V[known_V], place_V[known_V]
    histogram_PH = np.bincount(place_V * 24 + hour_V, minlength=num_P * 24).reshape(num_P, 24)
    return pl.DataFrame([
        pl.Series("window", window_P), pl.Series("item_idx", item_P), pl.Series("count", count_P),
        pl.Series("share", count_P / np.bincount(window_P, count_P)[window_P]),
        words_at(_DAYS, np.where(weekend_P <= 0.1, 0, np.where(weekend_P >= 0.7, 1, 2))).alias("days"),
        _usual_hours(histogram_PH),
    ])  # fmt: skip


def _places(window_V: Int64, item_V: Int64) -> tuple[Int64, Int64, Int64]:
    """The place of each visit, int64 [V], and the window and item of each place, int64 [P], by window and item."""
    num_items = int(item_V.max(initial=0)) + 1
    key_P, place_V = np.unique(window_V * num_items + item_V, return_inverse=True)
    return place_V, key_P // num_items, key_P % num_items


def _most_important(place_V: Int64, window_P: Int64, weight_P: Float64, event_V: Int64) -> Int64:
    """The places to be shown, window by window: by weight, equal ones by their latest visit, at most MAX_PLACES."""
    last_P = np.zeros(len(window_P), np.int64)
    last_P[place_V] = event_V  # in order: the latest one stays
    order_P = np.lexsort((-last_P, -weight_P, window_P))
    rank_P = np.arange(len(order_P)) - np.searchsorted(window_P[order_P], window_P[order_P])
    shown_P: Int64 = order_P[rank_P < MAX_PLACES]
    return shown_P


def _usual_hours(histogram_PH: Int64) -> pl.Series:
    """The hour around which most visits fall, and a second one far from it that has a quarter of them."""
    count_P = histogram_PH.sum(axis=1)
    smooth_PH = histogram_PH + 0.5 * (np.roll(histogram_PH, 1, axis=1) + np.roll(histogram_PH, -1, axis=1))
    first_P = smooth_PH.argmax(axis=1)
    distance_PH = np.abs(np.arange(24) - first_P[:, None])
    near_PH = np.minimum(distance_PH, 24 - distance_PH) <= MANY_TOGETHER_HOURS
    rest_PH = np.where(near_PH, 0.0, smooth_PH)
    second_P = rest_PH.argmax(axis=1)
    far_P = np.where(near_PH, 0, histogram_PH).sum(axis=1)
    has_second_P = (far_P >= SECOND_HOUR_SHARE * count_P) & (far_P >= 2)
    told_P = np.where(has_second_P, 24 * (second_P + 1), 0) + first_P
    return words_at(_HOURS, np.where(count_P > 0, told_P, len(_HOURS) - 1)).alias("hours")


_DAYS: Final = pl.Series(["weekdays", "weekends", "any day"])
_HOUR: Final = [f"{DAYPARTS[hour // 6]} {hour % 12 or 12}" for hour in range(24)]
# The first hour alone, then with each second one, then none.
_HOURS: Final = pl.Series([*_HOUR, *(f"{first}, {second}" for second in _HOUR for first in _HOUR), ""])
