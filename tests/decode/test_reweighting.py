"""Temperature and prior at branching nodes against their definition, node by node."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue import Trie, build_trie
from whereupon.decode.reweighting import ItemPrior, Reweighting
from whereupon.decode.search import beam_search, score_all, search
from whereupon.tests.decode.tables import (
    FixedReading,
    TableReading,
    allowed,
    held,
    kinds,
    make_reweighting,
    make_subset,
    make_trie,
    naive_masses,
    naive_reweighted,
    questions,
    seeds,
    shares,
    sizes,
    temperatures,
    tries,
    weights,
)

# Log-probabilities down to some hundreds in float32, over six nodes.
TOLERANCE = 1e-3
budgets = st.one_of(st.none(), st.integers(0, 12))


@given(tries, seeds, kinds, temperatures, weights)
@settings(deadline=None)
def test_reweighted_catalogue_is_the_definition_and_sums_to_one(
    trie: Trie, seed: int, kind: str, temperature: float, weight: float
) -> None:
    reading = TableReading(trie, 2, seed, kind)
    reweighting, mass_QI = make_reweighting(trie, seed, 2, temperature, weight)
    log_prob_I = score_all(reading, trie, 1, reweighting)
    assert np.abs(log_prob_I - naive_reweighted(reading, 1, temperature, weight, mass_QI[1])).max() < TOLERANCE
    assert np.exp(log_prob_I.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)


@given(tries, seeds, kinds, sizes, questions, budgets, shares, temperatures, weights, st.booleans())
@settings(deadline=None)
def test_reweighted_search_is_brute_force(
    trie: Trie, seed: int, kind: str, k: int, num: int, budget: int | None, share: float, temperature: float,
    weight: float, little: bool,
) -> None:  # fmt: skip
    """Up to float32's rounding, by which equal items may change places; within a budget, no claim is false."""
    reading, subset = TableReading(trie, num, seed, kind), make_subset(trie, seed, share)
    reweighting, mass_QI = make_reweighting(trie, seed, num, temperature, weight)
    with held(little):
        results = search(reading, trie, k, budget, subset=subset, reweighting=reweighting)
    for query, result in enumerate(results):
        log_prob_I = naive_reweighted(reading, query, temperature, weight, mass_QI[query])
        items, allowed_I = result.item_idx_K, allowed(trie, subset)
        missing = np.setdiff1d(np.flatnonzero(allowed_I), items)
        assert allowed_I[items].all()
        assert np.abs(result.log_prob_K - log_prob_I[items]).max(initial=0) < TOLERANCE
        assert (np.diff(result.log_prob_K) <= 0).all()
        if not result.exact:
            assert log_prob_I[missing].max(initial=-np.inf) <= result.missing_log_prob + TOLERANCE
        else:
            assert len(items) == min(k, allowed_I.sum())
            if len(items) and len(missing):
                assert log_prob_I[missing].max() <= log_prob_I[items].min() + TOLERANCE


@given(tries, seeds, kinds, sizes, temperatures, weights)
@settings(deadline=None)
def test_reweighted_beam_as_wide_as_the_catalogue_is_the_search(
    trie: Trie, seed: int, kind: str, k: int, temperature: float, weight: float
) -> None:
    reweighting, _ = make_reweighting(trie, seed, 2, temperature, weight)
    wide = beam_search(TableReading(trie, 2, seed, kind), trie, k, width=trie.num_items, reweighting=reweighting)
    best = search(TableReading(trie, 2, seed, kind), trie, k, reweighting=reweighting)
    for one, other in zip(wide, best, strict=True):
        assert one.exact
        assert np.abs(one.log_prob_K - other.log_prob_K).max() < TOLERANCE


def test_no_weight_and_temperature_one_change_nothing() -> None:
    trie = make_trie(0, 20)
    reading = TableReading(trie, 1, 0, "random")
    log_prob_J = np.concatenate([reading.log_probs(0, node) for node in range(trie.num_nodes)])
    node_X = np.arange(trie.num_nodes)
    for reweighting in (Reweighting(), make_reweighting(trie, 0, 1, 1.0, 0.0)[0]):
        found_J = reweighting.scores(trie, np.zeros_like(node_X), node_X, log_prob_J)
        assert found_J == pytest.approx(log_prob_J, abs=1e-6)
    assert Reweighting().scores(trie, np.zeros_like(node_X), node_X, log_prob_J) is log_prob_J


def test_blend_is_the_one_derived_by_hand() -> None:
    """0.8 and 0.2 with masses 1 and 3 are as 0.8 to 0.6; with an own mass of 5 on the first, as 4.8 to 0.6."""
    trie = build_trie([[1, 0], [2, 0]])
    reading, prior = FixedReading(trie, 2, [[0.8, 0.2]]), ItemPrior(trie, np.array([1.0, 3.0]))
    own = prior.with_own([(np.array([], np.int64), np.array([])), (np.array([0, 0]), np.array([2.0, 3.0]))])
    plain, personal = search(reading, trie, reweighting=Reweighting(1.0, 1.0, own))
    assert np.exp(plain.log_prob_K) == pytest.approx([4 / 7, 3 / 7])
    assert np.exp(personal.log_prob_K) == pytest.approx([8 / 9, 1 / 9])
    for result in search(reading, trie, reweighting=Reweighting(0.5, 0.0)):
        assert np.exp(result.log_prob_K) == pytest.approx([16 / 17, 1 / 17])
    for result in search(reading, trie, reweighting=Reweighting(1.0, 2.0, prior)):
        assert np.exp(result.log_prob_K) == pytest.approx([1.8 / 2.6, 0.8 / 2.6])
        assert result.item_idx_K.tolist() == [1, 0]


@given(tries, seeds, questions)
@settings(deadline=None)
def test_masses_below_edges_are_summed_item_by_item(trie: Trie, seed: int, num: int) -> None:
    reweighting, mass_QI = make_reweighting(trie, seed, num, 1.0, 1.0)
    assert reweighting.prior is not None
    query_X, node_X = np.divmod(np.random.default_rng(seed).permutation(num * trie.num_nodes), max(trie.num_nodes, 1))
    expected = [naive_masses(trie, node, mass_QI[query]) for query, node in zip(query_X, node_X, strict=True)]
    assert np.allclose(reweighting.prior.masses(query_X, node_X), np.concatenate([np.zeros(0), *expected]), rtol=1e-9)


@given(tries, seeds, questions)
@settings(deadline=None)
def test_masses_item_by_item_are_those_it_was_made_of(trie: Trie, seed: int, num: int) -> None:
    reweighting, mass_QI = make_reweighting(trie, seed, num, 1.0, 0.5)
    assert reweighting.prior is not None
    assert reweighting.prior.of_items() == pytest.approx(mass_QI, rel=1e-6, abs=1e-12)


def test_other_peoples_own_masses_share_the_base() -> None:
    prior = ItemPrior(make_trie(0, 9), np.ones(9))
    other = prior.with_own([(np.array([3]), np.array([1.0]))])
    assert other._before_I1 is prior._before_I1
    assert (prior.num_queries, other.num_queries) == (None, 1)
    root = np.zeros(1, np.int64)
    assert (prior.masses(root, root).sum(), other.masses(root, root).sum()) == (9, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: Reweighting(0.0), "temperature must be between 0.01 and 100.0, not 0.0"),
        (lambda t: Reweighting(float("nan")), "temperature must be between"),
        (lambda t: Reweighting(1.0, -0.1), "weight must be at least 0, not -0.1"),
        (lambda t: Reweighting(1.0, float("nan")), "weight must be at least 0, not nan"),
        (lambda t: Reweighting(1.0, 0.5), "a weight needs a prior, not 0.5"),
        (lambda t: ItemPrior(t, np.array([1.0, 0.0])), "a finite mass above 0 for each of the 2 items, not 0 to 1"),
        (lambda t: ItemPrior(t, np.ones(3)), "each of the 2 items, not 1 to 1 for 3"),
        (lambda t: ItemPrior(t, np.array([1e20, 1e-20])), "too far apart"),
        (lambda t: ItemPrior(t, np.ones(2), [(np.array([2]), np.ones(1))]), "own masses of items 2 to 2 of 2"),
        (lambda t: ItemPrior(t, None, [(np.array([1]), -np.ones(1))]), "at least 0 for each item, not -1 to -1"),
        (lambda t: ItemPrior(t, np.ones(2), [(np.array([1]), np.ones(2))]), "for each item, not 1 to 1 for 2"),
    ],
)  # fmt: skip
def test_settings_and_masses_that_are_none_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(build_trie([[1, 0], [2, 0]]))  # type: ignore[operator]


def test_prior_of_other_questions_is_refused() -> None:
    trie = make_trie(0, 9)
    reweighting, _ = make_reweighting(trie, 0, 3, 1.0, 1.0)
    for ask in (search, score_all):
        with pytest.raises(ValueError, match="own masses for 3 questions but the search has 2"):
            ask(TableReading(trie, 2, 0, "random"), trie, reweighting=reweighting)
