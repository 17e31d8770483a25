"""What any model has to beat: families of rankers, each tuned on validation with the same care."""

from collections.abc import Mapping
from typing import Final

from . import als, cooccurrence, own, places, popular, sequences, transitions
from .protocol import Family, Ranker, UnfitDataError
from .settings import BaselineName

__all__ = ["FAMILIES", "Family", "Ranker", "UnfitDataError"]

_MODULES: Final = (popular, own, transitions, places, cooccurrence, als, sequences)
FAMILIES: Final[Mapping[BaselineName, Family]] = {family.name: family for one in _MODULES for family in one.FAMILIES}
"""Every family by its name, weak kinds first; `tests/eval/test_settings.py` holds names and settings together."""
