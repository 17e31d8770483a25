"""A set of items that a request may answer with, looked up by ranges of the trie's rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Int32
from ..errors import CatalogueError
from .trie import Trie


@dataclass(frozen=True)
class Subset:
    """Allowed items of a trie over I items, the same for all questions, or others for each of Q.

    `before` int32 [I + 1] or [Q, I + 1] counts the allowed rows before each row, so a trie node over rows `lo:hi` leads
    to an allowed item exactly if it grows between the two. `reason` is a sentence that says what made the subset.
    """

    before: Int32
    reason: str = ""

    @classmethod
    def of(cls, trie: Trie, allowed: Bool, reason: str = "") -> Subset:
        """The items that `allowed` (bool [I] or [Q, I], by item index) allows.

        For a list of item ids see `ItemFacts.listed`, for ready filters `select_items`; masks intersect by `&`. Raises
        CatalogueError for another shape or type.
        """
        if allowed.ndim not in (1, 2) or allowed.shape[-1] != trie.num_items or allowed.dtype != np.bool_:
            raise CatalogueError(
                f"A subset should be a mask over the items, bool [{trie.num_items}] or [Q, {trie.num_items}], but is "
                f"{allowed.dtype} {list(allowed.shape)}; make it one of this catalogue."
            )
        before = np.zeros((*allowed.shape[:-1], trie.num_items + 1), np.int32)
        np.cumsum(allowed[..., trie.item_of_row_I], axis=-1, dtype=np.int32, out=before[..., 1:])
        return cls(before, reason)

    @property
    def num_allowed(self) -> int:
        """How many items may answer; of several questions, the one with most of them."""
        return int(self.before[..., -1].max(initial=0))

    def any_in(
        self, lo_X: NDArray[np.integer], hi_X: NDArray[np.integer], query_X: NDArray[np.integer] | None = None
    ) -> Bool:
        """bool [X]: whether rows `lo_X:hi_X` (sorted rows, end excluded) hold an item that may answer; O(1) per range.

        `query_X` says for which question, where each has items of its own.
        """
        question = () if self.before.ndim == 1 else (query_X,)
        any_X: Bool = self.before[(*question, hi_X)] > self.before[(*question, lo_X)]
        return any_X
