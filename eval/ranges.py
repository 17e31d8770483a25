"""Ragged lists without a Python loop: ranges of rows, one for each query, flattened."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["ragged"]

Int64 = NDArray[np.int64]


def ragged(start_Q: Int64, length_Q: Int64) -> tuple[Int64, Int64]:
    """Flatten the ranges from `start_Q` on: the query of each entry and the position it points to, both int64 [X]."""
    query_X = np.repeat(np.arange(len(length_Q), dtype=np.int64), length_Q)
    shift_Q = start_Q - (np.cumsum(length_Q) - length_Q)
    return query_X, np.arange(len(query_X), dtype=np.int64) + shift_Q[query_X]
