"""What a ranker is, what it answers with, and the families of rankers whose settings are tuned.

Shapes: Q = questions (rows of the histories), E = all rows of a task, I = items, C = scored items of all questions.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64
from ..errors import DataError
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit, Repeats
from .settings import BaselineName

Floats = NDArray[np.floating]
Arrays = Mapping[str, NDArray[Any]]
"""What a ranker has learnt, by name; what each is, the ranker says."""


class UnfitDataError(DataError):
    """The data lacks what a family needs, such as coordinates; `evaluate` leaves the family out and prints this."""


@dataclass(frozen=True)
class Dense:
    """A score for every item of the catalogue.

    `scores` gives for rows of the histories, int64 [Q], scores float [Q, I], all of them finite, higher is better;
    `is_log_prob` says whether they are log-probabilities over the catalogue, in nats. `order` gives for rows int64 [E]
    their positions int64 [E] in the order in which to score, such that work is shared; None: as they are.
    """

    scores: Callable[[Int64], Floats]
    is_log_prob: bool = False
    order: Callable[[Int64], Int64] | None = None


@dataclass(frozen=True)
class Scored:
    """Items that a ranker knows something of; no question has an item twice.

    Attributes:
        query_C: int64 [C], position of the question.
        item_C: int64 [C], item_idx.
        score_C: float64 [C], at least 0, higher is better; what is not scored stands behind at 0, most popular first.
        order_C: int64 [C], at least 0; among equal scores of a question the lower goes first.
    """

    query_C: Int64
    item_C: Int64
    score_C: Float64
    order_C: Int64

    def take(self, chosen_C: Bool | Int64) -> "Scored":
        """Some of them: by a mask or by positions."""
        return Scored(self.query_C[chosen_C], self.item_C[chosen_C], self.score_C[chosen_C], self.order_C[chosen_C])


@dataclass(frozen=True)
class Sparse:
    """Scores of a few items of each question.

    `scores` gives for rows of the histories, int64 [Q], what is known of them; `num_entries` for rows int64 [E] how
    many entries each takes while it is scored, int64 [E].
    """

    scores: Callable[[Int64], Scored]
    num_entries: Callable[[Int64], Int64]


@runtime_checkable
class Ranker(Protocol):
    """Anything that scores the items of a catalogue for rows of histories."""

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense | Sparse:
        """What it answers for rows of these histories, which may be others than those that it was fitted on.

        A ranker may use everything before the predicted event: of the event's own user the rows before it, of others
        what is strictly earlier in time. Popularity is that of splits before `split`. A row that has none of its user
        before it gets what can be said of anybody.

        Of the rows' own users, past events and times are those of `histories`. Whatever is counted of all users comes
        from `known`, which has the same items; None: the same histories. A request is scored like that, see
        `queries.query_histories`. What is counted of `known` is counted once, however often this is called.
        """
        ...


@runtime_checkable
class Fitted(Ranker, Protocol):
    """A ranker of a family; it can be saved, see `saved`."""

    def arrays(self) -> Arrays:
        """What was learnt, from which `Family.restore` makes the same ranker; empty where nothing was."""
        ...


class Counting:
    """What rankers inherit that learn nothing: they count when they score."""

    def arrays(self) -> Arrays:
        """See `Fitted.arrays`."""
        return {}


@dataclass(frozen=True)
class Fitting:
    """What a ranker is fitted on, and how. Only events of splits before `split` may be learnt from.

    For "test" that is train and valid; a model with early stopping trains on train and stops by valid, on candidates
    with or without `repeats`.
    """

    histories: Histories
    split: EvaluatedSplit
    settings: Mapping[str, Any]
    seed: int
    repeats: Repeats


@dataclass(frozen=True)
class Family:
    """Rankers that differ only in settings, which are chosen on the validation split (see `eval.tuning`).

    `fit` makes a ranker; it raises UnfitDataError where the histories lack what it needs. `restore` makes one of the
    same settings without fitting, of what the other had learnt (`Fitted.arrays`), the histories that the other was
    fitted on, and the split that it is for. It raises UnfitDataError where a package is missing.
    """

    name: BaselineName
    settings: Sequence[Mapping[str, Any]]
    fit: Callable[[Fitting], Fitted]
    restore: Callable[[Mapping[str, Any], Arrays, Histories, EvaluatedSplit], Fitted]

    @classmethod
    def counting(
        cls, name: BaselineName, settings: Sequence[Mapping[str, Any]], kind: Callable[..., Fitted]
    ) -> "Family":  # fmt: skip
        """A family of rankers that are made of their settings alone: `kind` takes these by name."""
        return cls(name, settings, lambda fitting: kind(**fitting.settings), lambda settings, *_: kind(**settings))

    def grid(self) -> Sequence[Mapping[str, Any]]:
        """Settings to be tried on validation, JSON values only; one entry: nothing to tune. The first one is used where
        there is no validation event, and stands first among equals."""
        return self.settings

    def ranker(
        self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int,
        repeats: Repeats = "allowed",
    ) -> Fitted:  # fmt: skip
        """A ranker for events of `split`; see `Fitting`. Raises UnfitDataError."""
        return self.fit(Fitting(histories, split, settings, seed, repeats))


def require(package: str, extra: str, family: str) -> None:
    """Raise UnfitDataError where a package that a family needs is not installed."""
    if importlib.util.find_spec(package) is None:
        raise UnfitDataError(
            f"The baseline {family!r} needs the package {package}, which is not installed; pip "
            f"install 'whereupon[{extra}]', or leave it out of evaluate.baselines."
        )


def grid_of(kind: Callable[..., Any], *choices: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """For `Family.settings`: the fields of a dataclass in all combinations; the last choice changes most often."""
    return tuple(asdict(kind(*values)) for values in product(*choices))
