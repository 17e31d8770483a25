"""Token lists in order: sorting them, finding one's place among sorted ones, and what neighbours share.

Lists are compared token by token, and one that begins another comes before it. Shape legend: N lists, X of them that
somebody asks for.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Bool, Int32, Int64, UInt64
from .ragged import Ragged


def sort_order(lists: Ragged) -> Int32:
    """int32 [N]: the lists from first to last. Equal ones stay in the order given.

    As many tokens as fit are packed into one integer of 64 bits. Only lists that are still tied are looked at again,
    with the tokens that follow.
    """
    length_N, bits = lists.length, (int(lists.tokens.max(initial=0)) + 1).bit_length()
    per_key = 64 // bits
    order_N = np.arange(len(lists), dtype=np.int32)
    tied_X, group_X = order_N.copy(), np.zeros_like(order_N)  # places in `order_N`, and where the tie of each begins
    for depth in range(0, int(length_N.max(initial=0)) + 1, per_key):
        if not len(tied_X):
            break
        key_X = _packed(lists, order_N[tied_X], depth, per_key, bits)
        by_key_X = _by_group_and_key(group_X, key_X)
        order_N[tied_X], key_X = order_N[tied_X[by_key_X]], key_X[by_key_X]
        is_new_X = np.ones(len(tied_X), bool)
        is_new_X[1:] = (key_X[1:] != key_X[:-1]) | (group_X[1:] != group_X[:-1])
        group_X = tied_X[np.maximum.accumulate(np.where(is_new_X, np.arange(len(tied_X)), 0))]
        # Two lists that are tied although they have ended are equal for good.
        goes_on_X = ~(is_new_X & np.append(is_new_X[1:], True)) & (length_N[order_N[tied_X]] >= depth + per_key)
        tied_X, group_X = tied_X[goes_on_X], group_X[goes_on_X]
    return order_N


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
