"""Branching nodes and their edges, from what neighbouring rows share.

Row i shares its first `common_N[i]` tokens with row i - 1. Where two neighbours part at depth d, there is a branching
node of depth d: all rows around that share as much. Shape legend: N rows, B nodes, C edges, X rows still looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Int32, Int64
from .ragged import Ragged


class Nodes(NamedTuple):
    """The arrays of `Trie` that describe nodes and edges, in its order."""

    depth_B: Int32
    row_lo_B: Int32
    row_hi_B: Int32
    child_ptr_B1: Int64
    child_token_C: Int32
    child_lo_C: Int32
    child_node_C: Int32


def make_nodes(rows: Ragged, common_N: Int32) -> Nodes:
    """Nodes and edges over sorted rows; a node comes before those below it, and those below its edges in their order.

    The time goes with the sum of `common_N`, not with the longest title.
    """
    lo_N, hi_N = _ranges(common_N)
    num_items = len(common_N)
    split_X = np.arange(1, num_items, dtype=np.int32)
    # A node is known by its first row and its depth; every split of it names it.
    split_X = split_X[np.lexsort((common_N[1:], lo_N[1:]))]
    is_new_X = np.ones(len(split_X), bool)
    is_new_X[1:] = (lo_N[split_X[1:]] != lo_N[split_X[:-1]]) | (common_N[split_X[1:]] != common_N[split_X[:-1]])
    first_X = np.flatnonzero(is_new_X)
    depth_B, row_lo_B, row_hi_B = (of[split_X[first_X]] for of in (common_N, lo_N, hi_N))
    num_nodes = len(first_X)

    # An edge begins at the node's first row, and at each of its splits.
    child_lo_C = np.insert(split_X, first_X, row_lo_B)
    child_ptr_B1 = np.append(first_X, len(split_X)) + np.arange(num_nodes + 1)
    is_last_C = np.zeros(len(child_lo_C), bool)
    is_last_C[child_ptr_B1[1:] - 1] = True
    end_C = np.append(child_lo_C[1:], np.int32(0))
    end_C[is_last_C] = row_hi_B
    # Below a first edge comes the next node; below another one the topmost node that begins at its first row.
    topmost_N = np.full(num_items, -1, np.int32)
    begins_B = np.flatnonzero(np.append(True, row_lo_B[1:] != row_lo_B[:-1])[:num_nodes])
    topmost_N[row_lo_B[begins_B]] = begins_B
    child_node_C = topmost_N[child_lo_C]
    child_node_C[child_ptr_B1[:-1]] = np.arange(1, num_nodes + 1)
    child_node_C[end_C - child_lo_C == 1] = -1
    depth_C = np.repeat(depth_B, np.diff(child_ptr_B1))
    child_token_C = rows.tokens[rows.ptr[child_lo_C] + depth_C]
    return Nodes(depth_B, row_lo_B, row_hi_B, child_ptr_B1, child_token_C, child_lo_C, child_node_C)


def _ranges(common_N: Int32) -> tuple[Int32, Int32]:
    """int32 [N] each: first row, and row past the last, of the node at which each row parts from the one before it.

    Rows that part at depth 0 split the top, those at depth 1 the ranges in between, and so on downwards; those that are
    done bound the ranges of the rest. Row 0 parts from nothing; its entry means nothing.
    """
    num_items = len(common_N)
    lo_N, hi_N = np.zeros(num_items, np.int32), np.full(num_items, num_items, np.int32)
    open_X = np.arange(1, num_items, dtype=np.int32)
    lo_X, hi_X = lo_N[1:], hi_N[1:]
    while len(open_X):
        depth_X = common_N[open_X]
        part_X = depth_X == depth_X.min()
        lo_N[open_X[part_X]], hi_N[open_X[part_X]] = lo_X[part_X], hi_X[part_X]
        below_X = ~part_X
        lo_X = np.maximum.accumulate(np.where(part_X, open_X, lo_X))[below_X]
        hi_X = np.minimum.accumulate(np.where(part_X, open_X, hi_X)[::-1])[::-1][below_X]
        open_X = open_X[below_X]
    return lo_N, hi_N


def common_of(num_items: int, depth_B: Int32, child_ptr_B1: Int64, child_lo_C: Int32) -> Int32:
    """int32 [N]: what row i shares with row i - 1, from the nodes: each edge but a node's first parts two rows."""
    common_N = np.zeros(num_items, np.int32)
    is_first_C = np.zeros(len(child_lo_C), bool)
    is_first_C[child_ptr_B1[:-1]] = True
    common_N[child_lo_C[~is_first_C]] = np.repeat(depth_B, np.diff(child_ptr_B1) - 1)
    return common_N
