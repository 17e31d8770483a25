"""Items, their unique titles, and the token trie over them. Knows nothing of users, prompts or models."""

from .catalogue import Catalogue
from .settings import CatalogueSettings
from .titles import unique_titles
from .trie import Paths, Trie, build_trie

__all__ = ["Catalogue", "CatalogueSettings", "Paths", "Trie", "build_trie", "unique_titles"]
