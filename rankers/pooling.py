"""From what a stack says of questions to what a search makes of the model's distribution.

Shapes: Q = questions, I = items of the trie, X = pairs of question and item, T = items of the histories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Float64, Int64
from ..catalogue import Trie
from ..decode.reweighting import AgainOrNew, ItemPrior, Own, Reweighting
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from .popular import popular_shares
from .stack import SURE, PriorMasses


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


def served_shares(known: Histories, split: EvaluatedSplit, trie: Trie, index_T: Int64 | None) -> Float64:
    """float64 [I]: popularity in the trie's catalogue, above 0; items that only it has are as rare as the rarest."""
    share_T = popular_shares(known, split)
    if index_T is None:
        return share_T
    share_I = np.full(trie.num_items, share_T.min())
    share_I[index_T[index_T >= 0]] = share_T[index_T >= 0]
    return share_I


def change_of(
    masses: PriorMasses, trie: Trie, pools: Pools, share_I: Float64, index_T: Int64 | None = None
) -> AgainOrNew:  # fmt: skip
    """The mixture of model and stack for the questions of `masses`.

    `share_I` float64 [I]: popularity in the trie's catalogue, above 0. `index_T` int64 [T]: where the items of the
    histories stand in the trie's catalogue (-1: nowhere), if it is another one. Items that only the trie has are new
    ones; they get the geometric mean of the masses of new items.
    """
    num_queries = len(masses.log_odds_Q)
    again = _own(masses.again_query_X, masses.again_item_X, masses.again_mass_X, num_queries, index_T)
    new = _own(masses.new_query_X, masses.new_item_X, masses.new_mass_X, num_queries, index_T)
    base_I = None
    if masses.rest_mass_Q.any():
        base_I = share_I**masses.rest_power
        new = _over_base(new, again, base_I, masses.rest_mass_Q)
    log_odds_Q = masses.log_odds_Q.copy()
    if index_T is not None and len(added_I := np.setdiff1d(np.arange(trie.num_items), index_T)):
        if base_I is None:
            new = [_with_added(one, added_I) for one in new]
        log_odds_Q = np.maximum(log_odds_Q, -SURE)  # who knew every item does not know the added ones
    log_odds_Q[[not len(item_M) for item_M, _ in again]] = np.inf
    log_odds_Q[[len(item_M) == trie.num_items for item_M, _ in again]] = -np.inf
    first = Reweighting(pools.again.temperature, pools.again.weight, ItemPrior(trie, None, again))
    second = Reweighting(pools.new.temperature, pools.new.weight, ItemPrior(trie, base_I, new))
    return AgainOrNew(first, second, log_odds_Q)


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
