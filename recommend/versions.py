"""Versions of the catalogue: each immutable, with all that is derived from it, and the place where the current one is.

A request takes the current version once and keeps it to its end, so that no answer mixes two. Versions that another
process has written are noticed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..arrays import Int64
from ..catalogue import ItemFacts, Trie
from ..console import say
from ..decode import Change
from ..decode.tokenizer import Tokenizer
from ..errors import WhereuponError
from ..histories import Histories
from ..prompts import PromptEncoder
from ..rankers.blend import Blend
from ..rankers.queries import QueryEvents
from .saved_catalogue import SavedCatalogue, catalogue_folder

if TYPE_CHECKING:
    from ..rankers.settings import RunConfig


@dataclass(frozen=True, eq=False)
class CatalogueVersion:
    """One version of what may be recommended, with all that is derived from it.

    Prompts count items in their own way: first those of the histories, in their order, then `added_items`, the ids of
    those that only this version has. `encoder` knows the titles of both. `prompt_index_T` int64 [T] says where each of
    them stands among `items`, -1 for those that were taken out. `change_of` gives for requests (None: of no user) what
    becomes of the model's distribution with what the run's stack of rankers says.
    """

    name: str
    items: pl.DataFrame
    trie: Trie
    facts: ItemFacts
    encoder: PromptEncoder
    added_items: pl.Series
    prompt_index_T: Int64
    change_of: Callable[[QueryEvents | None], Change]

    def among_items(self, prompt_item_M: Int64) -> Int64:
        """Items as prompts count them by their place among `items`, without those that were taken out: int64."""
        index_M = self.prompt_index_T[prompt_item_M]
        return index_M[index_M >= 0]

    def prompt_items(self, item_ids: Sequence[str]) -> Int64:
        """int64: each id as prompts count items, -1 for ids that neither the histories nor this version have."""
        own = self.encoder.catalogue.item_ids
        return _places(pl.Series(item_ids, dtype=pl.String), pl.concat([own, self.added_items]).to_frame("item_id"))

    def rows(self, item_idx_K: Int64) -> list[dict[str, Any]]:
        """`item_id` and `title` of items."""
        return self.items.select(pl.col("item_id", "title").gather(item_idx_K)).rows(named=True)


class Catalogues:
    """The current version of a run's catalogue, and the ways to another one: `edit` and `refresh`, and for an event
    loop, which goes on meanwhile, `edited` and `fresh`. `blend` is that of the adapter that answers."""

    def __init__(
        self, config: RunConfig, histories: Histories, tokenizer: Tokenizer, encoder: PromptEncoder,
        blend: Blend,
    ) -> None:  # fmt: skip
        """`encoder`: of the histories; `blend`: of the adapter that answers. Raises WhereuponError for a version that
        cannot be read."""
        self.saved = SavedCatalogue(catalogue_folder(config.run), histories, tokenizer, lambda: encoder.catalogue)
        self._encoder, self.blend = encoder, blend
        self._reading = threading.Lock()
        self._refreshing, self._editing = asyncio.Lock(), asyncio.Lock()
        self._mark = self.saved.mark  # before reading: what is written meanwhile is then read again
        self.current = self._read()

    def refresh(self) -> CatalogueVersion:
        """The current version, read again if another process has written one.

        One that cannot be read is complained of once, and the version before it stays.
        """
        with self._reading:
            mark = self.saved.mark
            if mark != self._mark:
                try:
                    self.current = self._read()
                except WhereuponError as error:
                    say(f"version {self.current.name} of the catalogue is kept. {error}")
                self._mark = mark
            return self.current

    def edit(self, change: Callable[[SavedCatalogue], object]) -> CatalogueVersion:
        """Edit what is saved, such as by `lambda saved: saved.remove(["42"])`; the version that is then current.

        May wait for another process that edits. Raises CatalogueError for an edit that cannot be made.
        """
        change(self.saved)
        return self.refresh()

    async def fresh(self) -> CatalogueVersion:
        """`refresh`, in a thread."""
        if self.saved.mark == self._mark:
            return self.current
        async with self._refreshing:  # or else every request would hold a thread
            return await asyncio.to_thread(self.refresh)

    async def edited(self, change: Callable[[SavedCatalogue], object]) -> CatalogueVersion:
        """`edit`, in a thread; at most one thread waits for another process."""
        async with self._editing:
            return await asyncio.to_thread(self.edit, change)

    def _read(self) -> CatalogueVersion:
        """The saved version."""
        name, catalogue = self.saved.read()
        index_I = _places(self.saved.histories.items["item_id"], catalogue.items)
        added = np.setdiff1d(np.arange(catalogue.items.height), index_I)
        trie = catalogue.trie
        titles = trie.rows.gather(trie.row_of_item_I[added])  # a million titles are tokenised in a quarter of a minute
        index_T = np.concatenate([index_I, added])
        return CatalogueVersion(
            name=name, items=catalogue.items, trie=trie, facts=ItemFacts(catalogue.items),
            encoder=replace(self._encoder, added_titles=titles), added_items=catalogue.item_ids.gather(added),
            prompt_index_T=index_T,
            change_of=self.blend.change_for(self.saved.histories, trie, index_I),
        )  # fmt: skip


def _places(item_ids: pl.Series, among: pl.DataFrame) -> Int64:
    """int64: the row of each id in `among`, -1 where it has none."""
    # Filtered first, for a join over all items would take several times as long.
    known = among.select("item_id").with_row_index("index").filter(pl.col("item_id").is_in(item_ids.implode()))
    joined = item_ids.to_frame("item_id").join(known, on="item_id", how="left", maintain_order="left")
    return joined["index"].cast(pl.Int64).fill_null(-1).to_numpy()
