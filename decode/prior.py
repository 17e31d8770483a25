"""A prior over items from counts: popularity in training, and a person's own past.

Pure functions of counts. That these are of the past is the caller's business: pass training counts, and of a person
only events before the moment of the question. Under leave_one_out, training counts hold later events of others, as the
model's own training does; figures of that protocol say so (`histories.CAVEATS`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..catalogue import Trie
from .protocol import Int64
from .reweighting import Float64, ItemPrior, Own, told

__all__ = ["WITHOUT_CLOCK", "ContextSettings", "PriorSettings", "own_masses", "popularity_prior"]

# Hours so wide that all are alike, and all days of one kind.
WITHOUT_CLOCK: Final = {"hour_sigma": 1e9, "other_kind_of_day": 1.0}


class ContextSettings(BaseModel):
    """How a person's own events and everybody's moves become masses beside popularity, whose masses add up to 1.

    The weights of own events are those of the baseline "context-weighted own events" and default to its own. The other
    defaults are by the log-likelihood of the prior alone on validation events of nyc-checkins: half or twice of any one
    of own smoothing, moves and moves smoothing gains less than 0.01 nats over them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    own_smoothing: float = Field(
        2.5, gt=0, description="Total weight of own events that is worth as much as what is popular among all."
    )
    age_days: float = Field(30.0, gt=0, description="Days in which the weight of an own event falls by e.")
    hour_sigma: float = Field(
        1.5, gt=0, description="Hours of the standard deviation of a Gaussian over the distance of times of day."
    )
    hour_floor: float = Field(0.03, ge=0, description="What is left of the weight at another time of day.")
    other_kind_of_day: float = Field(
        0.5, ge=0, description="Factor for a working day's event at a weekend, and the reverse."
    )
    same_previous: float = Field(
        7.0, ge=0, description="Factor for an event that followed upon the item where the person is now."
    )
    moves: float = Field(
        0.2, ge=0, description="What all users' moves out of the last item are worth in all, where they are many."
    )
    moves_smoothing: float = Field(5.0, ge=0, description="How many moves are worth half of that.")

    def without_clock(self) -> ContextSettings:
        """The same, asking neither for the time of day nor for the kind of day; the age of events stays."""
        return self.model_copy(update=WITHOUT_CLOCK)


class PriorSettings(BaseModel):
    """How counts become a prior.

    Defaults by the log-likelihood of the prior alone on validation events of nyc-checkins: 10 is the best own smoothing
    of 5, 8, 10, 15 and 20; a popularity smoothing of 30 or 100 gains less than 0.02 nats over 10.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    popularity_smoothing: float = Field(
        10.0, gt=0, description="Added to every item's count in training: how often a never seen item counts."
    )
    own_smoothing: float = Field(
        10.0, gt=0, description="How many of a person's own events weigh as much as what is popular among all."
    )
    context: ContextSettings = Field(
        default_factory=ContextSettings, description="How own events count by their context, for the one of that name."
    )


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
