"""The catalogue as a path-compressed token trie, in flat arrays.

Titles are sorted by their token ids; a node of the trie is then a contiguous range of rows. Only *branching* nodes
are kept: where a node has one child, that token is certain, carries no probability and needs no model.

Nodes and edges follow from what neighbouring rows share. Row i shares its first `common_I[i]` tokens with row i - 1.
Where two neighbours part at depth d, there is a branching node of depth d: all rows around that share as much.

Shape legend: I items (one row each), P tokens of all titles (CSR over I), B branching nodes, C edges out of branching
nodes (CSR over B); Q items, X rows, nodes or edges that a caller names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..arrays import Int32, Int64
from .tokens import Ragged


@dataclass(frozen=True)
class Trie:
    """A token trie over I distinct titles, none of which is a prefix of another. Any array may be a read-only map.

    `token_P` int32 [P] holds the tokens of all titles, sorted by tokens, end to end: those of row r are
    `token_P[token_ptr_I1[r]:token_ptr_I1[r + 1]]`; `item_of_row_I` int32 [I] is the item index of every sorted row and
    `row_of_item_I` its inverse. Node b covers rows `row_lo_B[b]:row_hi_B[b]`, which share their first `depth_B[b]`
    tokens. Its edges are `child_ptr_B1[b]:child_ptr_B1[b + 1]`, in ascending token order: edge c starts with
    `child_token_C[c]`, covers the rows from `child_lo_C[c]`, and leads to the branching node `child_node_C[c]`, or, if
    that is -1, to the single item of row `child_lo_C[c]`. Node 0 is the topmost; with one item there is none (B = 0).
    """

    token_P: Int32
    token_ptr_I1: Int64
    item_of_row_I: Int32
    row_of_item_I: Int32
    depth_B: Int32
    row_lo_B: Int32
    row_hi_B: Int32
    child_ptr_B1: Int64
    child_token_C: Int32
    child_lo_C: Int32
    child_node_C: Int32

    @property
    def num_items(self) -> int:
        return len(self.item_of_row_I)

    @property
    def num_nodes(self) -> int:
        return len(self.depth_B)

    @property
    def rows(self) -> Ragged:
        """The titles' tokens, row by row."""
        return Ragged(self.token_P, self.token_ptr_I1)

    @cached_property
    def length_I(self) -> Int32:
        """int32 [I]: tokens of every row's title, terminator included."""
        return np.diff(self.token_ptr_I1).astype(np.int32)

    @cached_property
    def parent_node_of_edge_C(self) -> Int32:
        """int32 [C]: the branching node that each edge leaves."""
        return np.repeat(np.arange(self.num_nodes, dtype=np.int32), np.diff(self.child_ptr_B1))

    def row_tokens(self, row: int) -> Int32:
        """int32 [title length]: the token ids of one row's title, terminator included."""
        return self.token_P[self.token_ptr_I1[row] : self.token_ptr_I1[row + 1]]

    def title_tokens(self, item_idx: int) -> Int32:
        """int32 [title length]: the token ids of one item's title, terminator included."""
        return self.row_tokens(int(self.row_of_item_I[item_idx]))

    def tokens_at(self, row_X: Int64 | Int32, depth_X: Int64 | Int32) -> Int32:
        """int32 [X]: the token at depth `depth_X` of the title of row `row_X`; the depth must be below its length."""
        token_X: Int32 = self.token_P[self.token_ptr_I1[row_X] + depth_X]
        return token_X

    def child_hi(self, edge_X: Int64) -> Int64:
        """int64 [X]: where the rows of edges end; those below edge c are `child_lo_C[c]:child_hi(c)`."""
        node_X = np.searchsorted(self.child_ptr_B1, edge_X, side="right") - 1
        is_last_X = self.child_ptr_B1[node_X + 1] == edge_X + 1
        next_X = np.minimum(edge_X + 1, len(self.child_lo_C) - 1)
        return np.where(is_last_X, self.row_hi_B[node_X], self.child_lo_C[next_X]).astype(np.int64)

    def decisions(self, item_Q: Int64) -> tuple[Int64, Int64, Int64]:
        """The branching decisions of the titles of items `item_Q`: position in `item_Q`, node, edge of each (int64).

        Positions ascend, and the nodes of each follow its title from the top.
        """
        row_Q = self.row_of_item_I[item_Q].astype(np.int64)
        owner_X = np.arange(len(row_Q) if self.num_nodes else 0)
        node_X = np.zeros(len(owner_X), np.int64)
        parts = [(owner_X[:0], owner_X[:0], owner_X[:0])]
        while len(owner_X):
            edge_X = self._edge_over(node_X, row_Q[owner_X])
            parts.append((owner_X, node_X, edge_X))
            node_X = self.child_node_C[edge_X].astype(np.int64)
            owner_X, node_X = owner_X[node_X >= 0], node_X[node_X >= 0]
        owner_P, node_P, edge_P = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(owner_P, kind="stable")
        return owner_P[order], node_P[order], edge_P[order]

    def _edge_over(self, node_X: Int64, row_X: Int64) -> Int64:
        """int64 [X]: that edge of each node whose rows hold `row_X`; all binary searches side by side."""
        low_X, high_X = self.child_ptr_B1[node_X], self.child_ptr_B1[node_X + 1]
        for _ in range(int((high_X - low_X).max()).bit_length()):
            middle_X = (low_X + high_X) // 2
            is_right_X = self.child_lo_C[middle_X] <= row_X
            low_X, high_X = np.where(is_right_X, middle_X, low_X), np.where(is_right_X, high_X, middle_X)
        return low_X


def make_nodes(rows: Ragged, common_I: Int32) -> tuple[Int32, Int32, Int32, Int64, Int32, Int32, Int32]:
    """The arrays of `Trie` that describe nodes and edges, in its order, over sorted rows.

    A node comes before those below it, and those below its edges in their order. The time goes with the sum of
    `common_I`, not with the longest title.
    """
    lo_I, hi_I = _ranges(common_I)
    num_items = len(common_I)
    split_X = np.arange(1, num_items, dtype=np.int32)
    # A node is known by its first row and its depth; every split of it names it.
    split_X = split_X[np.lexsort((common_I[1:], lo_I[1:]))]
    is_new_X = np.ones(len(split_X), bool)
    is_new_X[1:] = (lo_I[split_X[1:]] != lo_I[split_X[:-1]]) | (common_I[split_X[1:]] != common_I[split_X[:-1]])
    first_X = np.flatnonzero(is_new_X)
    depth_B, row_lo_B, row_hi_B = (of[split_X[first_X]] for of in (common_I, lo_I, hi_I))
    num_nodes = len(first_X)

    # An edge begins at the node's first row, and at each of its splits.
    child_lo_C = np.insert(split_X, first_X, row_lo_B)
    child_ptr_B1 = np.append(first_X, len(split_X)) + np.arange(num_nodes + 1)
    is_last_C = np.zeros(len(child_lo_C), bool)
    is_last_C[child_ptr_B1[1:] - 1] = True
    end_C = np.append(child_lo_C[1:], np.int32(0))
    end_C[is_last_C] = row_hi_B
    # Below a first edge comes the next node; below another one the topmost node that begins at its first row.
    topmost_I = np.full(num_items, -1, np.int32)
    begins_B = np.flatnonzero(np.append(True, row_lo_B[1:] != row_lo_B[:-1])[:num_nodes])
    topmost_I[row_lo_B[begins_B]] = begins_B
    child_node_C = topmost_I[child_lo_C]
    child_node_C[child_ptr_B1[:-1]] = np.arange(1, num_nodes + 1)
    child_node_C[end_C - child_lo_C == 1] = -1
    depth_C = np.repeat(depth_B, np.diff(child_ptr_B1))
    child_token_C = rows.tokens[rows.ptr[child_lo_C] + depth_C]
    return depth_B, row_lo_B, row_hi_B, child_ptr_B1, child_token_C, child_lo_C, child_node_C


def _ranges(common_I: Int32) -> tuple[Int32, Int32]:
    """int32 [I] each: first row, and row past the last, of the node at which each row parts from the one before it.

    Rows that part at depth 0 split the top, those at depth 1 the ranges in between, and so on downwards; those that are
    done bound the ranges of the rest. Row 0 parts from nothing; its entry means nothing.
    """
    num_items = len(common_I)
    lo_I, hi_I = np.zeros(num_items, np.int32), np.full(num_items, num_items, np.int32)
    open_X = np.arange(1, num_items, dtype=np.int32)
    lo_X, hi_X = lo_I[1:], hi_I[1:]
    while len(open_X):
        depth_X = common_I[open_X]
        part_X = depth_X == depth_X.min()
        lo_I[open_X[part_X]], hi_I[open_X[part_X]] = lo_X[part_X], hi_X[part_X]
        below_X = ~part_X
        lo_X = np.maximum.accumulate(np.where(part_X, open_X, lo_X))[below_X]
        hi_X = np.minimum.accumulate(np.where(part_X, open_X, hi_X)[::-1])[::-1][below_X]
        open_X = open_X[below_X]
    return lo_I, hi_I


def common_of(num_items: int, depth_B: Int32, child_ptr_B1: Int64, child_lo_C: Int32) -> Int32:
    """int32 [I]: what row i shares with row i - 1, from the nodes: each edge but a node's first parts two rows."""
    common_I = np.zeros(num_items, np.int32)
    is_first_C = np.zeros(len(child_lo_C), bool)
    is_first_C[child_ptr_B1[:-1]] = True
    common_I[child_lo_C[~is_first_C]] = np.repeat(depth_B, np.diff(child_ptr_B1) - 1)
    return common_I
