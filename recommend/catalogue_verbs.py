"""`whereupon catalogue show | add | replace | remove | reset`; what each does stands in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..catalogue import Catalogue, remove_snapshots, snapshot_manifest
from ..console import say
from ..histories import Histories, TableSettings, read_histories, read_items
from .saved_catalogue import UNEDITED, Edit, SavedCatalogue, catalogue_folder

if TYPE_CHECKING:
    from ..rankers.settings import RunConfig


def show(config: RunConfig) -> None:
    saved = _saved(config)
    name, catalogue = saved.read()
    if name == UNEDITED:
        _print_unedited(saved.histories)
        return
    own = saved.histories.items["item_id"]
    num_kept = int(catalogue.item_ids.is_in(own.implode()).sum())
    num_bytes = sum(file["bytes"] for file in snapshot_manifest(saved.folder)["files"].values())
    print(f"{catalogue.items.height:,} items, {name} in {saved.folder}, {num_bytes:,} bytes")
    print(f"{catalogue.items.height - num_kept:,} were added to those of the histories, "
          f"{len(own) - num_kept:,} taken out")  # fmt: skip


def add(config: RunConfig, file: Path) -> None:
    items, is_text = _table(config, file)
    _print(_saved(config).add(items, is_text=is_text))


def replace(config: RunConfig, file: Path) -> None:
    items, is_text = _table(config, file)
    _print(_saved(config).replace(items, is_text=is_text))


def remove(config: RunConfig, item_ids: list[str]) -> None:
    _print(_saved(config).remove(item_ids))


def reset(config: RunConfig) -> None:
    remove_snapshots(catalogue_folder(config.run))
    _print_unedited(read_histories(config.run))


def _saved(config: RunConfig) -> SavedCatalogue:
    from ..decode.models import load_tokenizer

    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    folder = catalogue_folder(config.run)
    return SavedCatalogue(folder, histories, tokenizer, lambda: Catalogue.build(histories.items, tokenizer))


def _table(config: RunConfig, file: Path) -> tuple[pl.DataFrame, bool]:
    """Items with columns named as those of `histories.items`, and whether all cells are text; rejects are counted."""
    mapped = config.histories.items.columns if config.histories.items else {}
    items, rejects, is_text = read_items(TableSettings(path=file, columns=mapped))
    for what, count in rejects.counts().items():
        say(f"rejected, {what}: {count:,} rows")
    return items, is_text


def _print_unedited(histories: Histories) -> None:
    print(f"{histories.items.height:,} items, those of the histories")


def _print(edit: Edit) -> None:
    print(f"{edit.num_before:,} items before, {edit.num_after:,} now; written as {edit.version}")
