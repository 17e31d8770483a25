"""Items, their unique titles, and the token trie over them. Knows nothing of users, prompts or models."""

from .attributes import items_table
from .building import build_trie, build_trie_ragged
from .catalogue import Catalogue
from .filters import Filters, Selection, select_items
from .item_facts import ItemFacts
from .settings import CatalogueSettings
from .snapshots import edit_snapshot, read_snapshot, remove_snapshots, snapshot_manifest, write_snapshot
from .subset import Subset
from .titles import unique_titles
from .tokens import TERMINATOR, Encode, Ragged, encode_titles
from .trie import Trie

__all__ = [
    "TERMINATOR", "Catalogue", "CatalogueSettings", "Encode", "Filters", "ItemFacts", "Ragged", "Selection", "Subset",
    "Trie", "build_trie", "build_trie_ragged", "edit_snapshot", "encode_titles", "items_table", "read_snapshot",
    "remove_snapshots", "select_items", "snapshot_manifest", "unique_titles", "write_snapshot",
]  # fmt: skip
