"""The one way to an answer: request context, history from all sources, candidates, `Recommender`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .context import RequestContext
    from .recommender import Answer, Question, Recommender, Request
    from .selection import RequestFilters

__all__ = ["Answer", "Question", "Recommender", "Request", "RequestContext", "RequestFilters"]

_MODULES = {"RequestContext": "context", "RequestFilters": "selection"}


def __getattr__(name: str) -> Any:
    """Public names, imported when they are first used: the settings of this package load no model."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES.get(name, 'recommender')}", __name__), name)
