"""Texts with common beginnings, as a tree: common tokens are stored once and read once.

Shape legend: Q texts, L tokens of the trunk, T tokens of the tree beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Bool, Int32, Int64


@dataclass(frozen=True)
class TextTree:
    """Q texts that branch off a text which has been read already, the trunk.

    `token_T` int32 and `position_T` int64 (counted from the beginning of a text) are the tokens of the branches, each
    after all tokens before it in its text. `trunk_Q` and `trunk_T` int64 say how many tokens of the trunk a text or a
    token sees, `own_Q` the places in T of each text's other tokens, and `seen_TT` bool which tokens of the branches a
    token sees, itself included.
    """

    token_T: Int32
    position_T: Int64
    trunk_T: Int64
    seen_TT: Bool
    trunk_Q: Int64
    own_Q: list[Int64]

    @classmethod
    def of(cls, trunk_L: Int32, texts: Sequence[Int32]) -> TextTree:
        """The tree of some texts, int32 and none of them empty."""
        order = sorted(range(len(texts)), key=lambda text: texts[text].astype(">i4").tobytes())
        trunk_Q, own_Q, added = np.zeros(len(texts), np.int64), [np.zeros(0, np.int64)] * len(texts), [np.zeros(0, int)]
        before, num = trunk_L, 0
        for at, text in enumerate(order):
            whole, last = texts[text], order[at - 1]
            trunk = _common(whole, trunk_L)
            # In this order, no earlier text has more in common with this one than the last.
            shared = max(_common(whole, before) - trunk, 0) if at else 0
            new = np.arange(num, num + len(whole) - trunk - shared)
            trunk_Q[text], own_Q[text] = trunk, np.concatenate([own_Q[last][:shared], new])
            added.append(np.full(len(new), text))
            before, num = whole, num + len(new)
        return cls._joined(texts, trunk_Q, own_Q, np.concatenate(added))

    @classmethod
    def _joined(cls, texts: Sequence[Int32], trunk_Q: Int64, own_Q: list[Int64], text_T: Int64) -> TextTree:
        """`text_T` int64: the text that brought each token."""
        num = len(text_T)
        token_T, position_T, seen_TT = np.zeros(num, np.int32), np.zeros(num, np.int64), np.zeros((num, num), bool)
        for text in np.unique(text_T).tolist():
            own, trunk = own_Q[text], int(trunk_Q[text])
            new = text_T[own] == text
            position_T[own] = trunk + np.arange(len(own))
            token_T[own] = texts[text][trunk:]
            seen_TT[np.ix_(own[new], own)] = np.tri(len(own), dtype=bool)[new]
        return cls(token_T, position_T, trunk_Q[text_T], seen_TT, trunk_Q, own_Q)

    @property
    def seen_QT(self) -> Bool:
        """bool [Q, T]: the tokens of the branches that belong to each text."""
        seen_QT = np.zeros((len(self.own_Q), len(self.token_T)), bool)
        for seen_T, own in zip(seen_QT, self.own_Q, strict=True):
            seen_T[own] = True
        return seen_QT


def _common(one: Int32, other: Int32) -> int:
    """How many tokens two texts have in common at their beginning."""
    length = min(len(one), len(other))
    apart = np.flatnonzero(one[:length] != other[:length])
    return int(apart[0]) if len(apart) else length
