"""A prior over items from counts: popularity in training, and a person's own past.

Pure functions of counts. That these are of the past is the caller's business: pass training counts, and of a person
only events before the moment of the question. Under leave_one_out, training counts hold later events of others, as the
model's own training does; figures of that protocol say so (`histories.CAVEATS`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64
from ..catalogue import Trie
from ..decode.reweighting import ItemPrior, Own, told
from ..decode.settings import PriorSettings

__all__ = ["own_masses", "popularity_prior"]


def popularity_prior(trie: Trie, count_N: NDArray[np.generic], settings: PriorSettings) -> ItemPrior:
    """The share of each item (by item index) in training: (count + a) / sum of (count + a), the same for everybody.

    Raises ValueError for counts that are none, or of other items.
    """
    count = np.asarray(count_N, np.float64)
    if count.shape != (trie.num_items,) or not (np.isfinite(count).all() and (count >= 0).all()):
        raise ValueError(f"expected a count of at least 0 for each of {trie.num_items} items, not {told(count)}")
    smoothed = count + settings.popularity_smoothing
    return ItemPrior(trie, smoothed / smoothed.sum())


def own_masses(item_M: Int64, settings: PriorSettings, weight_M: Float64 | None = None) -> Own:
    """What a person's M past events (items, each with a weight, 1 by default) add to `popularity_prior`.

    With s = own_smoothing and n events the blend is proportional to (own count + s * share) / (n + s): the posterior
    mean under s events of what is popular. No events, nothing added. For `ItemPrior.with_own`, one pair per question.
    """
    weight = np.ones(len(item_M)) if weight_M is None else np.asarray(weight_M, np.float64)
    return np.asarray(item_M, np.int64), weight / settings.own_smoothing
