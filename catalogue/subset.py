"""A set of items that a request may answer with, asked by ranges of the trie's rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CatalogueError
from .trie import Trie

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]


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
        if allowed_N.shape != (trie.num_items,) or allowed_N.dtype != np.bool_:
            raise CatalogueError(
                f"A subset should be a mask over the items, bool [{trie.num_items}], "
                f"but is {allowed_N.dtype} {list(allowed_N.shape)}; make it one of this catalogue."
            )
        before_N1 = np.zeros(trie.num_items + 1, np.int32)
        np.cumsum(allowed_N[trie.item_of_row_N], dtype=np.int32, out=before_N1[1:])
        return cls(before_N1, reason)

    @property
    def num_allowed(self) -> int:
        return int(self.before_N1[-1])

    def any_in(self, lo_X: NDArray[np.integer], hi_X: NDArray[np.integer]) -> Bool:
        """bool [X]: whether rows `lo_X:hi_X` (sorted rows, end excluded) hold an allowed item; O(1) per range."""
        any_X: Bool = self.before_N1[hi_X] > self.before_N1[lo_X]
        return any_X
