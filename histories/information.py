"""How much a column says of what is chosen next, beyond the user's own habits: conditional mutual information, in bits.

I(column; choice | user) is how much less of the next choice is open to somebody who knows how often this user chooses
each item. A column that is a function of the user says nothing more then. Counts of few events overstate it. What the
same counts give for columns that are shuffled within each user is that bias; it is subtracted, and how often a shuffled
column says as much is a permutation test (Phipson and Smyth, "Permutation p-values should never be zero", Statistical
Applications in Genetics and Molecular Biology 9(1), 2010).

Shapes: N = events, R = shuffles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Int64

NUM_SHUFFLES: Final = 99
MAX_EVENTS: Final = 50_000
_MOST_NUMBERS: Final = 16  # a number of more distinct values is taken in so many equally frequent ranges


@dataclass(frozen=True)
class Information:
    """What a column says of the next choice given the user, in bits an event.

    `bits` are as counted; `corrected_bits` without what shuffled columns give, which may be below 0 by chance;
    `p_value` is that of a column that says nothing.
    """

    name: str
    bits: float
    corrected_bits: float
    p_value: float


def information(
    frame: pl.DataFrame, user_N: Int64, chosen_N: Int64, seed: int, num_shuffles: int = NUM_SHUFFLES
) -> list[Information]:
    """What each column of `frame` says, a row an event, in the order of the columns.

    `user_N`, `chosen_N`: int64 [N], whose event it is and what was chosen. Columns of one value are left out.
    """
    order_N = np.argsort(user_N, kind="stable")
    user_N, chosen_N = _codes(user_N[order_N]), _codes(chosen_N[order_N])
    rng, found = np.random.default_rng(seed), []
    orders = [_shuffled(user_N, rng) for _ in range(num_shuffles)]
    for column in frame:
        field_N = _field(column)[order_N]
        if not field_N.any():
            continue
        counted = _Counted(user_N, chosen_N, field_N)
        bits = counted.bits(field_N)
        bits_R = np.array([counted.bits(field_N[shuffled_N]) for shuffled_N in orders])
        p_value = (1 + int((bits_R >= bits - 1e-9).sum())) / (1 + num_shuffles)
        found.append(Information(column.name, bits, bits - float(bits_R.mean()), p_value))
    return found


def whole_users(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The events of users drawn at random until there are `MAX_EVENTS`, in their order; all where there are fewer."""
    users = events.group_by("user_idx", maintain_order=True).len().sample(fraction=1.0, shuffle=True, seed=seed)
    drawn = users.filter(pl.col("len").cum_sum().shift(1, fill_value=0) < MAX_EVENTS)["user_idx"]
    return events.filter(pl.col("user_idx").is_in(drawn.implode()))


class _Counted:
    """I(column; choice | user) of one column, however it is shuffled within users."""

    def __init__(self, user_N: Int64, chosen_N: Int64, field_N: Int64) -> None:
        self._num_fields = int(field_N.max()) + 1
        self._pair_N = _codes(user_N * (int(chosen_N.max()) + 1) + chosen_N)
        # A shuffle within users changes none of these counts.
        self._fixed = (
            _sum_of_logs(user_N) - _sum_of_logs(self._pair_N) - _sum_of_logs(user_N * self._num_fields + field_N)
        )

    def bits(self, field_N: Int64) -> float:
        return (self._fixed + _sum_of_logs(self._pair_N * self._num_fields + field_N)) / len(field_N)


def _sum_of_logs(key_N: Int64) -> float:
    """The sum of c log2 c over the counts c of equal keys."""
    count = np.unique(key_N, return_counts=True)[1]
    return float((count * np.log2(count)).sum())


def _shuffled(user_N: Int64, rng: np.random.Generator) -> Int64:
    """A random order of rows in which each user's rows stay among themselves; `user_N` ascends."""
    order_N: Int64 = np.lexsort((rng.random(len(user_N)), user_N))
    return order_N


def _codes(key_N: Int64) -> Int64:
    codes_N: Int64 = np.unique(key_N, return_inverse=True)[1].astype(np.int64)
    return codes_N


def _field(column: pl.Series) -> Int64:
    """The values of a column as numbers from 0 on; what is unknown is a value too."""
    if column.dtype.is_numeric() and column.n_unique() > _MOST_NUMBERS:
        value_N = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
        known_N = np.isfinite(value_N)
        bounds = np.unique(np.quantile(value_N[known_N], np.linspace(0, 1, _MOST_NUMBERS + 1)[1:-1]))
        return _codes(np.where(known_N, np.searchsorted(bounds, np.where(known_N, value_N, 0.0), side="right"), -1))
    rank_N: Int64 = column.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    return _codes(rank_N)
