"""Factorised personalised Markov chains, FPMC: who moves where, as inner products of small vectors.

Rendle, Freudenthaler and Schmidt-Thieme, "Factorizing personalized Markov chains for next-basket recommendation", WWW
2010, with baskets of one item: the score of item i for user u at item l is b_i + <U_u, V_i> + <L_l, W_i>. Where they
learn from pairs of a right and a wrong item (S-BPR), this learns from the right one among many at once: cross-entropy
over the catalogue, which makes the scores log-probabilities; over a large catalogue it is sampled (Jean et al., ACL
2015), the wrong items uniformly and shared by a batch.

Shapes: U = users, I = items, M = moves learnt from, B = moves of a batch, W = wrong items of a batch, R = rank,
K = users with moves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float32

Ints = NDArray[np.integer]

_BATCH = 256
_WRONG = 1024  # items sampled for a batch; a catalogue of at most so many is used whole
_STEP = 0.1  # of Adagrad
_INITIAL = 0.1  # standard deviation of a vector's length at the start


@dataclass(frozen=True)
class FactorSettings:
    """What is tuned: R, the length of each of the four vectors; the penalty of the squares of the numbers that a move's
    score is made of, per move; how often each move is learnt from."""

    rank: int
    penalty: float
    epochs: int


@dataclass(frozen=True)
class Factors:
    """A fitted model, float32: vectors of users and of the items that they are at, 0 where nothing was learnt; vectors
    of the items to go to, first for the user, then for the last item; biases of these."""

    user_UR: Float32
    last_IR: Float32
    item_I2R: Float32
    bias_I: Float32

    def log_probs(self, user_Q: Ints, last_Q: Ints) -> NDArray[np.float64]:
        """log p of each item for users who are at an item: float64 [Q, I], each row a distribution.

        Nothing was learnt of a user and of an item that are -1.
        """
        parts = (user_Q, self.user_UR), (last_Q, self.last_IR)
        vector_parts = [np.where(at_Q[:, None] >= 0, vectors[at_Q], np.float32(0)) for at_Q, vectors in parts]
        vector_Q2R = np.concatenate(vector_parts, axis=1)
        score_QI = (vector_Q2R @ self.item_I2R.T + self.bias_I).astype(np.float64)
        score_QI -= score_QI.max(axis=1, keepdims=True)
        score_QI -= np.log(np.exp(score_QI).sum(axis=1, keepdims=True))
        log_prob_QI: NDArray[np.float64] = score_QI
        return log_prob_QI


def fit_factors(
    user_M: Ints, last_M: Ints, item_M: Ints, sizes: tuple[int, int], settings: FactorSettings, seed: int
) -> Factors:
    """Learn from moves: Adagrad over batches in random order. The same arguments give the same model.

    `user_M`, `last_M`, `item_M` int say who went from where to where; there may be none. `sizes` are U and I.
    """
    num_users, num_items = sizes
    # Users who teach nothing are not in it: their presence and number do not matter.
    known_K, user_M = np.unique(user_M, return_inverse=True)
    rng = np.random.default_rng(seed)
    scale = _INITIAL / np.sqrt(settings.rank)
    shapes = ((len(known_K), settings.rank), (num_items, settings.rank), (num_items, 2 * settings.rank))
    drawn = [_Table(rng.normal(0, scale, shape)) for shape in shapes]
    model = _Model([*drawn, _Table(np.zeros((num_items, 1)))], settings)
    for _ in range(settings.epochs):
        order_M = rng.permutation(len(item_M))
        for start in range(0, len(order_M), _BATCH):
            at_B = order_M[start : start + _BATCH]
            wrong_W = np.arange(num_items) if num_items <= _WRONG else rng.choice(num_items, _WRONG, replace=False)
            model.learn(user_M[at_B], last_M[at_B], item_M[at_B], wrong_W)
    known, last, item, bias = (table.value for table in model.tables)
    user_UR = np.zeros((num_users, settings.rank), np.float32)
    user_UR[known_K] = known
    last[np.setdiff1d(np.arange(num_items), last_M)] = 0
    return Factors(user_UR, last, item, bias[:, 0])


class _Table:
    """Numbers to be learnt, and how much each has been moved so far (Duchi, Hazan and Singer, JMLR 12, 2011)."""

    def __init__(self, value: NDArray[np.float64]) -> None:
        self.value = value.astype(np.float32)
        self._squares = np.full_like(self.value, 1e-6)

    def descend(self, row_X: Ints, slope_XR: NDArray[np.floating]) -> None:
        """One step of Adagrad for some rows; slopes of a row that is named more than once are added up."""
        order_X = np.argsort(row_X, kind="stable")
        row_X = row_X[order_X]
        first_Y = np.flatnonzero(np.diff(row_X, prepend=-1))
        row_Y = row_X[first_Y]
        slope_YR = np.add.reduceat(slope_XR[order_X], first_Y, axis=0)
        squares_YR = self._squares[row_Y] + slope_YR**2
        self._squares[row_Y] = squares_YR
        self.value[row_Y] -= _STEP * slope_YR / np.sqrt(squares_YR)


@dataclass(frozen=True)
class _Model:
    """Tables of users, last items, next items and their biases."""

    tables: list[_Table]
    settings: FactorSettings

    def learn(self, user_B: Ints, last_B: Ints, item_B: Ints, wrong_W: Ints) -> None:
        """One step down the slope of the batch's summed cross-entropy and penalty."""
        user, last, item, bias = self.tables
        query_B2R = np.concatenate([user.value[user_B], last.value[last_B]], axis=1)
        right_B2R, wrong_W2R = item.value[item_B], item.value[wrong_W]
        right_B = (query_B2R * right_B2R).sum(axis=1) + bias.value[item_B, 0]
        wrong_BW = query_B2R @ wrong_W2R.T + bias.value[wrong_W, 0]
        share_B, share_BW = _softmax(right_B, wrong_BW, wrong_W == item_B[:, None], len(item.value))
        slope_B1 = share_B[:, None] - np.float32(1)
        penalty, rank = self.settings.penalty, self.settings.rank
        slope_query = slope_B1 * right_B2R + share_BW @ wrong_W2R + penalty * query_B2R
        slope_right = slope_B1 * query_B2R + penalty * right_B2R
        slope_bias = slope_B1 + penalty * bias.value[item_B]
        item_X = np.concatenate([item_B, wrong_W])
        user.descend(user_B, slope_query[:, :rank])
        last.descend(last_B, slope_query[:, rank:])
        item.descend(item_X, np.concatenate([slope_right, share_BW.T @ query_B2R]))
        bias.descend(item_X, np.concatenate([slope_bias, share_BW.sum(axis=0)[:, None]]))


def _softmax(
    right_B: Float32, wrong_BW: Float32, is_right_BW: NDArray[np.bool_], num_items: int
) -> tuple[Float32, Float32]:
    """Probabilities of the right item, [B], and of the wrong ones, [B, W], each of these standing for all unsampled."""
    num_wrong_B = (~is_right_BW).sum(axis=1)
    stands_for_B = np.where(num_wrong_B > 0, (num_items - 1) / np.maximum(num_wrong_B, 1), 1.0)
    wrong_BW = np.where(is_right_BW, -np.inf, wrong_BW + np.log(stands_for_B)[:, None].astype(np.float32))
    top_B = np.maximum(right_B, wrong_BW.max(axis=1))
    right_B, wrong_BW = np.exp(right_B - top_B), np.exp(wrong_BW - top_B[:, None])
    total_B = right_B + wrong_BW.sum(axis=1)
    return right_B / total_B, wrong_BW / total_B[:, None]
