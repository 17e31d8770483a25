"""Exact top-k search over the trie, and the engines that score it. Knows nothing of users or HTTP."""

from .protocol import FROM_PROMPT, Engine, Reading, Scored
from .search import SearchResult, score_all, search
from .settings import DecodeSettings, ModelSettings

__all__ = [
    "FROM_PROMPT",
    "DecodeSettings",
    "Engine",
    "ModelSettings",
    "Reading",
    "Scored",
    "SearchResult",
    "score_all",
    "search",
]
