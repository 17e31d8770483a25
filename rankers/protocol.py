"""What a baseline is: a family of rankers with settings to choose from, and what one of them does."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..errors import DataError
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import Task
from .rankings import Rankings

__all__ = ["Family", "Ranker", "UnfitDataError"]


class UnfitDataError(DataError):
    """The data lacks what a family needs, such as coordinates; `evaluate` leaves the family out and prints this."""


class Ranker(Protocol):
    """Anything that ranks the candidates of each event of a task."""

    def rank(self, task: Task, k: int) -> Rankings:
        """The first `k` candidates for each event of `task.row_E`, and the exact rank of the true item among all.

        Before the predicted moment everything may be looked at: of the event's own user the rows before it, of others
        what is strictly earlier in time. Equal scores keep a fixed order that knows nothing of the truth.
        """
        ...


class Family(Protocol):
    """Rankers that differ only in settings, which are chosen on the validation split (see `eval.tuning`).

    Each module of this package ends in `FAMILIES`, a tuple of its families; it imports torch only inside functions.
    """

    @property
    def name(self) -> str:
        """As shown in tables and in `evaluate.baselines`."""
        ...

    def grid(self) -> Sequence[Mapping[str, Any]]:
        """Settings to be tried on validation, JSON values only; one entry: nothing to tune. The first one is used where
        there is no validation event, and stands first among equals."""
        ...

    def ranker(self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int) -> Ranker:
        """A ranker for events of `split`, fitted on events of earlier splits only.

        For "test" that is train and valid; a model with early stopping trains on train and stops by valid.

        Raises:
            UnfitDataError: these histories lack what the family needs.
        """
        ...
