"""Items, their unique titles, and the token trie over them. Knows nothing of users, prompts or models."""

from .building import build_trie, build_trie_ragged
from .catalogue import Catalogue
from .filters import Filters, Selection, select_items
from .item_facts import ItemFacts
from .settings import CatalogueSettings
from .snapshots import prune_snapshots, read_snapshot, snapshot_manifest, write_snapshot
from .subset import Subset, Subsets
from .titles import unique_titles
from .tokens import TERMINATOR, Encode, Ragged, encode_titles
from .trie import Trie

__all__ = [
    "TERMINATOR",
    "Catalogue",
    "CatalogueSettings",
    "Encode",
    "Filters",
    "ItemFacts",
    "Ragged",
    "Selection",
    "Subset",
    "Subsets",
    "Trie",
    "build_trie",
    "build_trie_ragged",
    "encode_titles",
    "prune_snapshots",
    "read_snapshot",
    "select_items",
    "snapshot_manifest",
    "unique_titles",
    "write_snapshot",
]
