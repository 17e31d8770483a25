"""Which fields of the context pay: what each says of the next item beyond the user's own habits, and what it costs.

A field's worth is the conditional mutual information I(field; item | user) in bits: how much less of the next choice is
open to somebody who knows how often this user chooses each item. A field that is a function of the user says nothing
more then. Counts of few events overstate it. What the same counts give for fields that are shuffled within each user is
that bias; it is subtracted, and how often a shuffled field says as much is a permutation test (Phipson and Smyth,
"Permutation p-values should never be zero", Statistical Applications in Genetics and Molecular Biology 9(1), 2010).

Shapes: N = events, R = shuffles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Int64
from ..catalogue import Encode

NUM_SHUFFLES: Final = 99
MAX_EVENTS: Final = 50_000
_MOST_NUMBERS: Final = 16  # a number of more distinct values is taken in so many equally frequent ranges


@dataclass(frozen=True)
class FieldWorth:
    """What a field says of the next item given the user, in bits an event, and the tokens it takes for an event.

    `bits` are as counted; `corrected_bits` without what shuffled fields give, which may be below 0 by chance; `p_value`
    is that of a field that says nothing.
    """

    name: str
    bits: float
    corrected_bits: float
    p_value: float
    tokens: float

    @property
    def bits_a_token(self) -> float:
        return self.corrected_bits / self.tokens if self.tokens else 0.0


def field_worths(
    frame: pl.DataFrame, user_N: Int64, item_N: Int64, encode: Encode, seed: int, num_shuffles: int = NUM_SHUFFLES
) -> list[FieldWorth]:
    """The worth of each column of `frame`, a row an event, the most bits a token first.

    `user_N`, `item_N`: int64 [N], whose event it is and what was chosen. Columns of one value are left out.
    """
    order_N = np.argsort(user_N, kind="stable")
    user_N, item_N = _codes(user_N[order_N]), _codes(item_N[order_N])
    rng, worths = np.random.default_rng(seed), []
    orders = [_shuffled(user_N, rng) for _ in range(num_shuffles)]
    for name in frame.columns:
        column = frame[name]
        field_N = _field(column)[order_N]
        if not field_N.any():
            continue
        information = _Information(user_N, item_N, field_N)
        bits = information.bits(field_N)
        bits_R = np.array([information.bits(field_N[shuffled_N]) for shuffled_N in orders])
        p_value = (1 + int((bits_R >= bits - 1e-9).sum())) / (1 + num_shuffles)
        worths.append(FieldWorth(name, bits, bits - float(bits_R.mean()), p_value, _tokens(column, encode)))
    return sorted(worths, key=lambda one: -one.bits_a_token)


class _Information:
    """I(field; item | user) of one field, however it is shuffled within users."""

    def __init__(self, user_N: Int64, item_N: Int64, field_N: Int64) -> None:
        self._num_fields = int(field_N.max()) + 1
        self._pair_N = _codes(user_N * (int(item_N.max()) + 1) + item_N)
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
    """The values of a field as numbers from 0 on; what is unknown is a value too."""
    if column.dtype.is_numeric() and column.n_unique() > _MOST_NUMBERS:
        value_N = column.cast(pl.Float64).to_numpy()
        known_N = np.isfinite(value_N)
        bounds = np.unique(np.quantile(value_N[known_N], np.linspace(0, 1, _MOST_NUMBERS + 1)[1:-1]))
        return _codes(np.where(known_N, np.searchsorted(bounds, np.where(known_N, value_N, 0.0), side="right"), -1))
    rank_N: Int64 = column.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    return _codes(rank_N)


def _tokens(column: pl.Series, encode: Encode) -> float:
    """Tokens of a value behind a space, on average over events; what is empty takes none."""
    said = column.cast(pl.String).fill_null("")
    counts = said.value_counts().rows()
    texts: Sequence[str] = [f" {text}" if text else "" for text, _ in counts]
    lengths = [len(ids) if text else 0 for text, ids in zip(texts, encode(texts), strict=True)]
    return float(np.average(lengths, weights=[count for _, count in counts]))
