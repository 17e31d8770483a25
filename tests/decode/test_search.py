"""The exact search against brute force, with a model that is a table of random numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.arrays import Int64
from whereupon.catalogue import Subset, Trie, build_trie
from whereupon.decode.protocol import Scored
from whereupon.decode.search import SLACK, SearchResult, score_all, search
from whereupon.tests.decode.tables import (
    KINDS,
    FixedReading,
    TableReading,
    allowed,
    best,
    brute_force,
    held,
    kinds,
    make_subset,
    make_trie,
    questions,
    seeds,
    shares,
    sizes,
    tries,
)

slacks = st.sampled_from([-np.inf, 0.0, 0.5, np.inf])


def _assert_true(reading: TableReading, result: SearchResult, query: int, subset: Subset | None = None) -> None:
    """Every claim of a result, exact or not."""
    log_prob_I, allowed_I = brute_force(reading, query), allowed(reading.trie, subset)
    items = result.item_idx_K
    assert len(set(items.tolist())) == len(items)
    assert allowed_I[items].all()
    assert (result.log_prob_K == log_prob_I[items]).all()
    assert (np.diff(result.log_prob_K) <= 0).all()
    missing = np.setdiff1d(np.flatnonzero(allowed_I), items)
    if not result.exact and len(missing):
        assert log_prob_I[missing].max() <= result.missing_log_prob


@given(tries, seeds, kinds, sizes, questions, shares, slacks, st.booleans())
@settings(deadline=None)
def test_answer_is_brute_force_for_every_question(
    trie: Trie, seed: int, kind: str, k: int, num: int, share: float, slack: float, little: bool
) -> None:
    reading, subset = TableReading(trie, num, seed, kind), make_subset(trie, seed, share)
    with held(little):
        results = search(reading, trie, k, subset=subset, slack=slack)
    assert len(results) == num
    for query, result in enumerate(results):
        assert (result.exact, result.missing_log_prob) == (True, -np.inf)
        assert result.item_idx_K.tolist() == best(trie, brute_force(reading, query), k, subset).tolist()
        assert result.num_expansions == sum(q == query for q, _ in reading.seen)
        _assert_true(reading, result, query, subset)


@given(tries, seeds, kinds, sizes, questions, st.integers(0, 12), shares, st.booleans())
@settings(deadline=None)
def test_answer_within_budget_claims_only_what_is_true(
    trie: Trie, seed: int, kind: str, k: int, num: int, budget: int, share: float, little: bool
) -> None:
    reading, subset = TableReading(trie, num, seed, kind), make_subset(trie, seed, share)
    with held(little):
        results = search(reading, trie, k, max_expansions=budget, subset=subset)
    for query, result in enumerate(results):
        assert result.num_expansions <= budget
        assert len(result.item_idx_K) <= k
        _assert_true(reading, result, query, subset)
        if result.exact:
            assert result.item_idx_K.tolist() == best(trie, brute_force(reading, query), k, subset).tolist()


@given(tries, seeds, kinds, sizes, st.integers(0, 12))
@settings(deadline=None)
def test_answer_within_budget_has_the_best_items_found(
    trie: Trie, seed: int, kind: str, k: int, budget: int
) -> None:  # fmt: skip
    """Those at the ends of edges of expanded nodes, wherever the frontier keeps them."""
    for little in (False, True):
        reading = TableReading(trie, 1, seed, kind)
        with held(little):
            (result,) = search(reading, trie, k, max_expansions=budget)
        log_prob_I, found_I = brute_force(reading, 0), np.zeros(trie.num_items, bool)
        for _, node in reading.seen:
            edges = np.arange(trie.child_ptr_B1[node], trie.child_ptr_B1[node + 1])
            found_I[trie.item_of_row_I[trie.child_lo_C[edges[trie.child_node_C[edges] < 0]]]] = True
        if trie.num_nodes:
            in_order = best(trie, log_prob_I, trie.num_items)
            assert result.item_idx_K.tolist() == in_order[found_I[in_order]][:k].tolist()


@given(tries, seeds, kinds, st.sampled_from([0.6, 0.2]))
@settings(deadline=None)
def test_filtered_ranking_is_the_unfiltered_one_with_items_left_out(
    trie: Trie, seed: int, kind: str, share: float
) -> None:
    subset = make_subset(trie, seed, share)
    (full,) = search(TableReading(trie, 1, seed, kind), trie, k=100)
    (part,) = search(TableReading(trie, 1, seed, kind), trie, k=100, subset=subset)
    kept_K = allowed(trie, subset)[full.item_idx_K]
    assert part.item_idx_K.tolist() == full.item_idx_K[kept_K].tolist()
    assert part.log_prob_K.tolist() == full.log_prob_K[kept_K].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [1.0, 0.05])
def test_two_thousand_edges_are_searched_as_by_brute_force(kind: str, share: float) -> None:
    """Most of them stay in reserve."""
    trie = build_trie([[a, b, 0] for a in range(1, 2001) for b in range(a % 3 + 1)])
    subset = make_subset(trie, 1, share)
    for query, result in enumerate(search(TableReading(trie, 2, 5, kind), trie, k=10, subset=subset)):
        log_prob_I = score_all(TableReading(trie, 2, 5, kind), trie, query)
        assert result.exact
        assert result.item_idx_K.tolist() == best(trie, log_prob_I, 10, subset).tolist()
        assert result.log_prob_K.tolist() == log_prob_I[result.item_idx_K].tolist()


@given(tries, seeds, kinds, sizes, questions, st.sampled_from([0.6, 0.1]), slacks, st.booleans())
@settings(deadline=None)
def test_questions_with_subsets_of_their_own_are_answered_as_one_by_one(
    trie: Trie, seed: int, kind: str, k: int, num: int, share: float, slack: float, little: bool
) -> None:
    """Some with fewer items than k, some with none."""
    allowed_QI = np.random.default_rng(seed).random((num, trie.num_items)) < share
    reading = TableReading(trie, num, seed, kind)
    with held(little):
        results = search(reading, trie, k, subset=Subset.of(trie, allowed_QI), slack=slack)
    for query, result in enumerate(results):
        subset = Subset.of(trie, allowed_QI[query])
        assert (result.exact, result.missing_log_prob) == (True, -np.inf)
        assert result.item_idx_K.tolist() == best(trie, brute_force(reading, query), k, subset).tolist()
        _assert_true(reading, result, query, subset)
        assert subset.num_allowed or result.num_expansions == 0


def test_empty_subset_is_answered_with_its_reason_without_asking_the_model() -> None:
    trie = make_trie(0, 9)
    reading = TableReading(trie, 2, 0, "random")
    nothing = Subset.of(trie, np.zeros(9, bool), "within 2 km of the moon")
    for result in search(reading, trie, subset=nothing):
        assert (result.item_idx_K.tolist(), result.exact, result.num_expansions) == ([], True, 0)
        assert (result.missing_log_prob, result.reason) == (-np.inf, "within 2 km of the moon")
    assert reading.rounds == 0


def test_subset_that_has_items_gives_no_reason() -> None:
    trie = make_trie(0, 9)
    (result,) = search(
        TableReading(trie, 1, 0, "random"), trie, subset=Subset.of(trie, np.arange(9) == 4, "the fourth")
    )
    assert (result.item_idx_K.tolist(), result.reason) == ([4], "")


@given(tries, seeds, kinds)
@settings(deadline=None)
def test_single_allowed_item_costs_the_nodes_on_its_way(trie: Trie, seed: int, kind: str) -> None:
    """Branches that lead to nothing allowed are dropped at once, however probable."""
    item = seed % trie.num_items
    subset = Subset.of(trie, np.arange(trie.num_items) == item)
    reading = TableReading(trie, 1, seed, kind)
    (result,) = search(reading, trie, subset=subset)
    assert result.item_idx_K.tolist() == [item]
    assert [node for _, node in reading.seen] == trie.decisions(np.array([item]))[1].tolist()


@given(tries, seeds, kinds, sizes)
@settings(deadline=None)
def test_whole_catalogue_scored_sums_to_one_and_is_brute_force(trie: Trie, seed: int, kind: str, num: int) -> None:
    reading = TableReading(trie, num, seed, kind)
    log_prob_I = score_all(reading, trie, query=num - 1)
    assert log_prob_I.tolist() == brute_force(reading, num - 1).tolist()
    assert np.exp(log_prob_I.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
    assert len(reading.seen) == trie.num_nodes, "every node once"


@given(tries, seeds, kinds, sizes, st.one_of(st.none(), st.integers(0, 12)), st.booleans())
@settings(deadline=None)
def test_questions_in_one_batch_are_answered_as_if_alone(
    trie: Trie, seed: int, kind: str, k: int, budget: int | None, little: bool
) -> None:
    """Also within a budget, which each question has for itself."""
    with held(little):
        together = search(TableReading(trie, 3, seed, kind), trie, k, budget)
        for query in range(3):
            alone = TableReading(trie, 3, seed, kind)
            alone.log_probs = lambda _, node, q=query, of=alone.log_probs: of(q, node)
            alone.num_queries = 1
            (result,) = search(alone, trie, k, budget)
            assert result.item_idx_K.tolist() == together[query].item_idx_K.tolist()
            assert (result.num_expansions, result.exact) == (together[query].num_expansions, together[query].exact)


def test_looking_ahead_saves_rounds() -> None:
    """Where titles are of many lengths and tokens of many frequencies, as in life."""
    generator = np.random.default_rng(0)
    titles = {tuple(generator.zipf(1.6, generator.integers(1, 6)).clip(max=20).tolist()) for _ in range(400)}
    trie, rounds = build_trie([[*title, 0] for title in sorted(titles)]), []
    for slack in (-np.inf, SLACK):
        readings = [TableReading(trie, 1, seed, "random") for seed in range(20)]
        for reading in readings:
            search(reading, trie, k=3, slack=slack)
        rounds.append(sum(reading.rounds for reading in readings))
    assert rounds[1] <= 0.85 * rounds[0]


def test_more_items_than_there_are_gives_all_of_them() -> None:
    trie = make_trie(0, 7)
    (result,) = search(TableReading(trie, 1, 0, "random"), trie, k=1000)
    assert (result.exact, sorted(result.item_idx_K.tolist())) == (True, list(range(7)))
    assert result.missing_log_prob == -np.inf


def test_only_item_is_certain_without_asking_the_model() -> None:
    trie = build_trie([[3, 1, 0]])
    reading = TableReading(trie, 2, 0, "random")
    for result in search(reading, trie, k=10):
        assert (result.item_idx_K.tolist(), result.log_prob_K.tolist()) == ([0], [0.0])
        assert (result.exact, result.num_expansions) == (True, 0)
    assert reading.rounds == 0
    assert score_all(reading, trie, query=1).tolist() == [0.0]


def test_no_question_has_no_answers() -> None:
    trie = make_trie(0, 5)
    assert search(TableReading(trie, 0, 0, "random"), trie) == []


def test_no_budget_gives_no_items_and_says_so() -> None:
    trie = make_trie(0, 5)
    (result,) = search(TableReading(trie, 1, 0, "random"), trie, k=3, max_expansions=0)
    assert (len(result.item_idx_K), result.exact, result.missing_log_prob) == (0, False, 0.0)


def test_improbable_item_found_within_budget_is_answered_for_want_of_better() -> None:
    """Title (0) is the only item at the end of an edge of the first node, and the least probable of 401 edges."""
    trie = build_trie([[0], *([a, b, 0] for a in range(1, 401) for b in (1, 2))])
    reading = FixedReading(trie, 1, [(np.arange(1, 402) / np.arange(1, 402).sum()).tolist()])
    (result,) = search(reading, trie, k=1, max_expansions=1)
    assert (result.item_idx_K.tolist(), result.exact) == ([0], False)
    assert np.exp(result.missing_log_prob) == pytest.approx(401 / (401 * 402 / 2))


def test_equally_probable_items_stand_in_title_order() -> None:
    trie = build_trie([[2, 2, 0], [1, 2, 0], [2, 1, 0], [1, 1, 0]])
    for k in (1, 2, 3, 4):
        (result,) = search(TableReading(trie, 1, 0, "uniform"), trie, k)
        assert result.item_idx_K.tolist() == [3, 1, 2, 0][:k]


class Halves(TableReading):
    """Half a chance for title (2); half for the node before it, all of which goes to its first title."""

    def log_probs(self, query: int, node: int) -> np.ndarray:
        return np.log(np.array([0.5, 0.5] if node == 0 else [1.0, 1e-30], np.float32))


def test_node_as_probable_as_the_last_item_is_looked_into() -> None:
    trie = build_trie([[1, 1, 0], [1, 2, 0], [2, 0]])
    (result,) = search(Halves(trie, 1, 0, "random"), trie, k=1)
    assert (result.item_idx_K.tolist(), result.exact, result.num_expansions) == ([0], True, 2)


def test_node_as_probable_as_the_last_item_keeps_an_answer_from_being_exact() -> None:
    trie = build_trie([[1, 1, 0], [1, 2, 0], [2, 0]])
    (result,) = search(Halves(trie, 1, 0, "random"), trie, k=1, max_expansions=1)
    assert (result.item_idx_K.tolist(), result.exact) == ([2], False)
    assert result.missing_log_prob == result.log_prob_K[0]


class Planted(TableReading):
    """0.69 for titles (1 1 _) and (1 2 _), half each; 0.3 for (2 _), 0.01 for (3); all else evenly."""

    def log_probs(self, query: int, node: int) -> np.ndarray:
        num = int(np.diff(self.trie.child_ptr_B1)[node])
        return np.log(np.array([0.69, 0.3, 0.01] if node == 0 else [1 / num] * num, np.float32))


def test_node_expanded_ahead_of_need_is_not_found_again_in_the_reserve() -> None:
    """(2 _) is looked into with (1 _ _), whose halves are above it and push it out of what is held."""
    last = range(1, 9)
    trie = build_trie([*([1, a, b, 0] for a in (1, 2) for b in last), *([2, b, 0] for b in last), [3, 0]])
    reading = Planted(trie, 1, 0, "random")
    with held(True):
        (result,) = search(reading, trie, k=2, slack=np.inf)
    assert (result.item_idx_K.tolist(), result.exact) == ([0, 1], True)
    assert [node for _, node in reading.seen] == [0, 1, 4, 2, 3]


def test_improbable_branches_are_never_looked_into() -> None:
    """With nearly all probability on one title, only the nodes on its way are scored."""
    trie = build_trie([[*bits, 0] for bits in itertools.product([1, 2], repeat=8)])
    reading = TableReading(trie, 1, 5, "peaked")
    (result,) = search(reading, trie, k=1)
    assert (result.num_expansions, reading.rounds, trie.num_nodes) == (8, 8, 255)


class Sizes(TableReading):
    """Remembers how many nodes each round had."""

    def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        self.sizes = [*getattr(self, "sizes", []), len(node_X)]
        return super().score(query_X, node_X, parent_X)


def test_model_without_an_opinion_is_not_requested_everything_at_once() -> None:
    trie = build_trie([[a, b, 0] for a, b in itertools.product(range(1, 101), [1, 2])])
    reading = Sizes(trie, 1, 0, "uniform")
    (result,) = search(reading, trie, k=2)
    assert (result.item_idx_K.tolist(), result.exact, result.num_expansions) == ([0, 1], True, 101)
    assert reading.sizes == [1, *[6] * 16, 4]


def test_zero_wanted_items_are_refused() -> None:
    trie = make_trie(0, 5)
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        search(TableReading(trie, 1, 0, "random"), trie, k=0)
