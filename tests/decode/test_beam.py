"""Beams of a fixed width: brute force if wide enough, and honest about what they lost if not."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings

from whereupon.catalogue import Trie, build_trie
from whereupon.decode.search import beam_search, search
from whereupon.tests.decode.tables import (
    FixedReading,
    TableReading,
    allowed,
    best,
    brute_force,
    kinds,
    make_subset,
    make_trie,
    questions,
    seeds,
    shares,
    sizes,
    tries,
)


@given(tries, seeds, kinds, sizes, questions, shares)
@settings(deadline=None)
def test_beam_as_wide_as_the_catalogue_is_brute_force(
    trie: Trie, seed: int, kind: str, k: int, num: int, share: float
) -> None:
    reading, subset = TableReading(trie, num, seed, kind), make_subset(trie, seed, share)
    for query, result in enumerate(beam_search(reading, trie, k, width=trie.num_items, subset=subset)):
        assert result.exact
        assert result.item_idx_K.tolist() == best(trie, brute_force(reading, query), k, subset).tolist()


def _naive_beam(reading: TableReading, query: int, k: int, width: int) -> list[int]:
    """Level by level with Python's own sort: value from the highest, nodes before items, title order."""
    trie, beam = reading.trie, [(np.float32(0), 0, 0)] if reading.trie.num_nodes else [(np.float32(0), -1, 0)]
    while any(node >= 0 for _, node, _ in beam):
        grown = [entry for entry in beam if entry[1] < 0]
        for value, node, _ in beam:
            if node >= 0:
                edges = range(*trie.child_ptr_B1[node : node + 2])
                found = zip(reading.log_probs(query, node), edges, strict=True)
                grown += [(np.float32(value + p), int(trie.child_node_C[e]), int(trie.child_lo_C[e])) for p, e in found]
        beam = sorted(grown, key=lambda entry: (-entry[0], entry[1] < 0, entry[2]))[:width]
    return [int(trie.item_of_row_I[row]) for _, _, row in beam][:k]


@given(tries, seeds, kinds, sizes, sizes)
@settings(deadline=None)
def test_narrow_beam_is_a_naive_one(trie: Trie, seed: int, kind: str, k: int, width: int) -> None:
    reading = TableReading(trie, 2, seed, kind)
    for query, result in enumerate(beam_search(reading, trie, k, width=width)):
        assert result.item_idx_K.tolist() == _naive_beam(reading, query, k, width)


@given(tries, seeds, kinds, sizes, sizes, shares)
@settings(deadline=None)
def test_narrow_beam_claims_only_what_is_true(
    trie: Trie, seed: int, kind: str, k: int, width: int, share: float
) -> None:  # fmt: skip
    reading, subset = TableReading(trie, 2, seed, kind), make_subset(trie, seed, share)
    for query, result in enumerate(beam_search(reading, trie, k, width=width, subset=subset)):
        log_prob_I = brute_force(reading, query)
        missing = np.setdiff1d(np.flatnonzero(allowed(trie, subset)), result.item_idx_K)
        assert (result.log_prob_K == log_prob_I[result.item_idx_K]).all()
        if result.exact:
            assert result.item_idx_K.tolist() == best(trie, log_prob_I, k, subset).tolist()
        elif len(missing):
            assert log_prob_I[missing].max() <= result.missing_log_prob


def test_beam_of_one_follows_the_more_probable_half_and_misses_the_best_title() -> None:
    """0.6 for titles 0 and 1 together, 0.3 each; 0.4 for title 2."""
    trie = build_trie([[1, 1, 0], [1, 2, 0], [2, 0]])
    reading = FixedReading(trie, 1, [[0.6, 0.4], [0.5, 0.5]])
    (greedy,) = beam_search(reading, trie, k=1, width=1)
    assert (greedy.item_idx_K.tolist(), greedy.exact) == ([0], False)
    assert np.exp(greedy.missing_log_prob) == pytest.approx(0.4)
    for wide in (beam_search(reading, trie, k=1, width=2), search(reading, trie, k=1)):
        assert (wide[0].item_idx_K.tolist(), wide[0].exact) == ([2], True)


def test_best_of_a_hundred_that_a_narrow_beam_loses_is_what_may_be_missing() -> None:
    """0.5 for the first title, 0.3 for the fiftieth, and 0.2 shared by the other 98."""
    trie = build_trie([[a, 0] for a in range(1, 101)])
    reading = FixedReading(trie, 1, [[0.5, *[0.2 / 98] * 48, 0.3, *[0.2 / 98] * 50]])
    (two,) = beam_search(reading, trie, k=2, width=2)
    assert (two.item_idx_K.tolist(), two.exact) == ([0, 49], True)
    (short,) = beam_search(reading, trie, k=3, width=2)
    assert (short.item_idx_K.tolist(), short.exact) == ([0, 49], False)
    assert np.exp(short.missing_log_prob) == pytest.approx(0.2 / 98)


def test_beam_asks_the_model_once_per_level() -> None:
    trie = build_trie([[*bits, 0] for bits in itertools.product([1, 2], repeat=5)])
    reading = TableReading(trie, 1, 0, "random")
    (result,) = beam_search(reading, trie, k=3, width=3)
    assert (reading.rounds, result.num_expansions) == (5, 1 + 2 + 3 + 3 + 3)


def test_beam_without_space_is_refused() -> None:
    trie = make_trie(0, 5)
    with pytest.raises(ValueError, match="width must be at least 1, not 0"):
        beam_search(TableReading(trie, 1, 0, "random"), trie, width=0)
