"""A catalogue: items, their titles, and the trie of the titles' tokens for one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from ..arrays import Int64
from ..errors import CatalogueError
from ..histories import catalogue_hash
from .attributes import fit_columns
from .building import build_trie_ragged, edit_trie
from .settings import CatalogueSettings
from .titles import given_titles, kept_titles, unique_titles
from .tokens import Encode, Ragged, encode_titles
from .trie import Trie


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items by item index (their row in `items`: `item_id`, `title` and any attributes), and the trie over the titles.

    A catalogue never changes; `add`, `replace` and `remove` give another one, which equals one built from its items.
    """

    items: pl.DataFrame
    trie: Trie

    @classmethod
    def build(cls, items: pl.DataFrame, encode: Encode) -> Catalogue:
        """Tokenise every title as it stands in a prompt and build the trie.

        `items` have `item_id` and `title` (text, none missing), and any attributes.

        Raises CatalogueError: no items, no ids or titles, an id twice, or titles with equal tokens.
        """
        _require_ids(items)
        if "title" not in items.columns or items["title"].dtype != pl.String or items["title"].null_count():
            raise CatalogueError("Expected a title for every item, as text; give the items titles first.")
        lists = encode_titles(items["title"], encode)
        return cls(items, build_trie_ragged(lists.tokens, lists.ptr, items["title"]))

    @property
    def item_ids(self) -> pl.Series:
        return self.items["item_id"]

    @property
    def titles(self) -> pl.Series:
        return self.items["title"]

    @cached_property
    def fingerprint(self) -> str:
        """See `catalogue_hash`: an adapter remembers the catalogue that it was trained for."""
        return catalogue_hash(self.items)

    def add(
        self, items: pl.DataFrame, encode: Encode, settings: CatalogueSettings | None = None, *, is_text: bool = False
    ) -> Catalogue:
        """With new items behind the others; only their titles are tokenised and sorted.

        Args:
            items: `item_id`, and any other columns; their titles are made distinct, no other is renamed.
            encode: the encoder that the catalogue was built with.
            settings: how titles are made where none is given, see `given_titles`; by default from the `item_id`.
            is_text: see `fit_columns`.

        Raises CatalogueError: an id that is there already or comes twice, a column of another kind, no title to be had,
        or titles with equal tokens.
        """
        _require_ids(items)
        ids = self.item_ids.filter(self.item_ids.is_in(items["item_id"].implode()))
        if len(ids):
            raise CatalogueError(f"{_some(ids)} in the catalogue already; replace them, or leave them out.")
        settings = settings or CatalogueSettings()
        known, new = fit_columns(self.items, items, is_text=is_text)
        new = self._titled(new, settings, given_titles(new, settings))
        after = pl.concat([known, new], how="diagonal", rechunk=True)
        index_I, index_M = np.arange(self.items.height), np.arange(self.items.height, after.height)
        return Catalogue(
            after, edit_trie(self.trie, index_I, encode_titles(new["title"], encode), index_M, after["title"])
        )

    def replace(
        self, items: pl.DataFrame, encode: Encode, settings: CatalogueSettings | None = None, *, is_text: bool = False
    ) -> Catalogue:
        """With other values in the columns of `items` for the items of those ids, which stay where they are.

        An item keeps its title unless another one is given, or a column changes of which the template makes it.
        Arguments and errors are those of `add`, but that an id must be there.
        """
        _require_ids(items)
        index_M, settings = self.index_of(items["item_id"]), settings or CatalogueSettings()
        known, values = fit_columns(self.items, items, is_text=is_text)
        before, given = known[index_M], [] if "title" in values.columns else [pl.lit(None, pl.String).alias("title")]
        merged = before.with_columns(*values.get_columns(), *given)
        new = self._titled(merged, settings, kept_titles(before, merged, settings))
        order_I = np.arange(self.items.height)
        order_I[index_M] = np.arange(len(index_M)) + self.items.height
        after = pl.concat([known, new], how="diagonal")[order_I]
        changed_M = (self.titles[index_M] != new["title"]).to_numpy()
        index_I = np.arange(self.items.height)
        index_I[index_M[changed_M]] = -1
        lists = encode_titles(new["title"].filter(changed_M), encode)
        return Catalogue(after, edit_trie(self.trie, index_I, lists, index_M[changed_M], after["title"]))

    def rebuild(self, items: pl.DataFrame, encode: Encode, settings: CatalogueSettings | None = None) -> Catalogue:
        """Of other items altogether; those that are here too keep their titles where these are still true.

        Arguments and errors are those of `add`, but that any id may be given once, and any column be of any kind.
        """
        _require_ids(items)
        settings = settings or CatalogueSettings()
        _, new = fit_columns(self.items.clear(), items)
        previous = dict(self.items.select("item_id", "title").iter_rows())
        titles, _ = unique_titles(new, _possible(settings, new), previous, given_titles(new, settings))
        return Catalogue.build(new.with_columns(pl.Series("title", titles, dtype=pl.String)), encode)

    def remove(self, item_ids: Sequence[str] | pl.Series) -> Catalogue:
        """Without some items; those that stay move up. Nothing is tokenised.

        Raises CatalogueError for an id that is unknown or comes twice, and where no item would be left.
        """
        ids = pl.Series("item_id", item_ids, dtype=pl.String)
        _require_ids(ids.to_frame())
        kept_I = np.ones(self.items.height, bool)
        kept_I[self.index_of(ids)] = False
        if not kept_I.any():
            raise CatalogueError(
                f"Taking out all {len(kept_I)} items would leave an empty catalogue, in which there is nothing to "
                "rank; keep at least one item, or build another catalogue."
            )
        after, nothing = self.items.filter(kept_I), Ragged.of([])
        index_I = np.where(kept_I, np.cumsum(kept_I) - 1, -1)
        return Catalogue(after, edit_trie(self.trie, index_I, nothing, np.arange(0)))

    def index_of(self, item_ids: pl.Series) -> Int64:
        """int64: the item index of each id. Raises CatalogueError for ids that are not in the catalogue."""
        # Filtered first, for a join over all items would take several times as long.
        among = pl.col("item_id").is_in(item_ids.implode())
        known = self.items.select("item_id").with_row_index("item_idx").filter(among)
        found = item_ids.to_frame("item_id").join(known, on="item_id", how="left", maintain_order="left")
        if found["item_idx"].null_count():
            unknown = found.filter(pl.col("item_idx").is_null())["item_id"]
            raise CatalogueError(
                f"{_some(unknown)} not in the catalogue of {self.items.height} items; correct the ids."
            )
        return found["item_idx"].to_numpy().astype(np.int64)

    def _titled(self, items: pl.DataFrame, settings: CatalogueSettings, given: pl.Series | None) -> pl.DataFrame:
        """`items` with titles of their own."""
        settings = _possible(settings, items)
        alone, _ = unique_titles(items, settings, given=given)
        # Numbered or not, a title begins like the one it would have alone; others cannot clash and need no looking at.
        stems = pl.Series(alone, dtype=pl.String).str.replace(r" \d+$", "").implode()
        near = pl.col("title").str.contains_any(stems) | pl.col("item_id").is_in(items["item_id"].implode())
        previous = dict(self.items.filter(near).select("item_id", "title").iter_rows())
        titles, _ = unique_titles(items, settings, previous, given)
        return items.with_columns(pl.Series("title", titles, dtype=pl.String))


def _possible(settings: CatalogueSettings, items: pl.DataFrame) -> CatalogueSettings:
    """The settings, with those attributes only that these items have; the histories have all."""
    known = [name for name in settings.title_attributes if name in items.columns]
    return settings.model_copy(update={"title_attributes": known})


def _require_ids(items: pl.DataFrame) -> None:
    """Raise CatalogueError unless every item has an id of its own."""
    if "item_id" not in items.columns or items["item_id"].dtype != pl.String or items["item_id"].null_count():
        raise CatalogueError("Expected an item_id for every item, as text; give every item one.")
    if items["item_id"].n_unique() < items.height:
        repeated = items["item_id"].filter(items["item_id"].is_duplicated()).unique(maintain_order=True)
        raise CatalogueError(f"{_some(repeated)} given more than once; give every item an id of its own.")


def _some(item_ids: pl.Series) -> str:
    """The first few ids, with a verb."""
    shown = ", ".join(repr(item_id) for item_id in item_ids.head(3))
    rest = f" and {len(item_ids) - 3} more" if len(item_ids) > 3 else ""
    return f"Item {shown} is" if len(item_ids) == 1 else f"Items {shown}{rest} are"
