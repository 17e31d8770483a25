"""What any model has to beat: families of rankers, each tuned on validation with the same care."""

from collections.abc import Mapping
from typing import Final, cast

from . import linear, neighbours, own, places, popular, routine, sequences, transitions
from .protocol import Family, Ranker, UnfitDataError
from .settings import BaselineName

__all__ = ["FAMILIES", "Family", "Ranker", "UnfitDataError"]

_ALL: Final[tuple[Family, ...]] = (
    *popular.FAMILIES,
    *own.FAMILIES,
    *routine.FAMILIES,
    *transitions.FAMILIES,
    *places.FAMILIES,
    *neighbours.FAMILIES,
    *linear.FAMILIES,
    *sequences.FAMILIES,
)
FAMILIES: Final[Mapping[BaselineName, Family]] = {cast(BaselineName, family.name): family for family in _ALL}
"""Every family by its name, weak kinds first; `tests/eval/test_settings.py` holds names and settings together."""
