"""A set of items that a request may answer with, asked by ranges of the trie's rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Int32
from ..errors import CatalogueError
from .trie import Trie


@dataclass(frozen=True)
class Subset:
    """Allowed items of a trie over N items.

    `before_N1` int32 [N + 1] counts the allowed rows before each row, so a trie node over rows `lo:hi` leads to an
    allowed item exactly if it grows between the two. `reason` is a sentence that says what made the subset.
    """

    before_N1: Int32
    reason: str = ""

    @classmethod
    def of(cls, trie: Trie, allowed_N: Bool, reason: str = "") -> Subset:
        """The items that `allowed_N` (bool [N], by item index) allows. Raises CatalogueError for another shape or type.

        For a list of item ids see `ItemFacts.listed`, for ready filters `select_items`; masks intersect by `&`.
        """
        return cls(_before(trie, allowed_N, ()), reason)

    @property
    def num_allowed(self) -> int:
        return int(self.before_N1[-1])

    def any_in(
        self, lo_X: NDArray[np.integer], hi_X: NDArray[np.integer], query_X: NDArray[np.integer] | None = None
    ) -> Bool:
        """bool [X]: whether rows `lo_X:hi_X` (sorted rows, end excluded) hold an allowed item; O(1) per range.

        `query_X` is for `Subsets`; here every question has the same subset.
        """
        any_X: Bool = self.before_N1[hi_X] > self.before_N1[lo_X]
        return any_X


@dataclass(frozen=True)
class Subsets:
    """A subset of its own for each of Q questions that are searched together.

    `before_QN1` int32 [Q, N + 1] has a row like `Subset.before_N1` for each question; `reason` says what made them.
    """

    before_QN1: Int32
    reason: str = ""

    @classmethod
    def of(cls, trie: Trie, allowed_QN: Bool, reason: str = "") -> Subsets:
        """The items that each row of `allowed_QN` (bool [Q, N], by item index) allows; errors as `Subset.of`."""
        return cls(_before(trie, allowed_QN, (len(allowed_QN),)), reason)

    @property
    def num_allowed(self) -> int:
        """How many items the question with most of them may be answered with."""
        return int(self.before_QN1[:, -1].max(initial=0))

    def any_in(self, lo_X: NDArray[np.integer], hi_X: NDArray[np.integer], query_X: NDArray[np.integer]) -> Bool:
        """bool [X]: whether rows `lo_X:hi_X` hold an item that question `query_X` may be answered with."""
        any_X: Bool = self.before_QN1[query_X, hi_X] > self.before_QN1[query_X, lo_X]
        return any_X


def _before(trie: Trie, allowed: Bool, questions: tuple[int, ...]) -> Int32:
    """int32 [..., N + 1]: the allowed rows before each row. Raises CatalogueError for a mask of another shape."""
    if allowed.shape != (*questions, trie.num_items) or allowed.dtype != np.bool_:
        raise CatalogueError(
            f"A subset should be a mask over the items, bool {[*questions, trie.num_items]}, "
            f"but is {allowed.dtype} {list(allowed.shape)}; make it one of this catalogue."
        )
    before = np.zeros((*questions, trie.num_items + 1), np.int32)
    np.cumsum(allowed[..., trie.item_of_row_N], axis=-1, dtype=np.int32, out=before[..., 1:])
    return before
