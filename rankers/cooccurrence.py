"""What those who chose the user's items chose as well: ItemKNN and EASE, and the co-occurrence that both are made of.

EASE is Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019: minimise |X - XB|^2 + lambda |B|^2 with
a diagonal of B of 0, for X of users times items, 1 where the user chose the item. With P = (X'X + lambda I)^-1 it is
B_ij = -P_ij / P_jj off the diagonal. A history then scores by its product with B, or with ItemKNN's similarities.

Shapes: U = users, I = items, P = distinct (user, item) pairs, B = items of a block, Q = queries, H = items in
histories, K = neighbours of an item.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES
from .protocol import Arrays, Family, Fitting, Floats, UnfitDataError, grid_of
from .user_history import FadedHistory, LastFit

_CELLS = 4_000_000  # of a block of items times items that is held densely: 32 MB
_PAIRS = 2_000_000  # of items that are counted at once
MAX_ITEMS: Final = 10_000
"""EASE inverts a dense matrix of items times items: 0.8 GB at so many, and three of them at work."""


@dataclass(frozen=True)
class Choices:
    """Who chose what at least once, by user and by item.

    `user_item_P` int64 are items in the order of users (and of item_idx): user u's are offset_U1[u]:offset_U1[u + 1].
    `item_user_P` int64 are users in the order of items: those of item i are offset_I1[i]:offset_I1[i + 1].
    """

    user_item_P: Int64
    offset_U1: Int64
    item_user_P: Int64
    offset_I1: Int64

    @classmethod
    def of(cls, histories: Histories, split: EvaluatedSplit) -> "Choices":
        """Those of the events in splits earlier than `split`."""
        num_users, num_items = len(histories.user_ids), histories.items.height
        earlier_N = histories.split_N < SPLIT_CODES[split]
        user_N, item_N = histories.user_idx_N[earlier_N].astype(np.int64), histories.item_idx_N[earlier_N]
        user_P, user_item_P = np.divmod(np.unique(user_N * num_items + item_N), num_items)
        item_order_P = np.argsort(user_item_P, kind="stable")
        return cls(
            user_item_P=user_item_P,
            offset_U1=np.searchsorted(user_P, np.arange(num_users + 1)).astype(np.int64),
            item_user_P=user_P[item_order_P],
            offset_I1=np.searchsorted(user_item_P[item_order_P], np.arange(num_items + 1)).astype(np.int64),
        )

    @property
    def num_users_I(self) -> Int64:
        """How many users chose each item: int64 [I]."""
        return np.diff(self.offset_I1)

    def counts(self) -> Iterator[tuple[Int64, Int64, Int64]]:
        """How many users chose both of two items, an item with itself included, in blocks of consecutive items.

        Yields item_X, other_X, count_X, int64 [X]: pairs that somebody chose, in the order of items and of the others.
        Memory is bounded whatever the catalogue; time grows by the sum of squares of users' numbers of items.
        """
        num_items = len(self.offset_I1) - 1
        num_pairs_I1 = np.append(0, np.cumsum(self._num_pairs_I()))
        start = 0
        while start < num_items:
            # As many items as fit, and one at least.
            stop = int(np.searchsorted(num_pairs_I1, num_pairs_I1[start] + _PAIRS, side="right")) - 1
            stop = max(stop, start + 1)
            begin_B, length_B = self.offset_I1[start:stop], self.num_users_I[start:stop]
            at_X, place_X = ragged(begin_B, length_B)  # all users who chose an item of the block
            user_X = self.item_user_P[place_X]
            entry_Y, place_Y = ragged(self.offset_U1[user_X], np.diff(self.offset_U1)[user_X])
            cell, count = _tally(at_X[entry_Y] * num_items + self.user_item_P[place_Y], (stop - start) * num_items)
            yield start + cell // num_items, cell % num_items, count
            start = stop

    def _num_pairs_I(self) -> Int64:
        """How many items, repetitions included, the users of each item chose: int64 [I]."""
        size_P = np.diff(self.offset_U1)[self.item_user_P]
        size_P1 = np.append(0, np.cumsum(size_P))
        pairs_I: Int64 = size_P1[self.offset_I1[1:]] - size_P1[self.offset_I1[:-1]]
        return pairs_I


def _tally(cell_Y: Int64, num_cells: int) -> tuple[Int64, Int64]:
    """The distinct cells among some, ascending, and how often each occurs."""
    if num_cells > _CELLS:  # sparse: the few cells are sorted
        return np.unique(cell_Y, return_counts=True)
    count = np.bincount(cell_Y, minlength=num_cells)
    cell = np.flatnonzero(count)
    return cell, count[cell]


def spread(weight_QI: Float64, rows_of: Callable[[Int64], NDArray[Any]]) -> Float64:
    """Matrix product of histories and an item-item matrix of which only rows that occur are made, block by block.

    float64 [Q, I]. `weight_QI` float64 is what each item of each query's history counts; `rows_of` gives for items
    int64 [H] their rows, [H, I].
    """
    num_items = weight_QI.shape[1]
    used_H = np.flatnonzero(weight_QI.any(axis=0))
    size = max(_CELLS // num_items, 1)
    sum_QI = np.zeros(weight_QI.shape)
    for start in range(0, len(used_H), size):
        item_B = used_H[start : start + size]
        sum_QI += weight_QI[:, item_B] @ rows_of(item_B)
    return sum_QI


@dataclass(frozen=True)
class Neighbours:
    """The most similar other items of each item.

    `item_IK` int32, most similar first, equally similar ones in the order of item_idx, -1 behind the last;
    `similarity_IK` float64, above 0, and 0 behind the last.
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

    def scores_of(self, past_QI: Float64) -> Float64:
        """See `ItemModel`."""
        return spread(past_QI, self.rows)

    def arrays(self) -> Arrays:
        """Both fields."""
        return dict(vars(self))


@dataclass(frozen=True)
class Linear:
    """What each item adds to the score of each other one: float [I, I], see `ease`."""

    weight_II: Floats

    def scores_of(self, past_QI: Float64) -> Float64:
        """See `ItemModel`."""
        return spread(past_QI, lambda item_H: self.weight_II[item_H])

    def arrays(self) -> Arrays:
        """In float32, half as large: as exact as scores are."""
        return {"weight_II": self.weight_II.astype(np.float32)}


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


@dataclass(frozen=True)
class _NeighbourSettings:
    """What is tuned of ItemKNN: `num_neighbours` and `shrink` see `Neighbours.of`, the others `FadedHistory`."""

    num_neighbours: int
    shrink: float
    half_life_events: float | None
    self_weight: float


@dataclass(frozen=True)
class _LinearSettings:
    """What is tuned of EASE: `penalty` is lambda, in users; for the others see `FadedHistory`."""

    penalty: float
    half_life_events: float | None
    self_weight: float


_neighbours: Final[LastFit[Neighbours]] = LastFit()
_weights: Final[LastFit[Float64]] = LastFit()


def _item_knn(fitting: Fitting) -> FadedHistory:
    histories, split, one = fitting.histories, fitting.split, _NeighbourSettings(**fitting.settings)
    fitted = _neighbours.get(
        histories, (split, one.num_neighbours, one.shrink),
        lambda: Neighbours.of(Choices.of(histories, split), one.num_neighbours, one.shrink),
    )  # fmt: skip
    return FadedHistory(fitted, one.half_life_events, one.self_weight)


def _restored_knn(settings: Any, arrays: Arrays, known: Histories, split: EvaluatedSplit) -> FadedHistory:
    return FadedHistory(Neighbours(**arrays), settings["half_life_events"], settings["self_weight"])


def _ease(fitting: Fitting) -> FadedHistory:
    histories, split, one = fitting.histories, fitting.split, _LinearSettings(**fitting.settings)
    if (num_items := histories.items.height) > MAX_ITEMS:
        raise UnfitDataError(
            f"The baseline 'EASE' inverts a matrix of items times items, at most {MAX_ITEMS:,}, but the catalogue has "
            f"{num_items:,}; leave it out of evaluate.baselines (ItemKNN has no such limit)."
        )
    weight_II = _weights.get(histories, (split, one.penalty), lambda: ease(Choices.of(histories, split), one.penalty))
    return FadedHistory(Linear(weight_II), one.half_life_events, one.self_weight)


def _restored_ease(settings: Any, arrays: Arrays, known: Histories, split: EvaluatedSplit) -> FadedHistory:
    return FadedHistory(Linear(**arrays), settings["half_life_events"], settings["self_weight"])


# What takes time to fit changes least often: see `LastFit`.
FAMILIES: Final = (
    Family("ItemKNN", grid_of(
        _NeighbourSettings, (5, 20, 100), (3.0, 30.0), (None, 30.0, 10.0, 3.0), (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)
    ), _item_knn, _restored_knn),
    Family("EASE", grid_of(
        _LinearSettings, (1.0, 10.0, 100.0, 1000.0, 10_000.0), (None, 30.0, 10.0, 3.0), (0.0, 0.1, 1.0, 10.0, 100.0)
    ), _ease, _restored_ease),
)  # fmt: skip
