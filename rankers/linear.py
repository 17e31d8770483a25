"""EASE: each item as a linear function of the user's other items, in closed form.

Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019: minimise |X - XB|^2 + lambda |B|^2 with a
diagonal of B of 0, for X of users times items, 1 where the user chose the item. With P = (X'X + lambda I)^-1 it is
B_ij = -P_ij / P_jj off the diagonal. A history, faded by age, then scores by its product with B; since people return,
an item of it also speaks for itself, by a weight that is tuned (Steck's own data knows no repeats).

Shapes: Q = queries, I = items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import Task
from .als import ALS
from .dense import rank_dense
from .last_fit import LastFit
from .pasts import by_age, past_sums
from .protocol import Family, UnfitDataError
from .rankings import Rankings
from .together import Choices, spread

__all__ = ["FAMILIES", "MAX_ITEMS", "Linear", "LinearSettings", "ease"]


MAX_ITEMS: Final = 10_000
"""EASE inverts a dense matrix of items times items: 0.8 GB at so many, and three of them at work."""


@dataclass(frozen=True)
class LinearSettings:
    """What is tuned.

    Attributes:
        penalty: lambda, in users.
        half_life_events: an event of the history counts half when so many came after it; None: all count alike.
        self_weight: what stands on the diagonal when histories are scored.
    """

    penalty: float
    half_life_events: float | None
    self_weight: float


@dataclass(frozen=True)
class Linear:
    """A history times an item-item matrix: float64 [I, I]."""

    weight_II: Float64
    settings: LinearSettings

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`."""
        weigh = by_age(self.settings.half_life_events)

        def scores_of(row_Q: Int64) -> NDArray[np.float32]:
            past_QI = past_sums(task.histories, row_Q, weigh)
            score_QI = spread(past_QI, lambda item_H: self.weight_II[item_H]) + self.settings.self_weight * past_QI
            return score_QI.astype(np.float32)  # sums of equal numbers in another order are equal again

        return rank_dense(task, scores_of, k)


def ease(choices: Choices, penalty: float) -> Float64:
    """Steck's B: float64 [I, I] with a diagonal of 0; time grows by the cube of the number of items."""
    num_items = len(choices.num_users_I)
    gram_II = np.zeros((num_items, num_items))
    for item_X, other_X, count_X in choices.counts():
        gram_II[item_X, other_X] = count_X
    diagonal = np.diag_indices(num_items)
    gram_II[diagonal] += penalty
    inverse_II = np.linalg.inv(gram_II)
    weight_II: Float64 = inverse_II / -inverse_II[diagonal]
    weight_II[diagonal] = 0.0
    return weight_II


_GRID: Final = tuple(
    asdict(LinearSettings(*values))
    for values in product((1.0, 10.0, 100.0, 1000.0, 10_000.0), (None, 30.0, 10.0, 3.0), (0.0, 0.1, 1.0, 10.0, 100.0))
)


class _Family:
    name: Final = "EASE"

    def __init__(self) -> None:
        self._fits: LastFit[Float64] = LastFit()

    def grid(self) -> Sequence[Mapping[str, Any]]:
        """See `Family.grid`; the penalty changes least often, for it is what takes time."""
        return _GRID

    def ranker(self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int) -> Linear:
        """See `Family.ranker`; fitted to the choices of earlier splits, nothing is random.

        Raises:
            UnfitDataError: the catalogue has more than `MAX_ITEMS` items.
        """
        num_items = histories.items.height
        if num_items > MAX_ITEMS:
            raise UnfitDataError(
                f"The baseline {self.name!r} inverts a matrix of items times items, at most {MAX_ITEMS:,}, but the "
                f"catalogue has {num_items:,}; leave it out of evaluate.baselines (ItemKNN has no such limit)."
            )
        chosen = LinearSettings(**settings)
        key = (split, chosen.penalty)
        return Linear(
            self._fits.get(histories, key, lambda: ease(Choices.of(histories, split), chosen.penalty)), chosen
        )


FAMILIES: Final[tuple[Family, ...]] = (_Family(), ALS)
