"""What may be recommended: the items of the prepared histories, or an edited catalogue in `<run>/catalogue`.

Items come and go without training. Histories keep the items that people once chose, since prompts tell them; only what
may be answered changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..arrays import Int64
from ..catalogue import Catalogue, CatalogueSettings, read_snapshot, snapshot_manifest, write_snapshot
from ..console import say
from ..errors import CatalogueError
from ..histories import Histories, TableSettings, read_histories, read_items

if TYPE_CHECKING:
    from ..decode.tokenizer import Tokenizer
    from ..rankers.settings import RunConfig


@dataclass(frozen=True)
class Served:
    """What may be recommended: `items` (a row an item: `item_id`, `title`, attributes); `catalogue` is None where these
    are the items of the histories, whose catalogue the encoder of prompts has. `index_I` int64 [I]: where each item of
    the histories stands among them, -1 where it was taken out. `version` names the state of the catalogue."""

    items: pl.DataFrame
    catalogue: Catalogue | None
    index_I: Int64
    version: str = "histories"

    @classmethod
    def of(cls, histories: Histories) -> Served:
        """The items of the histories as they are."""
        return cls(histories.items, None, np.arange(histories.items.height))

    def indices(self, item_idx_M: Int64) -> Int64:
        """Items of the histories by their place here, those that were taken out left out: int64."""
        index_M = self.index_I[item_idx_M]
        return index_M[index_M >= 0]


def catalogue_folder(run: Path) -> Path:
    """Where edited catalogues of a run lie."""
    return run / "catalogue"


def is_edited(run: Path) -> bool:
    """Whether another catalogue than that of the histories is to be served."""
    return (catalogue_folder(run) / "CURRENT").is_file()


def read_served(config: RunConfig, histories: Histories, tokenizer: Tokenizer | None = None) -> Served:
    """What may be recommended; the tokenizer is loaded, if it is not given, only where the catalogue was edited.

    Raises CatalogueError for an edited catalogue that is damaged, or of other histories or another tokenizer.
    """
    if not is_edited(config.run):
        return Served.of(histories)
    folder = catalogue_folder(config.run)
    manifest = snapshot_manifest(folder)
    if manifest["origin"] != histories.catalogue_hash:
        raise CatalogueError(
            f"The catalogue in {folder} was edited before the histories got other items: run "
            "`whereupon catalogue reset` with this configuration, and edit it again."
        )
    from ..decode.models import load_tokenizer

    tokenizer = tokenizer or load_tokenizer(config.model)
    catalogue = read_snapshot(folder, tokenizer=tokenizer.fingerprint)
    if snapshot_manifest(folder)["version"] != manifest["version"]:  # written anew meanwhile
        return read_served(config, histories, tokenizer)
    known = catalogue.items.select("item_id").with_row_index("index")
    joined = histories.items.select("item_id").join(known, on="item_id", how="left", maintain_order="left")
    index_I = joined["index"].cast(pl.Int64).fill_null(-1).to_numpy()
    return Served(catalogue.items, catalogue, index_I, manifest["version"])


def edit(
    config: RunConfig, histories: Histories, tokenizer: Tokenizer, change: Callable[[Catalogue], Catalogue]
) -> tuple[int, int, str]:
    """Write a new version of the catalogue as `change` makes it of the one that is served.

    How many items there were, how many there are, and the version's name. Raises CatalogueError.
    """
    served = read_served(config, histories, tokenizer)
    before = served.catalogue or Catalogue.build(histories.items, tokenizer)
    after = change(before)
    version = write_snapshot(
        catalogue_folder(config.run), after, tokenizer=tokenizer.fingerprint, origin=histories.catalogue_hash
    )
    return before.items.height, after.items.height, version


# The verbs


def show(config: RunConfig) -> None:
    """Print how many items may be recommended, and what was edited."""
    histories = read_histories(config.run)
    served = read_served(config, histories)
    if served.catalogue is None:
        print(f"{served.items.height:,} items, those of the histories")
        return
    manifest = snapshot_manifest(catalogue_folder(config.run))
    num_kept = int((served.index_I >= 0).sum())
    num_bytes = sum(file["bytes"] for file in manifest["files"].values())
    print(
        f"{served.items.height:,} items, {manifest['version']} in {catalogue_folder(config.run)}, {num_bytes:,} bytes"
    )
    print(f"{served.items.height - num_kept:,} were added to those of the histories, "
          f"{histories.items.height - num_kept:,} taken out")  # fmt: skip


def add(config: RunConfig, file: Path) -> None:
    """Add the items of a table."""
    items = _read(config, file)
    _edit(config, lambda catalogue, encode, titles: catalogue.add(items, encode, titles))


def replace(config: RunConfig, file: Path) -> None:
    """Give items of a table other attributes, and another title if these say so."""
    items = _read(config, file)
    _edit(config, lambda catalogue, encode, titles: catalogue.replace(items, encode, titles))


def remove(config: RunConfig, item_ids: list[str]) -> None:
    """Take items out."""
    _edit(config, lambda catalogue, encode, titles: catalogue.remove(item_ids))


def reset(config: RunConfig) -> None:
    """Serve the items of the histories again, and remove the versions that were written."""
    folder = catalogue_folder(config.run)
    (folder / "CURRENT").unlink(missing_ok=True)  # first, so that readers turn away before files go
    if folder.is_dir():
        shutil.rmtree(folder)
    print(f"{read_histories(config.run).items.height:,} items, those of the histories")


def _read(config: RunConfig, file: Path) -> pl.DataFrame:
    """The items of a table, with the columns named as those of `histories.items`; what is rejected is counted."""
    mapped = config.histories.items.columns if config.histories.items else {}
    items, rejects = read_items(TableSettings(path=file, columns=mapped))
    for what, count in rejects.counts().items():
        say(f"rejected, {what}: {count:,} rows")
    return items


def _edit(config: RunConfig, change: Callable[[Catalogue, Any, CatalogueSettings], Catalogue]) -> None:
    """Write a new version of the catalogue as `change` makes it of the one that is served."""
    from ..decode.models import load_tokenizer

    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    settings = CatalogueSettings(**histories.title_recipe)
    before, after, version = edit(config, histories, tokenizer, lambda was: change(was, tokenizer, settings))
    print(f"{before:,} items before, {after:,} now; written as {version}")
