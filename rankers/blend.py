"""Model and stack in one, as a run has them: what `calibrate` fitted for an adapter, and the stack on disk.

A run folder holds in `priors/` the recipe of its stack and the rankers that are fitted for answers (`stack/`, on train
and valid). An adapter's folder holds `pools.json`: temperature and weight of each part, and the stack they belong to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..arrays import Int64
from ..catalogue import Trie
from ..console import say
from ..decode.adapter_card import read_card
from ..decode.reweighting import Change, ItemPrior, Reweighting
from ..errors import ConfigError, DataError
from ..files import read_object, sha256_text, write_json
from ..histories import Histories
from .pooling import Pools, SearchedCatalogue, change_of
from .queries import QueryEvents, query_histories
from .saved import FORMAT, read_stack
from .stack import Stack, StackRecipe

if TYPE_CHECKING:
    from .settings import RunConfig

POOLS: Final = "pools.json"
ALONE: Final = "none"
"""The identity of no stack, in `pools.json` and on an adapter's card."""


@dataclass(frozen=True)
class Blend:
    """What becomes of the model's distribution: the stack of a run, if it has one, and how both are pooled."""

    pools: Pools
    stack: Stack | None = None

    @property
    def identity(self) -> str:
        """Fingerprint of all that it changes answers by, beside the data. It is part of the key of kept answers."""
        stack = self.stack.recipe.identity if self.stack else ALONE
        return sha256_text(json.dumps([self.pools.as_json(), stack], sort_keys=True))

    def on(self, histories: Histories, trie: Trie) -> Callable[[Int64], Change]:
        """From rows of these histories (int64 [Q]), each predicted right before it happened, to the change."""
        if self.stack is None:
            alone = Reweighting(self.pools.new.temperature)
            return lambda row_Q: alone
        bound = self.stack.on(histories)
        searched = SearchedCatalogue(trie, bound.share_I)
        return lambda row_Q: change_of(bound.masses(row_Q), searched, self.pools)

    def change_for(self, known: Histories, trie: Trie, index_T: Int64 | None) -> Callable[[QueryEvents | None], Change]:
        """From requests (see `queries.query_histories`; None: of no user) to the change, with what all of `known` did.

        `index_T`: see `pooling.SearchedCatalogue`.
        """
        if self.stack is None:
            alone = Reweighting(self.pools.new.temperature)
            return lambda query: alone
        stack, searched = self.stack, SearchedCatalogue.of(known, self.stack.split, trie, index_T)
        pool = self.pools.new
        popular = Reweighting(pool.temperature, pool.weight, ItemPrior(trie, searched.share_I))

        def change(query: QueryEvents | None) -> Change:
            if query is None:
                return popular
            histories = query_histories(known, query)
            masses = stack.on(histories, known).masses(histories.offset_U1[1:] - 1)
            return change_of(masses, searched, self.pools)

        return change


def read_blend(config: RunConfig, histories: Histories, card: Mapping[str, Any], adapter: Path) -> Blend:
    """Model and stack as the run has them.

    Raises ConfigError: see `read_pools`. DataError: the stack is missing or damaged, or was fitted to other histories.
    """
    stack = read_stack(config.run / "priors" / "stack", histories) if config.priors != "none" else None
    return Blend(read_pools(card, adapter, stack), stack)


def read_pools(card: Mapping[str, Any], adapter: Path, stack: Stack | None) -> Pools:
    """What `finetune` or `calibrate` left for an adapter; without it, pooled as the adapter was trained.

    It is said where the rankers were fitted by another version then, which learnt something else.

    Raises ConfigError: the adapter was trained on top of another stack, or was never pooled with this one.
    """
    identity = ALONE if stack is None else stack.recipe.identity
    trained_on = card.get("priors", ALONE)
    if trained_on not in (ALONE, identity):
        now = "none" if stack is None else "another one now"
        raise ConfigError(
            f"The adapter in {adapter} was trained on top of rankers (priors {trained_on[:8]}), and this run has "
            f"{now}: run `whereupon finetune` again, or set priors as it was trained with."
        )
    try:
        found = read_object(adapter / POOLS)
        if found.get("priors") == identity:
            pools = Pools.of_json(found["pools"])
            if stack is not None and found.get("rankers_format") != FORMAT:
                say(
                    f"the adapter in {adapter} was pooled with the same rankers as an earlier version of whereupon "
                    "fitted them, and they answer otherwise now: run `whereupon calibrate` to fit its weights again"
                )
            return pools
    except (DataError, KeyError, TypeError):
        found = {}
    if trained_on != identity or (found and stack is not None):
        raise ConfigError(
            f"The adapter in {adapter} was not pooled with the rankers of this run yet: run `whereupon calibrate` "
            "first, or set priors: none."
        )
    return Pools()


def known_priors(adapter: Path) -> set[str]:
    """Identities of the stacks that an adapter was trained on top of, and was pooled with last.

    Raises ModelError: the adapter has no card.
    """
    try:
        pooled = str(read_object(adapter / POOLS).get("priors", ALONE))
    except DataError:
        pooled = ALONE
    return {str(read_card(adapter).get("priors", ALONE)), pooled} - {ALONE}


def write_pools(adapter: Path, stack: StackRecipe | None, pools: Pools, facts: Mapping[str, Any]) -> None:
    """Keep how an adapter and a stack are pooled."""
    identity = ALONE if stack is None else stack.identity
    write_json(adapter / POOLS, {"priors": identity, "rankers_format": FORMAT, "pools": pools.as_json(), **facts})
