"""Names of array types, the letters of their shapes, and ragged ranges: shared by all rooms.

A variable's suffix says its shape: `score_QI` has a row for each question and a column for each item. The letters mean
the same in every room:

    B  branching nodes of a trie             M  events or items of one person's past
    C  entries of a sparse list of children  P  decisions (branching nodes on the ways of items), pairs
    D  decisions of known items              Q  questions
    E  edges of nodes, or evaluated events   R  rows of a batch
    F  fields, first entries                 S  entries of a set
    H  hidden size                           T  tokens, or items that prompts can name
    I  items                                 U  users
    K  ranked items                          V  titles of a window, or the vocabulary beside H
    L  positions of a text                   W  windows
    N  rows of a table (events or items)     X  entries of a flattened ragged list

A digit is a fixed or an extra length: `offset_U1` has one entry more than there are users.
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
