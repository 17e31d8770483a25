"""Search, beam and sampling over the trie, and the engines that score it. Knows nothing of users or HTTP."""

from .calibration import Calibration, Decisions, decisions_of, fit
from .prior import PriorSettings, own_masses, popularity_prior
from .protocol import FROM_PROMPT, Engine, Reading, Scored
from .reweighting import ItemPrior, Reweighting
from .sampling import sample
from .search import SearchResult, beam_search, score_all, search
from .settings import DecodeSettings, ModelSettings

__all__ = [
    "FROM_PROMPT",
    "Calibration",
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
    "beam_search",
    "decisions_of",
    "fit",
    "own_masses",
    "popularity_prior",
    "sample",
    "score_all",
    "search",
]
