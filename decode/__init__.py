"""Search, beam and sampling over the trie, and the engines that score it. Knows nothing of users or HTTP."""

from .calibration import Calibration, Decisions, decisions_of, fit
from .prior import ContextSettings, PriorSettings, own_masses, popularity_prior
from .protocol import FROM_PROMPT, AsyncReading, Engine, Reading, Scored
from .reweighting import ItemPrior, Reweighting
from .sampling import sample, sampling
from .search import Searching, SearchResult, beam_search, beam_searching, run, run_async, score_all, search, searching
from .settings import DecodeSettings, ModelSettings

__all__ = [
    "FROM_PROMPT",
    "AsyncReading",
    "Calibration",
    "ContextSettings",
    "Decisions",
    "DecodeSettings",
    "Engine",
    "ItemPrior",
    "ModelSettings",
    "PriorSettings",
    "Reading",
    "Reweighting",
    "Scored",
    "SearchResult",
    "Searching",
    "beam_search",
    "beam_searching",
    "decisions_of",
    "fit",
    "own_masses",
    "popularity_prior",
    "run",
    "run_async",
    "sample",
    "sampling",
    "score_all",
    "search",
    "searching",
]
