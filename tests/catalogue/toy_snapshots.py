"""Small catalogues whose tokens are letters, written and read as snapshots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from whereupon.catalogue import Catalogue, read_snapshot, write_snapshot

TOKENIZER = "letters-1"


def letters(texts: Sequence[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def made(*titles: str, **columns: Any) -> Catalogue:
    ids = [f"i{n}" for n in range(len(titles))]
    return Catalogue.build(pl.DataFrame({"item_id": ids, "title": titles, **columns}), letters)


OLD, NEW, NEWER = made("Bar", "Park"), made("Bar", "Park", "Zoo"), made("Zoo", "Bar 2", "Bar", "喫茶店")


def read(folder: Path, *, verify: bool = True) -> Catalogue:
    return read_snapshot(folder, tokenizer=TOKENIZER, verify=verify)


def write(folder: Path, catalogue: Catalogue) -> str:
    return write_snapshot(folder, catalogue, tokenizer=TOKENIZER)


def is_same(one: Catalogue, other: Catalogue) -> bool:
    arrays = ((getattr(one.trie, name), getattr(other.trie, name)) for name in one.trie.__dataclass_fields__)
    return one.items.equals(other.items) and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in arrays)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
