"""A catalogue: item ids, their titles, and the trie of the titles' tokens for one tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .trie import Trie, build_trie

TERMINATOR = "\n"
Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class Catalogue:
    """Items by item index (their row in `items.parquet`): `item_ids[i]`, `titles[i]`, and the trie over the titles."""

    item_ids: list[str]
    titles: list[str]
    trie: Trie

    @classmethod
    def build(cls, item_ids: list[str], titles: list[str], encode: Encode) -> Catalogue:
        """Tokenise every title as it stands in a prompt (leading space, terminator) and build the trie.

        `encode` maps texts to token ids without special tokens. Raises CatalogueError for an empty catalogue and for
        titles that the tokenizer cannot tell apart.
        """
        return cls(item_ids, titles, build_trie(encode([title_text(title) for title in titles]), titles))

    @property
    def fingerprint(self) -> str:
        """sha256 over ids and titles in order: an adapter remembers the catalogue that it was trained for."""
        digest = hashlib.sha256()
        for item_id, title in zip(self.item_ids, self.titles, strict=True):
            digest.update(f"{item_id}\x00{title}\x01".encode())
        return digest.hexdigest()


def title_text(title: str) -> str:
    """A title as it stands in a prompt: after the context's colon, up to the terminator."""
    return f" {title}{TERMINATOR}"
