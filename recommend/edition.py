"""The catalogue as a server holds it: an edition that never changes, and the place where the current one stands.

A request takes the current edition once and keeps it to its end, so that no answer mixes two. Edits are written as
snapshots (`serve.catalogue`), by the server as by the command line; what another process has written is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..arrays import Int64
from ..catalogue import Catalogue, CatalogueSettings, ItemFacts, Ragged, Trie, encode_titles, unique_titles
from ..decode.tokenizer import Tokenizer
from ..histories import Histories
from ..prompts import PromptEncoder
from ..rankers.reweighter import Reweighter, read_reweighter
from .catalogue import Served, catalogue_folder, edit, read_served

if TYPE_CHECKING:
    from ..rankers.settings import RunConfig

Change = Callable[[Catalogue], Catalogue]


@dataclass(frozen=True, eq=False)
class Edition:
    """One version of what may be answered, with all that is derived from it.

    `encoder` tells histories: its item indices ("told") are those of the histories, and behind them those of `further`
    item ids that were added since. `index_T` int64 [T] says where each told item stands among the `items`, -1 for those
    that were taken out.
    """

    version: str
    items: pl.DataFrame
    trie: Trie
    facts: ItemFacts
    encoder: PromptEncoder
    further: pl.Series
    index_T: Int64
    reweighter: Reweighter | None

    def served(self, told_M: Int64) -> Int64:
        """Told items by their place among the answers, those that were taken out left out: int64."""
        index_M = self.index_T[told_M]
        return index_M[index_M >= 0]

    def rows(self, item_idx_K: Int64) -> list[dict[str, Any]]:
        """`item_id` and `title` of items."""
        return self.items.select(pl.col("item_id", "title").gather(item_idx_K)).rows(named=True)


class Editions:
    """The current edition, and the ways to another one; edits wait for each other."""

    def __init__(self, config: RunConfig, histories: Histories, tokenizer: Tokenizer, encoder: PromptEncoder,
                 card: dict[str, Any]) -> None:  # fmt: skip
        self._config, self._histories, self._tokenizer = config, histories, tokenizer
        self._encoder, self._card = encoder, card
        self._lock = asyncio.Lock()
        self._mark = self._marked()
        self.current = self._read()

    async def fresh(self) -> Edition:
        """The current edition, read again if another process has written one. Costs one look at a file's date."""
        if self._marked() != self._mark:
            async with self._lock:
                await self._take_over()
        return self.current

    async def edit(self, change: Change) -> Edition:
        """Write the catalogue as `change` makes it, and serve it from then on. Raises CatalogueError."""
        async with self._lock:
            await self._take_over()
            await asyncio.to_thread(edit, self._config, self._histories, self._tokenizer, change)
            await self._take_over()
            return self.current

    def add(self, items: pl.DataFrame) -> Change:
        return lambda catalogue: catalogue.add(items, self._tokenizer, self._recipe(items))

    def replace(self, items: pl.DataFrame) -> Change:
        return lambda catalogue: catalogue.replace(items, self._tokenizer, self._recipe(items))

    def rebuild(self, items: pl.DataFrame) -> Change:
        """Other items altogether; those that were there before keep their titles where these are still true."""

        def change(catalogue: Catalogue) -> Catalogue:
            previous = dict(catalogue.items.select("item_id", "title").iter_rows())
            titles, _ = unique_titles(items, self._recipe(items), previous)
            return Catalogue.build(items.with_columns(pl.Series("title", titles, dtype=pl.String)), self._tokenizer)

        return change

    def _recipe(self, items: pl.DataFrame) -> CatalogueSettings:
        """A title that is given is the title; else the histories' recipe makes one."""
        if "title" in items.columns:
            return CatalogueSettings()
        return CatalogueSettings(**self._histories.title_recipe)

    async def _take_over(self) -> None:
        mark = self._marked()
        if mark != self._mark:
            self.current = await asyncio.to_thread(self._read)
            self._mark = mark

    def _marked(self) -> tuple[int, int] | None:
        try:
            found = (catalogue_folder(self._config.run) / "CURRENT").stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino

    def _read(self) -> Edition:
        served = read_served(self._config, self._histories, self._tokenizer)
        trie = (served.catalogue or self._encoder.catalogue).trie
        further = _further(served, self._histories)
        titles = Ragged.of([])
        if len(further):
            titles = encode_titles(served.items["title"].gather(further), self._tokenizer)
        index_T = np.concatenate([served.index_I, further])
        return Edition(
            version=served.version, items=served.items, trie=trie, facts=ItemFacts(served.items),
            encoder=replace(self._encoder, further=titles), further=served.items["item_id"].gather(further),
            index_T=index_T,
            reweighter=read_reweighter(self._config, self._histories, trie, self._card, index_T),
        )  # fmt: skip


def _further(served: Served, histories: Histories) -> Int64:
    """int64: served items that the histories do not have."""
    known_N = np.zeros(served.items.height, bool)
    known_N[served.index_I[served.index_I >= 0]] = True
    return np.flatnonzero(~known_N)


def told_index(edition: Edition, histories: Histories, item_ids: Sequence[str]) -> Int64:
    """int64: the told index of each id, -1 for ids that neither the histories nor the catalogue have."""
    asked = pl.DataFrame({"item_id": pl.Series(item_ids, dtype=pl.String)})
    among = pl.col("item_id").is_in(asked["item_id"].implode())
    known = histories.items.select("item_id").with_row_index("told").filter(among)
    later = edition.further.to_frame("item_id").with_row_index("told", offset=histories.items.height).filter(among)
    both = pl.concat([known, later]).unique("item_id", keep="first")
    found = asked.join(both, on="item_id", how="left", maintain_order="left")
    return found["told"].cast(pl.Int64).fill_null(-1).to_numpy()
