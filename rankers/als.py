"""ALS: a weighted low-rank factorisation of who chose what; needs the package `implicit` (extra "als").

Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008: minimise the sum over users
and all items of c (p - x'y)^2 + lambda (|x|^2 + |y|^2) with p = 1 and c = 1 + alpha * events where the user chose the
item, else p = 0 and c = 1. `implicit` fits the items' vectors y; the vector of a history, faded by age, is then the
exact minimum for them. As with EASE, an item of the history also speaks for itself by a weight that is tuned.

Shapes: Q = queries, I = items, H = items in histories, R = rank, P = distinct (user, item) pairs,
K = users with earlier events.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..arrays import Float64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES
from .protocol import Arrays, Family, Fitting, grid_of, require
from .user_history import FadedHistory, LastFit

_ITERATIONS = 15
_EXACT = 1e-8  # of the length of the residual, relative to that of the right side


@dataclass(frozen=True)
class AlsSettings:
    """What is tuned: R, lambda and alpha of the module's text; for the others see `FadedHistory`."""

    rank: int
    penalty: float
    alpha: float
    half_life_events: float | None
    self_weight: float


def fold_in(vector_IR: Float64, extra_QI: Float64, penalty: float) -> Float64:
    """The vector of each history that minimises the loss for fixed items: float64 [Q, R].

    Conjugate gradients for all of them at once: (Y'Y + Y' diag(e) Y + penalty I) x = Y' (1 + e where e > 0), exact up
    to rounding since there are at most R different directions; it stops earlier where nothing is left to gain.

    `vector_IR` is Y, the items' vectors; `extra_QI` is e, at least 0: how much more than 1 each item's confidence is,
    0 for items not in the history; `penalty` is above 0.
    """
    used_H = np.flatnonzero(extra_QI.any(axis=0))
    used_HR, extra_QH = vector_IR[used_H], extra_QI[:, used_H]
    gram_RR = vector_IR.T @ vector_IR + penalty * np.eye(vector_IR.shape[1])
    residual_QR = (extra_QH + (extra_QH > 0)) @ used_HR
    enough_Q = _EXACT**2 * (residual_QR**2).sum(axis=1)
    user_QR, step_QR = np.zeros_like(residual_QR), residual_QR.copy()
    left_Q = (residual_QR**2).sum(axis=1)
    for _ in range(2 * vector_IR.shape[1]):  # rounding costs some directions
        if (left_Q <= enough_Q).all():
            break
        image_QR = step_QR @ gram_RR + (extra_QH * (step_QR @ used_HR.T)) @ used_HR
        length_Q = (step_QR * image_QR).sum(axis=1)
        by_Q = np.divide(left_Q, length_Q, out=np.zeros_like(left_Q), where=left_Q > enough_Q)
        user_QR += by_Q[:, None] * step_QR
        residual_QR -= by_Q[:, None] * image_QR
        new_Q = (residual_QR**2).sum(axis=1)
        turn_Q = np.divide(new_Q, left_Q, out=np.zeros_like(left_Q), where=left_Q > enough_Q)
        step_QR, left_Q = residual_QR + turn_Q[:, None] * step_QR, new_Q
    return user_QR


def _fit(histories: Histories, split: EvaluatedSplit, settings: AlsSettings, seed: int) -> Float64:
    """The items' vectors by `implicit`, from the events of splits earlier than `split`: float64 [I, R]."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    num_items = histories.items.height
    earlier_N = histories.split_N < SPLIT_CODES[split]
    # Users still to come are not there.
    known_K, user_N = np.unique(histories.user_idx_N[earlier_N], return_inverse=True)
    key_P, count_P = np.unique(user_N * num_items + histories.item_idx_N[earlier_N], return_counts=True)
    confidence_P = (1 + settings.alpha * count_P).astype(np.float32)
    with threadpool_limits(1, "blas"):  # `implicit` has threads of its own, and warns of more
        fixed = {"iterations": _ITERATIONS, "num_threads": 1, "random_state": seed}
        model = AlternatingLeastSquares(settings.rank, settings.penalty, **fixed)
        chosen = csr_matrix((confidence_P, np.divmod(key_P, num_items)), (len(known_K), num_items))
        model.fit(chosen, show_progress=False)
    return np.asarray(model.item_factors, np.float64)


@dataclass(frozen=True)
class Vectors:
    """The items' vectors, float64 [I, R]; an item's score is its inner product with the vector of the history."""

    vector_IR: Float64
    alpha: float
    penalty: float

    def scores_of(self, past_QI: Float64) -> Float64:
        """See `ItemModel`."""
        return fold_in(self.vector_IR, self.alpha * past_QI, self.penalty) @ self.vector_IR.T

    def arrays(self) -> Arrays:
        """The vectors."""
        return {"vector_IR": self.vector_IR}


_vectors: Final[LastFit[Float64]] = LastFit()


def _als(fitting: Fitting) -> FadedHistory:
    require("implicit", "als", "ALS")
    histories, split, seed, one = fitting.histories, fitting.split, fitting.seed, AlsSettings(**fitting.settings)
    key = (split, one.rank, one.penalty, one.alpha, seed)
    vector_IR = _vectors.get(histories, key, lambda: _fit(histories, split, one, seed))
    return FadedHistory(Vectors(vector_IR, one.alpha, one.penalty), one.half_life_events, one.self_weight)


def _restored(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> FadedHistory:
    one = AlsSettings(**settings)
    return FadedHistory(Vectors(**arrays, alpha=one.alpha, penalty=one.penalty), one.half_life_events, one.self_weight)


_GRID: Final = grid_of(
    AlsSettings, (8, 16, 64), (1.0, 10.0, 100.0), (1.0, 10.0, 100.0), (None, 10.0, 3.0), (0.0, 0.1, 1.0, 10.0)
)
FAMILIES: Final = (Family("ALS", _GRID, _als, _restored),)
