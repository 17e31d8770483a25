"""Search, beam and sampling over the trie, and the engines that score it. Knows nothing of users or HTTP."""

import logging

from .decisions import Decisions, decisions_of
from .protocol import FROM_PROMPT, AsyncReading, Engine, Reading, Scored
from .reweighting import AgainOrNew, Change, ItemPrior, Reweighting
from .sampling import sample, sampling
from .search import Searching, SearchResult, beam_search, beam_searching, run, run_async, score_all, search, searching
from .settings import DecodeSettings, ModelSettings

__all__ = [
    "FROM_PROMPT", "AgainOrNew", "AsyncReading", "Change", "Decisions", "DecodeSettings", "Engine", "ItemPrior",
    "ModelSettings", "Reading", "Reweighting", "Scored", "SearchResult", "Searching", "beam_search",
    "beam_searching", "decisions_of", "run", "run_async", "sample", "sampling", "score_all", "search", "searching",
]  # fmt: skip

# bitsandbytes, which peft imports where it is there, warns of a missing kernel that is never used here.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
