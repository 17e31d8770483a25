"""The catalogue of a run as saved on disk: the items of the histories, or versions that were edited.

Items come and go without training. Histories keep the items that people once chose, since prompts name them. Only what
may be recommended changes. Edits by the command line and by servers go through this module, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..catalogue import Catalogue, CatalogueSettings, edit_snapshot, read_snapshot, snapshot_manifest
from ..decode.tokenizer import Tokenizer
from ..errors import CatalogueError
from ..histories import Histories

UNEDITED = "histories"  # the name of the version that the histories' items are


def catalogue_folder(run: Path) -> Path:
    """Where edited versions of a run's catalogue are."""
    return run / "catalogue"


@dataclass(frozen=True)
class Edit:
    """What an edit did: how many items there were and are, and the name of the version that it wrote."""

    num_before: int
    num_after: int
    version: str


@dataclass(frozen=True, eq=False)
class SavedCatalogue:
    """What may be recommended in a run, in `folder` (see `catalogue_folder`) if it was edited.

    `original` gives the catalogue of the histories' items; it is called only where that is needed. All methods raise
    CatalogueError: for a version that is damaged, of other histories or of another tokenizer, and for an edit that
    cannot be made.
    """

    folder: Path
    histories: Histories
    tokenizer: Tokenizer
    original: Callable[[], Catalogue]

    @property
    def mark(self) -> tuple[int, int] | None:
        """What is another one after each edit; costs one look at a file's date."""
        try:
            found = (self.folder / "CURRENT").stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino

    def read(self) -> tuple[str, Catalogue]:
        """The current version: its name, and its items with their trie."""
        while (mark := self.mark) is not None:
            try:
                manifest = snapshot_manifest(self.folder)
                self._check_origin(manifest["origin"], manifest["num_items"])
                catalogue = read_snapshot(self.folder, tokenizer=self.tokenizer.fingerprint)
            except CatalogueError:
                if self.mark == mark:
                    raise
                continue  # written anew or reset meanwhile
            if self.mark == mark:
                return str(manifest["version"]), catalogue
        return UNEDITED, self.original()

    def add(self, items: pl.DataFrame, *, is_text: bool = False) -> Edit:
        """Put new items behind the others; for arguments see `Catalogue.add`."""
        return self.edit(lambda was: was.add(items, self.tokenizer, self._title_recipe, is_text=is_text))

    def replace(self, items: pl.DataFrame, *, is_text: bool = False) -> Edit:
        """Give items that are there other attributes or another title; see `Catalogue.replace`."""
        return self.edit(lambda was: was.replace(items, self.tokenizer, self._title_recipe, is_text=is_text))

    def rebuild(self, items: pl.DataFrame) -> Edit:
        """Other items altogether; see `Catalogue.rebuild`."""
        return self.edit(lambda was: was.rebuild(items, self.tokenizer, self._title_recipe))

    def remove(self, item_ids: Sequence[str]) -> Edit:
        """Take items out."""
        return self.edit(lambda was: was.remove(item_ids))

    def edit(self, change: Callable[[Catalogue], Catalogue]) -> Edit:
        """Write a new version as `change` makes it of the current one, while no other process writes one."""
        sizes: list[int] = []

        def changed() -> Catalogue:
            before = self.read()[1]
            after = change(before)
            sizes[:] = before.items.height, after.items.height
            return after

        origin = self.histories.catalogue_hash
        version = edit_snapshot(self.folder, changed, tokenizer=self.tokenizer.fingerprint, origin=origin)
        return Edit(sizes[0], sizes[1], version)

    @property
    def _title_recipe(self) -> CatalogueSettings:
        """How the titles of the histories were made."""
        return CatalogueSettings(**self.histories.title_recipe)

    def _check_origin(self, origin: str, num_items: int) -> None:
        if origin != self.histories.catalogue_hash:
            raise CatalogueError(
                f"The catalogue in {self.folder} ({num_items:,} items) was edited before the histories got other items "
                f"(now {self.histories.items.height:,}), so it may lack some: run `whereupon catalogue reset` with "
                "this configuration, and edit it again."
            )
