"""The prior of training events, cross-fitted: no ranker scores an event that it was fitted on.

Counts never use later events. What is fitted is fitted once for each fold of the users, to
the training events of all other users, and applied to those of the fold (cross-fitting: Chernozhukov et al., The
Econometrics Journal 21(1), 2018). A model that trained on top of a prior that has seen the answer would learn to trust
it, and be wrong where it has not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Bool, Int64
from ..histories import Histories
from ..histories.splitting import HISTORY
from .stack import BoundStack, Stack

NUM_FOLDS: Final = 5


def folds(histories: Histories, seed: int, num: int = NUM_FOLDS) -> list[Bool]:
    """bool [U] for each fold: its users; users with training events are spread over the folds evenly, by the seed."""
    num_users = len(histories.user_ids)
    fold_U = np.random.default_rng([seed, num]).permutation(num_users) % num
    return [fold_U == fold for fold in range(num)]


def held_out(histories: Histories, fold_U: Bool) -> Histories:
    """The same histories, of which nothing of the users of a fold may be fitted on."""
    split_N = np.where(fold_U[histories.user_idx_N] & (histories.split_N == 0), np.int8(HISTORY), histories.split_N)
    names = pl.Series("split", ["history"]).cast(histories.events.schema["split"])
    is_out = pl.Series(split_N == HISTORY)
    events = histories.events.with_columns(split=pl.when(is_out).then(pl.lit(names[0], names.dtype)).otherwise("split"))
    return replace(histories, events=events, split_N=split_N)


def cross_fitted(
    histories: Histories, fit: Callable[[Histories], Stack], row_N: Int64, seed: int, num_folds: int = NUM_FOLDS
) -> Iterator[tuple[Int64, BoundStack]]:  # fmt: skip
    """For each fold the rows among `row_N` (int64, training events) of its users, and the stack that scores them.

    `fit` makes a stack of histories, for the valid split.
    """
    for fold_U in folds(histories, seed, num_folds):
        rows = row_N[fold_U[histories.user_idx_N[row_N]]]
        if len(rows):
            others = held_out(histories, fold_U)
            yield rows, fit(others).on(others)
