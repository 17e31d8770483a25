"""How much each training event counts: more for recent ones, less for popular items."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Float32
from .settings import WeightSettings

_DAY: Final = timedelta(days=1)


def event_weights(events: pl.DataFrame, settings: WeightSettings) -> Float32 | None:
    """float32 [N]: weights of training events, whose mean is 1; None where all count the same.

    Recency: a half for each `half_life_days` before the last event. Popularity: the item's share of the events to the
    power of -`popularity_power` (inverse propensity scoring, arXiv 1602.05352).
    """
    if settings.half_life_days is None and not settings.popularity_power:
        return None
    weight_N = np.ones(events.height)
    if settings.half_life_days is not None:
        age_N = ((events["time"].max() - events["time"]) / _DAY).to_numpy()
        weight_N *= 0.5 ** (age_N / settings.half_life_days)
    if settings.popularity_power:
        item_N = events["item_idx"].to_numpy()
        weight_N *= np.bincount(item_N)[item_N] ** -settings.popularity_power
    found_N: Float32 = (weight_N / weight_N.mean()).astype(np.float32)
    return found_N
