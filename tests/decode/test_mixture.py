"""A mixture of items chosen before and of new ones, in every search, against item by item enumeration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.catalogue import Subset, Trie, build_trie
from whereupon.decode.reweighting import AgainOrNew, ItemPrior, Own, Reweighting
from whereupon.decode.sampling import sample
from whereupon.decode.search import beam_search, score_all, search
from whereupon.decode.segments import Segments
from whereupon.tests.decode.tables import (
    FixedReading,
    TableReading,
    allowed,
    held,
    kinds,
    make_mixture,
    make_subset,
    make_trie,
    questions,
    seeds,
    shares,
    sizes,
    temperatures,
    tries,
    weights,
)

TOLERANCE = 1e-3
budgets = st.one_of(st.none(), st.integers(0, 12))
known = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


def _assert_same(found_I: np.ndarray, expected_I: np.ndarray) -> None:
    """Up to rounding; what is impossible, or nearly so, in both."""
    likely_I = expected_I > -600
    assert not np.isnan(found_I).any()
    assert found_I[likely_I] == pytest.approx(expected_I[likely_I], abs=TOLERANCE)
    assert (found_I[~likely_I] < -590).all()
    assert (found_I[np.isinf(expected_I)] == -np.inf).all()


@given(tries, seeds, kinds, temperatures, weights, known, st.booleans())
def test_whole_catalogue_is_the_mixture_of_its_definition_and_sums_to_one(
    trie: Trie, seed: int, kind: str, temperature: float, weight: float, share: float, with_base: bool
) -> None:
    reading = TableReading(trie, 2, seed, kind)
    mixture = make_mixture(trie, seed, 2, temperature, weight, share, with_base)
    log_prob_I = score_all(reading, trie, 1, mixture.change)
    if (mixture.again_QI + mixture.new_QI)[1].any():
        _assert_same(log_prob_I, mixture.naive(reading, 1))
        assert np.exp(log_prob_I.astype(np.float64)).sum() == pytest.approx(1, abs=1e-4)


@given(tries, seeds, kinds, sizes, questions, budgets, shares, temperatures, weights, known, st.booleans())
def test_search_over_a_mixture_is_brute_force(
    trie: Trie, seed: int, kind: str, k: int, num: int, budget: int | None, share: float, temperature: float,
    weight: float, chosen: float, little: bool,
) -> None:  # fmt: skip
    reading, subset = TableReading(trie, num, seed, kind), make_subset(trie, seed, share)
    mixture = make_mixture(trie, seed, num, temperature, weight, chosen, with_base=seed % 2 == 0)
    with held(little):
        results = search(reading, trie, k, budget, subset=subset, reweighting=mixture.change)
    for query, result in enumerate(results):
        log_prob_I = mixture.naive(reading, query)
        items, possible_I = result.item_idx_K, allowed(trie, subset) & np.isfinite(log_prob_I)
        if not np.isfinite(log_prob_I).any():
            continue  # no distribution at all
        assert possible_I[items].all()
        _assert_same(result.log_prob_K, log_prob_I[items])
        assert (np.diff(result.log_prob_K) <= 0).all()
        missing = np.setdiff1d(np.flatnonzero(possible_I), items)
        if not result.exact:
            assert log_prob_I[missing].max(initial=-np.inf) <= result.missing_log_prob + TOLERANCE
        else:
            assert len(items) == min(k, possible_I.sum())
            if len(items) and len(missing):
                assert log_prob_I[missing].max() <= log_prob_I[items].min() + TOLERANCE


@given(tries, seeds, kinds, sizes, temperatures, weights, known)
def test_beam_as_wide_as_the_catalogue_is_the_search(
    trie: Trie, seed: int, kind: str, k: int, temperature: float, weight: float, share: float
) -> None:
    change = make_mixture(trie, seed, 2, temperature, weight, share).change
    wide = beam_search(TableReading(trie, 2, seed, kind), trie, k, width=trie.num_items, reweighting=change)
    best = search(TableReading(trie, 2, seed, kind), trie, k, reweighting=change)
    for one, other in zip(wide, best, strict=True):
        assert one.exact
        assert one.log_prob_K == pytest.approx(other.log_prob_K, abs=TOLERANCE)


@given(tries, seeds, kinds, known)
def test_children_share_what_their_parent_has_part_by_part(trie: Trie, seed: int, kind: str, share: float) -> None:
    """None is above it, whatever the parts of the parent are."""
    mixture, generator = make_mixture(trie, seed, 1, 0.7, 1.3, share), np.random.default_rng(seed)
    reading, node_X = TableReading(trie, 1, seed, kind), np.arange(trie.num_nodes)
    if not trie.num_nodes:
        return
    log_prob_J, query_X = np.concatenate([reading.log_probs(0, node) for node in node_X]), np.zeros_like(node_X)
    part_X2 = generator.normal(-20, 20, (len(node_X), 2)).clip(max=0).astype(np.float32)
    found_J, part_J2 = mixture.change.apply(trie, query_X, node_X, part_X2, log_prob_J)
    edges = Segments.of_edges(trie, node_X)
    assert (found_J <= 0).all()
    for part, prior in enumerate(pool.prior for pool in mixture.change.pools):
        assert prior is not None
        below_X = edges.total(np.exp((part_J2[:, part] - edges.spread(part_X2[:, part])).astype(np.float64)))
        has_mass_X = edges.total(prior.masses(query_X, node_X)) > 0
        assert below_X[has_mass_X] == pytest.approx(1, abs=1e-4)
        assert (part_J2[:, part][~edges.spread(has_mass_X)] == -np.inf).all()


THREE = build_trie([[1, 0], [2, 1, 0], [2, 2, 0]])
PROBS = [[0.5, 0.5], [0.8, 0.2]]


def _by_hand(num: int, odds: float = np.log(3)) -> AgainOrNew:
    """Item 2 was chosen before, with a mass of 5; the new ones have 1 and 3."""
    again: list[Own] = [(np.array([2]), np.array([5.0]))] * num
    new: list[Own] = [(np.array([0, 1]), np.array([1.0, 3.0]))] * num
    pools = (Reweighting(1.0, 1.0, ItemPrior(THREE, None, own)) for own in (again, new))
    return AgainOrNew(*pools, np.full(num, odds))


def test_mixture_is_the_one_derived_by_hand() -> None:
    """A quarter for the one known item; of three quarters, 0.5 * 1 to 0.5 * 3 for the new ones."""
    (result,) = search(FixedReading(THREE, 1, PROBS), THREE, reweighting=_by_hand(1))
    assert result.item_idx_K.tolist() == [1, 2, 0]
    assert np.exp(result.log_prob_K) == pytest.approx([9 / 16, 1 / 4, 3 / 16])


@pytest.mark.parametrize(("odds", "expected"), [(np.inf, [0.25, 0.75, 0.0]), (-np.inf, [0.0, 0.0, 1.0])])
def test_infinite_odds_leave_one_part(odds: float, expected: list[float]) -> None:
    change = _by_hand(1, odds)
    assert np.exp(score_all(FixedReading(THREE, 1, PROBS), THREE, 0, change)) == pytest.approx(expected)
    (result,) = search(FixedReading(THREE, 1, PROBS), THREE, reweighting=change)
    assert (result.exact, len(result.item_idx_K)) == (True, np.count_nonzero(expected))


def test_only_item_is_certain_whether_it_is_known_or_not() -> None:
    trie = build_trie([[3, 1, 0]])
    one, none = (np.array([0]), np.ones(1)), (np.zeros(0, np.int64), np.zeros(0))
    again, new = ItemPrior(trie, None, [one, none]), ItemPrior(trie, None, [none, one])
    change = AgainOrNew(Reweighting(1.0, 1.0, again), Reweighting(1.0, 1.0, new), np.array([-np.inf, np.inf]))
    for result in search(TableReading(trie, 2, 0, "random"), trie, reweighting=change):
        assert (result.item_idx_K.tolist(), result.log_prob_K.tolist(), result.exact) == ([0], [0.0], True)


BINARY = build_trie([[*(1 + (item >> bit & 1) for bit in range(6)), 0] for item in range(64)])


def _some_known(items: list[int], odds: float) -> AgainOrNew:
    """Of 64 titles that part at each of six tokens."""
    own: Own = (np.array(items), np.arange(1.0, len(items) + 1))
    taken: Own = (own[0], np.full(len(items), -1.0))
    pools = ItemPrior(BINARY, None, [own]), ItemPrior(BINARY, np.ones(64), [taken])
    return AgainOrNew(*(Reweighting(1.0, 1.0, prior) for prior in pools), np.array([odds]))


def test_known_item_is_found_as_soon_as_it_is_the_only_one_below_an_edge() -> None:
    """Item 0 is that below the first edge already; items 0 and 32 part at the last token."""
    for items, nodes in (([0], 1), ([0, 32], 6)):
        change = _some_known(items, -8.0)
        (result,) = search(TableReading(BINARY, 1, 3, "random"), BINARY, 1, reweighting=change, slack=0.0)
        assert (result.item_idx_K[0] in items, result.exact, result.num_expansions) == (True, True, nodes)
        log_prob_I = score_all(TableReading(BINARY, 1, 3, "random"), BINARY, 0, change)
        assert result.log_prob_K == pytest.approx(log_prob_I[result.item_idx_K], abs=1e-5)


def test_known_item_that_a_subset_leaves_out_is_not_found_early() -> None:
    subset = Subset.of(BINARY, np.arange(64) != 1, "all but one")
    reading, change = TableReading(BINARY, 1, 3, "random"), _some_known([0, 1], 0.0)
    (result,) = search(reading, BINARY, 64, reweighting=change, subset=subset)
    assert (len(result.item_idx_K), result.exact) == (63, True)
    assert len(set(result.item_idx_K.tolist()) - {1}) == 63


def test_items_are_drawn_as_often_as_the_mixture_says() -> None:
    num = 4000
    reading = FixedReading(THREE, num, PROBS)
    results = sample(reading, THREE, 3, np.random.default_rng(0), reweighting=_by_hand(num))
    first = np.bincount([result.item_idx_K[0] for result in results], minlength=3) / num
    assert first == pytest.approx([3 / 16, 9 / 16, 1 / 4], abs=0.025)
    assert all(len(result.item_idx_K) == 3 for result in results)
    for result in results[:20]:
        assert np.exp(result.log_prob_K) == pytest.approx(np.array([3 / 16, 9 / 16, 1 / 4])[result.item_idx_K])


@pytest.mark.parametrize("seed", range(3))
def test_random_tries_are_drawn_from_as_often_as_scored(seed: int) -> None:
    trie, num, generator = make_trie(seed, 6), 4000, np.random.default_rng(seed)
    probs = [generator.dirichlet(np.full(n, 3.0)).tolist() for n in np.diff(trie.child_ptr_B1)]
    again, new = (np.array([0, 3]), np.array([1.0, 2.0])), (np.array([1, 2, 4]), np.array([0.3, 2.0, 1.0]))
    pools = [Reweighting(1.5, 0.8, ItemPrior(trie, None, [own] * num)) for own in (again, new)]
    change = AgainOrNew(pools[0], pools[1], np.full(num, 0.4))
    p_I = np.exp(score_all(FixedReading(trie, num, probs), trie, 0, change).astype(np.float64))
    results = sample(FixedReading(trie, num, probs), trie, 1, generator, reweighting=change)
    drawn_I = np.bincount([result.item_idx_K[0] for result in results], minlength=6) / num
    assert p_I[5] == drawn_I[5] == 0
    assert drawn_I == pytest.approx(p_I, abs=0.03)


@given(tries, seeds, st.booleans())
def test_item_belongs_to_the_part_that_has_a_mass_for_it(trie: Trie, seed: int, with_base: bool) -> None:
    mixture = make_mixture(trie, seed, 3, 1.0, 1.0, 0.5, with_base)
    for item in range(trie.num_items):
        is_new_Q = mixture.change.is_new(np.full(3, item))
        for query in range(3):
            if mixture.again_QI[query, item] or mixture.new_QI[query, item]:
                assert is_new_Q[query] == (mixture.new_QI[query, item] > 0)


def test_smallest_mass_beside_the_largest_still_makes_an_item_new() -> None:
    """Masses of a stack go down to eps^2 of the largest, of many questions."""
    trie, num = make_trie(0, 9), 50
    own: Own = (np.arange(9), np.array([1.0] * 8 + [5e-32]))
    prior, none = ItemPrior(trie, None, [own] * num), (np.zeros(0, np.int64), np.zeros(0))
    assert prior.of_item(np.arange(num), np.full(num, 8)) == pytest.approx(5e-32, abs=0)
    again = Reweighting(1.0, 1.0, ItemPrior(trie, None, [none] * num))
    assert AgainOrNew(again, Reweighting(1.0, 1.0, prior), np.full(num, np.inf)).is_new(np.full(num, 8)).all()


def test_known_item_of_a_large_catalogue_is_not_new_for_what_rounding_leaves() -> None:
    """What is taken away of the base is a billionth of what stands before it in the sum."""
    trie = build_trie([[a, b, 0] for a in range(1, 61) for b in range(1, 61)])
    base_I = np.exp(np.random.default_rng(0).uniform(-20, 0, trie.num_items))
    own: list[Own] = [(np.array([item]), np.ones(1)) for item in range(trie.num_items)]
    taken: list[Own] = [(item_M, -base_I[item_M]) for item_M, _ in own]
    pools = ItemPrior(trie, None, own), ItemPrior(trie, base_I, taken)
    change = AgainOrNew(*(Reweighting(1.0, 1.0, prior) for prior in pools), np.zeros(trie.num_items))
    assert not change.is_new(np.arange(trie.num_items)).any()


def test_mixture_of_other_questions_is_refused() -> None:
    with pytest.raises(ValueError, match="own masses for 3 questions but the search has 2"):
        search(FixedReading(THREE, 2, PROBS), THREE, reweighting=_by_hand(3))
