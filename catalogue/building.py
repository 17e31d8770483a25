"""Tries of tokenised titles: built from nothing, or from an earlier one with some titles taken out and others put in.

Titles are sorted as token lists: compared token by token, and one that begins another comes before it.

Shape legend: I items or lists, in an edit those of the earlier trie; M titles to be put in, R rows of the result,
X lists that a caller names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..arrays import Bool, Int32, Int64, UInt64
from ..errors import CatalogueError
from .tokens import Ragged, pointers
from .trie import Trie, common_of, make_nodes

Titles = Sequence[str] | pl.Series


def build_trie(titles_tokens: Sequence[Sequence[int]], titles: Titles | None = None) -> Trie:
    """Build the trie of tokenised titles (terminator included); item index = position in the list.

    `titles` are only for what an error says. Raises CatalogueError for an empty catalogue, an empty title, two titles
    with the same tokens, or a title that is a prefix of another one (which a terminator used nowhere else rules out).
    """
    lists = Ragged.of(titles_tokens)
    return build_trie_ragged(lists.tokens, lists.ptr, titles)


def build_trie_ragged(token_P: Int32, ptr_I1: Int64, titles: Titles | None = None) -> Trie:
    """`build_trie` of titles end to end: those of item i are `token_P[ptr_I1[i]:ptr_I1[i + 1]]`."""
    lists = Ragged(token_P, ptr_I1)
    if not len(lists):
        raise CatalogueError("The catalogue is empty: expected at least one item with a title.")
    _refuse_empty(lists, np.arange(len(lists)), titles)
    item_of_row_I = sort_order(lists)
    rows = lists.gather(item_of_row_I)
    return _finish(rows, item_of_row_I, np.zeros(len(rows), np.int32), np.arange(1, len(rows)), titles)


def edit_trie(trie: Trie, item_idx_I: Int64, added: Ragged, item_idx_M: Int64, titles: Titles | None = None) -> Trie:
    """The trie without some items and with others, equal to one that is built from nothing.

    No title of `trie` is tokenised, sorted or compared again but those beside a new one.

    `item_idx_I` is the item index that each item of `trie` has in the result, -1 for those to leave out;
    `added` are the tokens of the titles to be put in, and `item_idx_M` the item index of each in the result. `titles`
    and errors are as for `build_trie`.
    """
    _refuse_empty(added, item_idx_M, titles)
    by_row_M = sort_order(added)
    added = added.gather(by_row_M)
    kept_I = item_idx_I[trie.item_of_row_I] >= 0
    kept = trie.rows if kept_I.all() else trie.rows.keep(kept_I)
    if not len(kept) + len(added):
        raise CatalogueError("The catalogue is empty: expected at least one item with a title.")
    before_I1 = np.concatenate([[0], np.cumsum(kept_I)])
    row_M = before_I1[places(trie.rows, added)] + np.arange(len(added))
    is_new_R = np.zeros(len(kept) + len(added), bool)
    is_new_R[row_M] = True

    item_of_row_R = np.empty(len(is_new_R), np.int32)
    item_of_row_R[is_new_R] = item_idx_M[by_row_M]
    item_of_row_R[~is_new_R] = item_idx_I[trie.item_of_row_I[kept_I]]
    common_R = np.zeros(len(is_new_R), np.int32)
    common_R[~is_new_R] = _common_of_kept(trie, kept_I)
    rows = _interleave(kept, added, is_new_R)
    changed = np.union1d(row_M, row_M + 1)
    changed = changed[(changed > 0) & (changed < len(is_new_R))]
    common_R[0] = 0
    return _finish(rows, item_of_row_R, common_R, changed, titles)


def _interleave(kept: Ragged, added: Ragged, is_new_R: Bool) -> Ragged:
    """The lists of `added` where `is_new_R`, those of `kept` elsewhere, each in order."""
    if not len(added):
        return kept
    length_R = np.empty(len(is_new_R), np.int64)
    length_R[is_new_R], length_R[~is_new_R] = added.length, kept.length
    is_new_P = np.repeat(is_new_R, length_R)
    tokens = np.empty(len(is_new_P), np.int32)
    tokens[is_new_P], tokens[~is_new_P] = added.tokens, kept.tokens
    return Ragged(tokens, pointers(length_R))


def _common_of_kept(trie: Trie, kept_I: Bool) -> Int32:
    """What each kept row shares with the kept row before it: the least that any two neighbours in between share."""
    common_I = common_of(trie.num_items, trie.depth_B, trie.child_ptr_B1, trie.child_lo_C)
    if kept_I.all():
        return common_I
    row = np.flatnonzero(kept_I)
    begins = np.concatenate([[0], row[:-1] + 1])[: len(row)]
    return np.minimum.reduceat(common_I[: row[-1] + 1], begins).astype(np.int32) if len(row) else common_I[:0]


def _finish(rows: Ragged, item_of_row_I: Int32, common_I: Int32, changed: Int64, titles: Titles | None) -> Trie:
    """The trie over sorted rows; `common_I` is not known yet for the `changed` ones, which may clash with another."""
    common_I[changed] = common_prefix(rows, changed - 1, rows, changed)
    _refuse_prefixes(rows, common_I, changed, item_of_row_I, titles)
    row_of_item_I = np.empty_like(item_of_row_I)
    row_of_item_I[item_of_row_I] = np.arange(len(rows), dtype=np.int32)
    return Trie(rows.tokens, rows.ptr, item_of_row_I, row_of_item_I, *make_nodes(rows, common_I))


def _refuse_empty(lists: Ragged, item_idx_M: Int64, titles: Titles | None) -> None:
    empty = np.flatnonzero(lists.length == 0)
    if len(empty):
        raise CatalogueError(
            f"The title {_name(int(item_idx_M[empty[0]]), titles)} has no tokens ({len(empty)} such titles); "
            "expected text that the tokenizer knows."
        )


def _refuse_prefixes(
    rows: Ragged, common_I: Int32, changed: Int64, item_of_row_I: Int32, titles: Titles | None
) -> None:
    """Sorted, a title stands right before those that it begins."""
    clash = changed[common_I[changed] >= rows.length[changed - 1]]
    if len(clash):
        row = int(clash[0])
        same, pair = rows.length[row - 1] == rows.length[row], item_of_row_I[row - 1 : row + 1].tolist()
        a, b = (_name(item, titles) for item in (sorted(pair) if same else pair))
        what = f"The titles {a} and {b} have the same tokens" if same else f"The tokens of title {a} begin those of {b}"
        raise CatalogueError(
            f"{what} ({len(clash)} such pairs); expected titles with different tokens: "
            "change catalogue.title or catalogue.title_attributes and run `whereupon prepare` again."
        )


def _name(item: int, titles: Titles | None) -> str:
    return f"number {item}" if titles is None else repr(titles[item])


def sort_order(lists: Ragged) -> Int32:
    """int32 [I]: the lists from first to last. Equal ones stay in the order given.

    As many tokens as fit are packed into one integer of 64 bits. Only lists that are still tied are looked at again,
    with the tokens that follow.
    """
    length_I, bits = lists.length, (int(lists.tokens.max(initial=0)) + 1).bit_length()
    per_key = 64 // bits
    order_I = np.arange(len(lists), dtype=np.int32)
    tied_X, group_X = order_I.copy(), np.zeros_like(order_I)  # places in `order_I`, and where the tie of each begins
    for depth in range(0, int(length_I.max(initial=0)) + 1, per_key):
        if not len(tied_X):
            break
        key_X = _packed(lists, order_I[tied_X], depth, per_key, bits)
        by_key_X = _by_group_and_key(group_X, key_X)
        order_I[tied_X], key_X = order_I[tied_X[by_key_X]], key_X[by_key_X]
        is_new_X = np.ones(len(tied_X), bool)
        is_new_X[1:] = (key_X[1:] != key_X[:-1]) | (group_X[1:] != group_X[:-1])
        group_X = tied_X[np.maximum.accumulate(np.where(is_new_X, np.arange(len(tied_X)), 0))]
        # Two lists that are tied although they have ended are equal for good.
        goes_on_X = ~(is_new_X & np.append(is_new_X[1:], True)) & (length_I[order_I[tied_X]] >= depth + per_key)
        tied_X, group_X = tied_X[goes_on_X], group_X[goes_on_X]
    return order_I


def _by_group_and_key(group_X: Int32, key_X: UInt64) -> Int64:
    """A stable order by group, then key; groups ascend already."""
    by_key: Int64 = np.argsort(key_X, kind="stable")
    return by_key[np.argsort(group_X[by_key], kind="stable")] if group_X[-1] else by_key


def _packed(lists: Ragged, which_X: Int32, depth: int, per_key: int, bits: int) -> UInt64:
    """uint64 [X]: tokens `depth` to `depth + per_key` of each list, the first in the highest bits; 0 is "ended"."""
    begin_X, end_X = lists.ptr[which_X] + depth, lists.ptr[which_X + 1]
    key_X = np.zeros(len(which_X), np.uint64)
    for ahead in range(per_key):
        key_X <<= np.uint64(bits)
        here = np.flatnonzero(begin_X + ahead < end_X)
        key_X[here] += lists.tokens[begin_X[here] + ahead].astype(np.uint64) + np.uint64(1)
    return key_X


def common_prefix(one: Ragged, one_X: Int64, other: Ragged, other_X: Int64) -> Int32:
    """int32 [X]: how many tokens list `one_X` of `one` and list `other_X` of `other` share from the start."""
    begin_X, to_X = one.ptr[one_X], other.ptr[other_X]
    limit_X = np.minimum(one.ptr[one_X + 1] - begin_X, other.ptr[other_X + 1] - to_X)
    common_X = np.zeros(len(one_X), np.int32)
    open_X, depth = np.flatnonzero(limit_X > 0), 0
    while len(open_X):
        open_X = open_X[one.tokens[begin_X[open_X] + depth] == other.tokens[to_X[open_X] + depth]]
        depth += 1
        common_X[open_X] = depth
        open_X = open_X[limit_X[open_X] > depth]
    return common_X


def places(lists: Ragged, wanted: Ragged) -> Int64:
    """int64 [X]: how many of `lists`, which are sorted, come before each of the `wanted` ones.

    All binary searches run side by side, as many rounds as the number of lists has bits.
    """
    low_X, high_X = np.zeros(len(wanted), np.int64), np.full(len(wanted), len(lists))
    while (open_X := np.flatnonzero(low_X < high_X)).size:
        middle_X = (low_X[open_X] + high_X[open_X]) // 2
        is_before_X = _come_before(lists, middle_X, wanted, open_X)
        low_X[open_X[is_before_X]] = middle_X[is_before_X] + 1
        high_X[open_X[~is_before_X]] = middle_X[~is_before_X]
    return low_X


def _come_before(one: Ragged, one_X: Int64, other: Ragged, other_X: Int64) -> Bool:
    """bool [X]: whether list `one_X` of `one` comes before list `other_X` of `other`."""
    common_X = common_prefix(one, one_X, other, other_X)
    at_X, to_X = one.ptr[one_X] + common_X, other.ptr[other_X] + common_X
    has_ended_X, has_more_X = at_X == one.ptr[one_X + 1], to_X < other.ptr[other_X + 1]
    is_less_X: Bool = has_ended_X & has_more_X
    both_X = np.flatnonzero(~has_ended_X & has_more_X)
    is_less_X[both_X] = one.tokens[at_X[both_X]] < other.tokens[to_X[both_X]]
    return is_less_X
