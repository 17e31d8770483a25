"""ItemKNN: what those who chose the user's items chose as well.

Shapes: Q = queries, I = items, K = neighbours of an item, B = items of a block, H = items in histories.
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
from .dense import rank_dense
from .last_fit import LastFit
from .pasts import by_age, past_sums
from .protocol import Family
from .rankings import Rankings
from .together import Choices, spread

__all__ = ["FAMILIES", "ItemNeighbours", "NeighbourSettings", "Neighbours"]


@dataclass(frozen=True)
class NeighbourSettings:
    """What is tuned.

    Attributes:
        num_neighbours: K, how many most similar items each item keeps.
        shrink: added to the denominator of the similarity; takes from what few users said.
        half_life_events: an event of the history counts half when so many came after it; None: all count alike.
        self_weight: similarity of an item to itself: how much it speaks for choosing the same again.
    """

    num_neighbours: int
    shrink: float
    half_life_events: float | None
    self_weight: float


@dataclass(frozen=True)
class Neighbours:
    """The most similar other items of each item.

    Attributes:
        item_IK: int32, most similar first, equally similar ones in the order of item_idx; -1 behind the last.
        similarity_IK: float64, above 0; 0 behind the last.
    """

    item_IK: NDArray[np.int32]
    similarity_IK: Float64

    @classmethod
    def of(cls, choices: Choices, num_neighbours: int, shrink: float) -> "Neighbours":
        """By shrunk cosine, both / (sqrt(users of one * users of the other) + shrink), counting users.

        Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 22(1), 2004; shrunk as by Ferrari
        Dacrema, Cremonesi and Jannach, "Are we really making much progress?", RecSys 2019.
        """
        length_I = np.sqrt(choices.num_users_I)
        num_items = len(length_I)
        item_IK = np.full((num_items, num_neighbours), -1, np.int32)
        similarity_IK = np.zeros((num_items, num_neighbours))
        for item_X, other_X, count_X in choices.counts():
            item_X, other_X, count_X = (column[item_X != other_X] for column in (item_X, other_X, count_X))
            similarity_X = count_X / (length_I[item_X] * length_I[other_X] + shrink)
            order_X = np.lexsort((other_X, -similarity_X, item_X))
            item_X, other_X, similarity_X = item_X[order_X], other_X[order_X], similarity_X[order_X]
            place_X = np.arange(len(item_X)) - np.searchsorted(item_X, item_X)
            kept_X = place_X < num_neighbours
            item_IK[item_X[kept_X], place_X[kept_X]] = other_X[kept_X]
            similarity_IK[item_X[kept_X], place_X[kept_X]] = similarity_X[kept_X]
        return cls(item_IK, similarity_IK)

    def rows(self, item_H: Int64) -> Float64:
        """Similarities of some items to all others, 0 where these are no neighbours: float64 [H, I]."""
        row_HI = np.zeros((len(item_H), len(self.item_IK)))
        other_HK = self.item_IK[item_H]
        at_X, place_X = np.nonzero(other_HK >= 0)
        row_HI[at_X, other_HK[at_X, place_X]] = self.similarity_IK[item_H[at_X], place_X]
        return row_HI


@dataclass(frozen=True)
class ItemNeighbours:
    """Sum over the history, faded by age, of each item's similarity to the candidate."""

    neighbours: Neighbours
    settings: NeighbourSettings

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`."""
        weigh = by_age(self.settings.half_life_events)

        def scores_of(row_Q: Int64) -> NDArray[np.float32]:
            weight_QI = past_sums(task.histories, row_Q, weigh)
            score_QI = spread(weight_QI, self.neighbours.rows) + self.settings.self_weight * weight_QI
            return score_QI.astype(np.float32)  # sums of equal numbers in another order are equal again

        return rank_dense(task, scores_of, k)


_GRID: Final = tuple(
    asdict(NeighbourSettings(*values))
    for values in product((5, 20, 100), (3.0, 30.0), (None, 30.0, 10.0, 3.0), (0.0, 1.0, 3.0, 10.0, 30.0, 100.0))
)


class _Family:
    name: Final = "ItemKNN"

    def __init__(self) -> None:
        self._fits: LastFit[Neighbours] = LastFit()

    def grid(self) -> Sequence[Mapping[str, Any]]:
        """See `Family.grid`."""
        return _GRID

    def ranker(
        self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int
    ) -> ItemNeighbours:
        """See `Family.ranker`; similarities are those of earlier splits, nothing is random."""
        chosen = NeighbourSettings(**settings)
        key = (split, chosen.num_neighbours, chosen.shrink)
        return ItemNeighbours(
            self._fits.get(
                histories,
                key,
                lambda: Neighbours.of(Choices.of(histories, split), chosen.num_neighbours, chosen.shrink),
            ),
            chosen,
        )


FAMILIES: Final[tuple[Family, ...]] = (_Family(),)
