"""From what a stack says of questions to what a search makes of the model's distribution.

Shapes: Q = questions, I = items of the trie, X = pairs of question and item, T = items of the histories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import Float64, Int64
from ..catalogue import Trie
from ..decode.reweighting import AgainOrNew, ItemPrior, Own, Reweighting
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from .popular import popular_shares
from .stack import SURE, PriorMasses

_LEAST = 1e-13  # of all masses together: less would be lost in their sums, see `ItemPrior`


@dataclass(frozen=True)
class Pool:
    """Temperature of the model and weight of the prior in one part of the mixture."""

    temperature: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class Pools:
    """Those of items chosen before, and of new ones; without a gate, the latter are all."""

    again: Pool = Pool()
    new: Pool = Pool()

    def as_json(self) -> dict[str, dict[str, float]]:
        """For a file; see `of_json`."""
        return {"again": vars(self.again), "new": vars(self.new)}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Pools:
        """What `as_json` gave. Raises KeyError or TypeError for anything else."""
        return cls(Pool(**found["again"]), Pool(**found["new"]))


@dataclass(eq=False)
class SearchedCatalogue:
    """A catalogue that is searched: its trie, and popularity in it, float64 [I], above 0.

    `index_T` int64 [T]: where the items of the histories stand in it (-1: nowhere), if it is another one.
    """

    trie: Trie
    share_I: Float64
    index_T: Int64 | None = None

    def __post_init__(self) -> None:
        self._rest: tuple[float, ItemPrior, Float64] | None = None

    @classmethod
    def of(cls, known: Histories, split: EvaluatedSplit, trie: Trie, index_T: Int64 | None = None) -> SearchedCatalogue:
        """Items that only the trie has are as rare as the rarest."""
        share_T = popular_shares(known, split)
        if index_T is None:
            return cls(trie, share_T)
        share_I = np.full(trie.num_items, share_T.min())
        share_I[index_T[index_T >= 0]] = share_T[index_T >= 0]
        return cls(trie, share_I, index_T)

    @cached_property
    def added_I(self) -> Int64:
        """int64: the items that the histories do not have."""
        none = np.zeros(0, np.int64)
        return none if self.index_T is None else np.setdiff1d(np.arange(self.trie.num_items), self.index_T)

    def rest(self, power: float) -> tuple[ItemPrior, Float64]:
        """What items have that no ranker names, as a prior and by item: made once, not for every question."""
        if self._rest is None or self._rest[0] != power:
            mass_I = self.share_I**power
            mass_I = np.maximum(mass_I, _LEAST * mass_I.sum())
            self._rest = power, ItemPrior(self.trie, mass_I), mass_I
        return self._rest[1:]


def change_of(masses: PriorMasses, searched: SearchedCatalogue, pools: Pools) -> AgainOrNew:
    """The mixture of model and stack for the questions of `masses`.

    Items that only the searched catalogue has are new ones; where the histories' items are scored whole, they get the
    geometric mean of the masses of new items.
    """
    num_queries, trie = len(masses.log_odds_Q), searched.trie
    again = _own(masses.again_query_X, masses.again_item_X, masses.again_mass_X, num_queries, searched.index_T)
    new = _own(masses.new_query_X, masses.new_item_X, masses.new_mass_X, num_queries, searched.index_T)
    log_odds_Q = masses.log_odds_Q.copy()
    if len(searched.added_I):
        log_odds_Q = np.maximum(log_odds_Q, -SURE)  # who knew every item does not know the added ones
    if masses.rest_mass_Q.any():
        base, mass_I = searched.rest(masses.rest_power)
        new_prior = base.with_own(_over_base(new, again, mass_I, masses.rest_mass_Q))
    else:
        new = [_with_added(one, searched.added_I) for one in new] if len(searched.added_I) else new
        new_prior = ItemPrior(trie, None, new)
    log_odds_Q[[not len(item_M) for item_M, _ in again]] = np.inf
    log_odds_Q[[len(item_M) == trie.num_items for item_M, _ in again]] = -np.inf
    first = Reweighting(pools.again.temperature, pools.again.weight, ItemPrior(trie, None, again))
    return AgainOrNew(first, Reweighting(pools.new.temperature, pools.new.weight, new_prior), log_odds_Q)


def _own(query_X: Int64, item_X: Int64, mass_X: Float64, num_queries: int, index_T: Int64 | None) -> list[Own]:
    """Items and masses question by question, as the trie's catalogue counts them."""
    if index_T is not None:
        item_X = index_T[item_X]
        query_X, item_X, mass_X = query_X[item_X >= 0], item_X[item_X >= 0], mass_X[item_X >= 0]
    order_X = np.argsort(query_X, kind="stable")
    bounds = np.searchsorted(query_X[order_X], np.arange(1, num_queries))
    return list(zip(np.split(item_X[order_X], bounds), np.split(mass_X[order_X], bounds), strict=True))


def _over_base(new: list[Own], again: list[Own], base_I: Float64, rest_mass_Q: Float64) -> list[Own]:
    """What named items have more or less than the base; items chosen before are taken out of it."""
    return [
        (np.concatenate([item_M, past_M]), np.concatenate([mass_M / rest - base_I[item_M], -base_I[past_M]]))
        for (item_M, mass_M), (past_M, _), rest in zip(new, again, rest_mass_Q.tolist(), strict=True)
    ]


def _with_added(own: Own, added_I: Int64) -> Own:
    item_M, mass_M = own
    typical = float(np.exp(np.log(mass_M).mean())) if len(mass_M) else 1.0
    return np.concatenate([item_M, added_I]), np.concatenate([mass_M, np.full(len(added_I), typical)])
