"""Which fields of the context pay: what each says of the next item beyond the user's own habits, and what it costs.

A field's worth is the conditional mutual information I(field; item | user) in bits, see `histories.information`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..arrays import Int64
from ..catalogue import Encode
from ..histories.information import NUM_SHUFFLES, Information, information


@dataclass(frozen=True)
class FieldWorth(Information):
    """What a field says of the next item given the user, in bits an event, and the tokens it takes for an event."""

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
    worths = [
        FieldWorth(one.name, one.bits, one.corrected_bits, one.p_value, _tokens(frame[one.name], encode))
        for one in information(frame, user_N, item_N, seed, num_shuffles)
    ]
    return sorted(worths, key=lambda one: -one.bits_a_token)


def _tokens(column: pl.Series, encode: Encode) -> float:
    """Tokens of a value behind a space, on average over events; what is empty takes none."""
    said = column.cast(pl.String).fill_null("")
    counts = said.value_counts().rows()
    texts: Sequence[str] = [f" {text}" if text else "" for text, _ in counts]
    lengths = [len(ids) if text else 0 for text, ids in zip(texts, encode(texts), strict=True)]
    return float(np.average(lengths, weights=[count for _, count in counts]))
