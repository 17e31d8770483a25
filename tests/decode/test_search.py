"""The exact search against brute force, with a model that is a table of random numbers."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue import Trie, build_trie
from whereupon.decode.protocol import FROM_PROMPT, Int64, Scored
from whereupon.decode.search import SearchResult, score_all, search

KINDS = ("random", "peaked", "uniform", "few values")


@dataclass
class TableReading:
    """Random distributions for every question and node, always the same for a seed; counts what it is asked.

    "peaked" ones give one edge everything that float32 can tell, so that children tie with parents; "few values" and
    "uniform" make items tie. Insists on the protocol: a node comes with the handle of the node above it.
    """

    trie: Trie
    num_queries: int
    seed: int
    kind: str
    rounds: int = 0
    seen: list[tuple[int, int]] = field(default_factory=list)  # question and node by handle

    def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        self.rounds += 1
        first = len(self.seen)
        for query, node, parent in zip(query_X.tolist(), node_X.tolist(), parent_X.tolist(), strict=True):
            above = np.flatnonzero(self.trie.child_node_C == node)
            if parent == FROM_PROMPT:
                assert not len(above), "only the topmost node comes from the prompt"
            else:
                assert self.seen[parent] == (query, self.trie.parent_node_of_edge_C[above[0]])
            assert (query, node) not in self.seen, "no node is scored twice"
            self.seen.append((query, node))
        pairs = zip(query_X.tolist(), node_X.tolist(), strict=True)
        log_prob_E = np.concatenate([self.log_probs(query, node) for query, node in pairs])
        return Scored(log_prob_E, np.arange(first, len(self.seen)))

    def log_probs(self, query: int, node: int) -> np.ndarray:
        """float32: log-probabilities of one node's edges."""
        generator = np.random.default_rng([self.seed, query, node])
        num = int(self.trie.child_ptr_B1[node + 1] - self.trie.child_ptr_B1[node])
        logits = {
            "random": lambda: generator.normal(0, 2, num),
            "peaked": lambda: np.where(np.arange(num) == generator.integers(num), 0.0, -30.0),
            "uniform": lambda: np.zeros(num),
            "few values": lambda: np.log(generator.choice([1.0, 2.0], num)),
        }[self.kind]()
        return np.asarray(logits - np.log(np.exp(logits).sum()), np.float32)


def _brute_force(reading: TableReading, query: int) -> np.ndarray:
    """float32 [N]: every item's log-probability, one title after the other, added from the top down."""
    trie, log_probs = reading.trie, []
    for item in range(trie.num_items):
        _, nodes, edges = trie.decisions(np.array([item]))
        total = np.float32(0)
        for node, edge in zip(nodes, edges, strict=True):
            total = np.float32(total + reading.log_probs(query, int(node))[edge - trie.child_ptr_B1[node]])
        log_probs.append(total)
    return np.array(log_probs, np.float32)


def _best(trie: Trie, log_prob_N: np.ndarray, k: int) -> Int64:
    """The first k items by probability, ties by title order."""
    return np.lexsort((trie.row_of_item_N, -log_prob_N))[:k]


def _make_trie(seed: int, num_items: int) -> Trie:
    """Titles of up to six tokens out of few, so that many branch deep; the last token ends them all."""
    generator = np.random.default_rng(seed)
    alphabet = int(generator.integers(2, 5))
    every = [list(t) for length in range(1, 6) for t in itertools.product(range(1, alphabet + 1), repeat=length)]
    chosen = generator.permutation(len(every))[:num_items]
    return build_trie([[*every[i], 0] for i in chosen])


def _assert_true(reading: TableReading, result: SearchResult, query: int) -> None:
    """Every claim of a result, exact or not."""
    log_prob_N = _brute_force(reading, query)
    items = result.item_idx_K
    assert len(set(items.tolist())) == len(items)
    assert (result.log_prob_K == log_prob_N[items]).all()
    assert (np.diff(result.log_prob_K) <= 0).all()
    missing = np.setdiff1d(np.arange(reading.trie.num_items), items)
    if not result.exact and len(missing):
        assert log_prob_N[missing].max() <= result.missing_log_prob


tries = st.builds(_make_trie, st.integers(0, 10_000), st.integers(1, 40))
seeds, kinds, sizes, questions = st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 4)


@given(tries, seeds, kinds, sizes, questions)
@settings(deadline=None)
def test_answer_is_brute_force_for_every_question(trie: Trie, seed: int, kind: str, k: int, num: int) -> None:
    reading = TableReading(trie, num, seed, kind)
    results = search(reading, trie, k)
    assert len(results) == num
    for query, result in enumerate(results):
        best = _best(trie, _brute_force(reading, query), k)
        assert result.exact
        assert result.item_idx_K.tolist() == best.tolist()
        assert result.num_expansions == sum(q == query for q, _ in reading.seen)
        _assert_true(reading, result, query)


@given(tries, seeds, kinds, sizes, questions, st.integers(0, 12))
@settings(deadline=None)
def test_answer_within_budget_claims_only_what_is_true(
    trie: Trie, seed: int, kind: str, k: int, num: int, budget: int
) -> None:
    reading = TableReading(trie, num, seed, kind)
    for query, result in enumerate(search(reading, trie, k, max_expansions=budget)):
        assert result.num_expansions <= budget
        assert len(result.item_idx_K) <= k
        _assert_true(reading, result, query)
        if result.exact:
            assert result.item_idx_K.tolist() == _best(trie, _brute_force(reading, query), k).tolist()


@given(tries, seeds, kinds, sizes)
@settings(deadline=None)
def test_whole_catalogue_scored_sums_to_one_and_is_brute_force(trie: Trie, seed: int, kind: str, num: int) -> None:
    reading = TableReading(trie, num, seed, kind)
    log_prob_N = score_all(reading, trie, query=num - 1)
    assert log_prob_N.tolist() == _brute_force(reading, num - 1).tolist()
    assert np.exp(log_prob_N.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
    assert len(reading.seen) == trie.num_nodes, "every node once"


@given(tries, seeds, kinds, sizes, st.one_of(st.none(), st.integers(0, 12)))
@settings(deadline=None)
def test_questions_asked_together_are_answered_as_if_alone(
    trie: Trie, seed: int, kind: str, k: int, budget: int | None
) -> None:
    """Also within a budget, which each question has for itself."""
    together = search(TableReading(trie, 3, seed, kind), trie, k, budget)
    for query in range(3):
        alone = TableReading(trie, 3, seed, kind)
        alone.log_probs = lambda _, node, q=query, of=alone.log_probs: of(q, node)
        alone.num_queries = 1
        (result,) = search(alone, trie, k, budget)
        assert result.item_idx_K.tolist() == together[query].item_idx_K.tolist()
        assert (result.num_expansions, result.exact) == (together[query].num_expansions, together[query].exact)


def test_more_items_than_there_are_gives_all_of_them() -> None:
    trie = _make_trie(0, 7)
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
    trie = _make_trie(0, 5)
    assert search(TableReading(trie, 0, 0, "random"), trie) == []


def test_no_budget_gives_no_items_and_says_so() -> None:
    trie = _make_trie(0, 5)
    (result,) = search(TableReading(trie, 1, 0, "random"), trie, k=3, max_expansions=0)
    assert (len(result.item_idx_K), result.exact, result.missing_log_prob) == (0, False, 0.0)


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


def test_improbable_branches_are_never_looked_into() -> None:
    """With nearly all probability on one title, only the nodes on its way are scored."""
    trie = build_trie([[*bits, 0] for bits in itertools.product([1, 2], repeat=8)])
    reading = TableReading(trie, 1, 5, "peaked")
    (result,) = search(reading, trie, k=1)
    assert (result.num_expansions, reading.rounds, trie.num_nodes) == (8, 8, 255)


def test_zero_wanted_items_are_refused() -> None:
    trie = _make_trie(0, 5)
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        search(TableReading(trie, 1, 0, "random"), trie, k=0)
