"""A family of rankers that only count: all that they do, they do as of the predicted moment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from .protocol import Ranker

__all__ = ["Unfitted"]


@dataclass(frozen=True)
class Unfitted:
    """See `Family`; there is nothing to fit, nor anything random.

    Attributes:
        name: as shown.
        kind: makes a ranker of one of the settings.
        settings: the grid.
    """

    name: str
    kind: Callable[..., Ranker]
    settings: Sequence[Mapping[str, Any]]

    def grid(self) -> Sequence[Mapping[str, Any]]:
        """See `Family.grid`."""
        return self.settings

    def ranker(self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int) -> Ranker:
        """See `Family.ranker`."""
        return self.kind(**settings)
