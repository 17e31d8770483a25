"""Operations on stretches against loops over them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from whereupon.catalogue import Trie
from whereupon.decode.segments import Segments
from whereupon.tests.decode.tables import seeds, tries

lengths = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def _cut(counts: list[int], seed: int) -> tuple[Segments, np.ndarray, list[np.ndarray]]:
    value_J = np.random.default_rng(seed).normal(0, 5, sum(counts)).astype(np.float32)
    ptr = np.concatenate([[0], np.cumsum(counts)])
    return Segments(ptr), value_J, np.split(value_J, ptr[1:-1])


@given(lengths, seeds)
def test_stretches_are_treated_as_one_by_one(counts: list[int], seed: int) -> None:
    segments, value_J, parts = _cut(counts, seed)
    assert segments.highest(value_J).tolist() == [part.max() for part in parts]
    assert np.allclose(segments.total(value_J), [part.sum(dtype=np.float64) for part in parts])
    first_X = np.arange(len(counts)) * 10
    assert segments.spread(first_X).tolist() == [f for f, n in zip(first_X, counts, strict=True) for _ in range(n)]
    expected = [f + i for f, n in zip(first_X, counts, strict=True) for i in range(n)]
    assert segments.shifted(first_X).tolist() == expected
    owner_J = [x for x, n in enumerate(counts) for _ in range(n)]
    assert segments.owner(np.arange(len(value_J))).tolist() == owner_J


@given(lengths, seeds)
def test_log_softmax_sums_to_one_in_every_stretch_and_none_is_above_certain(counts: list[int], seed: int) -> None:
    segments, value_J, parts = _cut(counts, seed)
    found_J = segments.log_softmax(value_J)
    expected_J = np.concatenate([part - np.logaddexp.reduce(part.astype(np.float64)) for part in parts])
    assert found_J.dtype == np.float32
    assert np.abs(found_J - expected_J).max() < 1e-5
    assert (found_J <= 0).all()


@given(tries)
def test_rows_of_edges_part_the_rows_of_their_node(trie: Trie) -> None:
    node_X = np.arange(trie.num_nodes)[::-1]
    edges = Segments.of_edges(trie, node_X)
    lo_J, hi_J = edges.rows(trie, node_X)
    assert edges.num_elements == len(trie.child_token_C)
    assert (lo_J < hi_J).all()
    for x, node in enumerate(node_X):
        own = slice(edges.ptr_X1[x], edges.ptr_X1[x + 1])
        assert lo_J[own].tolist() == [trie.row_lo_B[node], *hi_J[own][:-1]]
        assert hi_J[own][-1] == trie.row_hi_B[node]
        assert hi_J[own].tolist() == trie.child_hi(np.arange(*trie.child_ptr_B1[node : node + 2])).tolist()
