"""The catalogue as a path-compressed token trie, in flat arrays.

Titles are sorted by their token ids; a node of the trie is then a contiguous range of rows. Only *branching* nodes
are kept: where a node has one child, that token is certain, carries no probability and needs no model.

Shape legend: N items, B branching nodes, C edges out of branching nodes (CSR over B), P path entries (CSR over N).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import CatalogueError

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

PAD = -1


@dataclass(frozen=True)
class Trie:
    """A token trie over N distinct titles, none of which is a prefix of another.

    `tokens_NT` int32 [N, longest] holds the titles' tokens sorted row by row and padded with -1, `length_N` their
    lengths, `item_of_row_N` the item index of every sorted row. Node b covers rows `row_lo_B[b]:row_hi_B[b]`, which
    share their first `depth_B[b]` tokens. Its edges are `child_ptr_B1[b]:child_ptr_B1[b + 1]`, in ascending token
    order: edge c starts with `child_token_C[c]`, covers the rows from `child_lo_C[c]`, and leads to the branching node
    `child_node_C[c]`, or, if that is -1, to the single item of row `child_lo_C[c]`. Node 0 is the topmost; with one
    item there is none (B = 0).
    """

    tokens_NT: Int32
    length_N: Int32
    item_of_row_N: Int32
    depth_B: Int32
    row_lo_B: Int32
    row_hi_B: Int32
    child_ptr_B1: Int64
    child_token_C: Int32
    child_lo_C: Int32
    child_node_C: Int32

    @property
    def num_items(self) -> int:
        return len(self.length_N)

    @property
    def num_nodes(self) -> int:
        return len(self.depth_B)

    @cached_property
    def row_of_item_N(self) -> Int32:
        row_N = np.empty(self.num_items, np.int32)
        row_N[self.item_of_row_N] = np.arange(self.num_items, dtype=np.int32)
        return row_N

    @cached_property
    def parent_node_of_edge_C(self) -> Int32:
        """int32 [C]: the branching node that each edge leaves."""
        return np.repeat(np.arange(self.num_nodes, dtype=np.int32), np.diff(self.child_ptr_B1))

    @cached_property
    def paths(self) -> Paths:
        """The branching decisions of every item; built once, in as many steps as the trie is deep."""
        return _paths(self)

    def title_tokens(self, item_idx: int) -> Int32:
        """int32 [title length]: the token ids of one item's title, terminator included."""
        row = self.row_of_item_N[item_idx]
        return self.tokens_NT[row, : self.length_N[row]]

    def decisions(self, item_Q: Int64) -> tuple[Int64, Int64, Int64]:
        """The branching decisions of the titles of items `item_Q`: position in `item_Q`, node, edge of each (int64)."""
        paths = self.paths
        count = np.diff(paths.ptr_N1)[item_Q]
        owner_P = np.repeat(np.arange(len(item_Q)), count)
        path_P = np.arange(len(owner_P)) + np.repeat(paths.ptr_N1[item_Q] - np.cumsum(count) + count, count)
        return owner_P, paths.node_P[path_P].astype(np.int64), paths.edge_P[path_P].astype(np.int64)


@dataclass(frozen=True)
class Paths:
    """For each item (by item index, CSR `ptr_N1`) the branching nodes on its title's way and the edge taken at each."""

    ptr_N1: Int64
    node_P: Int32
    edge_P: Int32


def build_trie(titles_tokens: list[list[int]], titles: list[str] | None = None) -> Trie:
    """Build the trie of tokenised titles (terminator included); item index = position in the list.

    Raises CatalogueError for an empty catalogue, an empty title, two titles with the same tokens, or a title that is a
    prefix of another one (which a terminator used nowhere else rules out).
    """
    num_items = len(titles_tokens)
    if num_items == 0:
        raise CatalogueError("The catalogue is empty: expected at least one item with a title.")
    length_N = np.fromiter(map(len, titles_tokens), np.int32, num_items)
    _refuse_empty(length_N, titles)
    tokens_NT = np.full((num_items, int(length_N.max())), PAD, np.int32)
    filled_NT = np.arange(tokens_NT.shape[1]) < length_N[:, None]
    tokens_NT[filled_NT] = np.concatenate([np.asarray(t, np.int32) for t in titles_tokens])
    order_N = np.lexsort(tokens_NT.T[::-1]).astype(np.int32)
    tokens_NT, length_N = np.ascontiguousarray(tokens_NT[order_N]), length_N[order_N]
    common_N = _common_prefix(tokens_NT)
    _refuse_prefixes(common_N, length_N, order_N, titles)
    return Trie(tokens_NT, length_N, order_N, *_nodes(tokens_NT, common_N))


def _common_prefix(tokens_NT: Int32) -> Int32:
    """int32 [N]: how many tokens row i shares with row i - 1; 0 for the first row."""
    same_MT = tokens_NT[1:] == tokens_NT[:-1]
    same_MT &= tokens_NT[1:] != PAD
    common = np.where(same_MT.all(axis=1), same_MT.shape[1], same_MT.argmin(axis=1)).astype(np.int32)
    return np.concatenate([np.zeros(1, np.int32), common])


def _nodes(tokens_NT: Int32, common_N: Int32) -> tuple[Int32, Int32, Int32, Int64, Int32, Int32, Int32]:
    """The branching nodes and their edges, depth by depth: node = rows between smaller common prefixes."""
    num_items = len(common_N)
    lo_parts, hi_parts, depth_parts = [], [], []
    for depth in np.unique(common_N[1:]):
        starts = np.flatnonzero(np.concatenate([[True], common_N[1:] < depth]))
        ends = np.append(starts[1:], num_items)
        splits = np.flatnonzero(common_N == depth)
        splits = splits[splits > 0]
        branching = np.unique(np.searchsorted(starts, splits, side="right") - 1)
        lo_parts.append(starts[branching])
        hi_parts.append(ends[branching])
        depth_parts.append(np.full(len(branching), depth))
    if not lo_parts:
        empty = np.empty(0, np.int32)
        return empty, empty, empty, np.zeros(1, np.int64), empty, empty, empty
    lo, hi, depth_B = (np.concatenate(parts) for parts in (lo_parts, hi_parts, depth_parts))
    order = np.lexsort((-hi, lo))
    lo, hi, depth_B = lo[order], hi[order], depth_B[order]

    # An edge starts at a node's first row and at every row whose common prefix with the row before ends at the node.
    split_rows = np.arange(1, num_items)
    split_nodes = _owner(lo, hi, depth_B, split_rows, common_N[1:], num_items)
    edge_node = np.concatenate([np.arange(len(lo)), split_nodes])
    edge_lo = np.concatenate([lo, split_rows])
    order = np.lexsort((edge_lo, edge_node))
    edge_node, edge_lo = edge_node[order], edge_lo[order]
    ptr = np.searchsorted(edge_node, np.arange(len(lo) + 1))
    last = np.ones(len(edge_lo), bool)
    last[:-1] = edge_node[1:] != edge_node[:-1]
    edge_hi = np.where(last, hi[edge_node], np.append(edge_lo[1:], 0))
    keys = lo.astype(np.int64) * (num_items + 1) + (num_items - hi)
    wanted = edge_lo.astype(np.int64) * (num_items + 1) + (num_items - edge_hi)
    child = np.where(edge_hi - edge_lo > 1, np.searchsorted(keys, wanted), -1)
    token = tokens_NT[edge_lo, depth_B[edge_node]]
    i32 = np.int32
    return (
        depth_B.astype(i32), lo.astype(i32), hi.astype(i32), ptr.astype(np.int64),
        token.astype(i32), edge_lo.astype(i32), child.astype(i32),
    )  # fmt: skip


def _owner(lo: Int64, hi: Int64, depth_B: Int64, rows: Int64, depths: Int32, num_items: int) -> Int64:
    """The node at which each row parts from the row before it: the one of that depth whose range holds the row."""
    by_depth = np.lexsort((lo, depth_B))
    keys = depth_B[by_depth].astype(np.int64) * (num_items + 1) + lo[by_depth]
    wanted = depths.astype(np.int64) * (num_items + 1) + rows
    return by_depth[np.searchsorted(keys, wanted, side="right") - 1]


def _paths(trie: Trie) -> Paths:
    rows = np.arange(trie.num_items, dtype=np.int64)
    scale = trie.num_items + 1
    edge_keys = trie.parent_node_of_edge_C.astype(np.int64) * scale + trie.child_lo_C
    alive = rows if trie.num_nodes else rows[:0]
    node = np.zeros(len(alive), np.int64)
    parts: list[tuple[Int64, Int64, Int64]] = []
    while len(alive):
        edge = np.searchsorted(edge_keys, node * scale + alive, side="right") - 1
        parts.append((alive, node, edge))
        node = trie.child_node_C[edge].astype(np.int64)
        alive, node = alive[node >= 0], node[node >= 0]
    if not parts:
        empty = np.empty(0, np.int32)
        return Paths(np.zeros(trie.num_items + 1, np.int64), empty, empty)
    row, node, edge = (np.concatenate(column) for column in zip(*parts, strict=True))
    item = trie.item_of_row_N[row]
    order = np.argsort(item, kind="stable")
    ptr = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=trie.num_items))])
    return Paths(ptr.astype(np.int64), node[order].astype(np.int32), edge[order].astype(np.int32))


def _refuse_empty(length_N: Int32, titles: list[str] | None) -> None:
    empty = np.flatnonzero(length_N == 0)
    if len(empty):
        raise CatalogueError(
            f"The title {_name(int(empty[0]), titles)} has no tokens ({len(empty)} such titles); "
            "expected text that the tokenizer knows."
        )


def _refuse_prefixes(common_N: Int32, length_N: Int32, order_N: Int32, titles: list[str] | None) -> None:
    """Sorted, a title stands right before those that it begins."""
    clash = np.flatnonzero(common_N[1:] >= length_N[:-1])
    if len(clash):
        row = int(clash[0])
        a, b = (_name(int(order_N[i]), titles) for i in (row, row + 1))
        same = length_N[row] == length_N[row + 1]
        what = f"The titles {a} and {b} have the same tokens" if same else f"The tokens of title {a} begin those of {b}"
        raise CatalogueError(
            f"{what} ({len(clash)} such pairs); expected titles that the tokenizer can tell apart: "
            "change catalogue.title or catalogue.title_attributes and run `whereupon prepare` again."
        )


def _name(item: int, titles: list[str] | None) -> str:
    return f"number {item}" if titles is None else repr(titles[item])
