"""Texts as a tree: each is what its path says, and nothing stands in the tree twice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from whereupon.decode.text_tree import TextTree

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=8)


@given(TEXTS, st.lists(st.integers(0, 2), min_size=1, max_size=7))
def test_every_text_is_its_path_and_every_beginning_is_read_once(texts: list[list[int]], trunk: list[int]) -> None:
    trunk_L = np.array(trunk, np.int32)
    tree = TextTree.of(trunk_L, [np.array(text, np.int32) for text in texts])
    for text, shared, own in zip(texts, tree.trunk_Q.tolist(), tree.own_Q, strict=True):
        assert [*trunk[:shared], *tree.token_T[own].tolist()] == text
        assert tree.position_T[own].tolist() == list(range(shared, len(text)))
        for depth, token in enumerate(own.tolist()):
            assert np.flatnonzero(tree.seen_TT[token]).tolist() == sorted(own[: depth + 1].tolist())
            assert tree.trunk_T[token] == shared
    beginnings = {tuple(text[:end]) for text in texts for end in range(1, len(text) + 1)}
    assert len(tree.token_T) == len(beginnings - {tuple(trunk[:end]) for end in range(1, len(trunk) + 1)})


@given(TEXTS, st.lists(st.integers(0, 2), min_size=1, max_size=7))
def test_tokens_stand_behind_all_that_they_see(texts: list[list[int]], trunk: list[int]) -> None:
    tree = TextTree.of(np.array(trunk, np.int32), [np.array(text, np.int32) for text in texts])
    assert not np.triu(tree.seen_TT, 1).any()
    assert tree.seen_TT.diagonal().all()
    for seen_T, own in zip(tree.seen_QT, tree.own_Q, strict=True):
        assert np.flatnonzero(seen_T).tolist() == sorted(own.tolist())
