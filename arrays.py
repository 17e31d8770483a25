"""Names of array types, the letters of their shapes, and ragged ranges: shared by all packages.

A variable's suffix says its shape: `score_QI` has a row for each question and a column for each item. These letters
mean the same in every package:

    B  branching nodes of a trie         J  edges of the nodes that are scored, end to end
    C  edges of all branching nodes      K  ranked items, best first
    D  decisions of known items          N  events: rows of the histories, or of another table
    E  evaluated events, rows of a task  Q  queries of one batch
    H  hidden size of a model            U  users
    I  items of the catalogue            V  titles of a window; beside H the vocabulary

L, M, P, R, S, T, W, X and Y count something local to a function (positions, pairs, entries of a flattened list): the
docstring of the module or function says what. A digit is a fixed or an extra length: `offset_U1` has one entry more
than there are users.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def ragged(start_Q: Int64, length_Q: Int64) -> tuple[Int64, Int64]:
    """Flatten the ranges from `start_Q` on: the question of each entry and its position, both int64 [X]."""
    query_X = np.repeat(np.arange(len(length_Q), dtype=np.int64), length_Q)
    shift_Q = start_Q - (np.cumsum(length_Q) - length_Q)
    return query_X, np.arange(len(query_X), dtype=np.int64) + shift_Q[query_X]
