"""Samples against draws one by one, by chi-square; seeds are fixed, so that nothing here is left to luck."""

import itertools

import numpy as np
import pytest

from whereupon.catalogue import Subset, Trie, build_trie
from whereupon.decode.reweighting import ItemPrior, Reweighting
from whereupon.decode.sampling import nucleus, perturbed, sample
from whereupon.decode.segments import Segments
from whereupon.tests.decode.tables import FixedReading, TableReading, make_trie

NUM = 4000
# Chi-square with 1 to 20 degrees of freedom is above df + 3.1 * sqrt(2 df) + 6 in fewer than 1 of 1,000 cases.
SLACK = 6.0

# Item 0 half the time; else, by 0.8 to 0.2, items 1 and 2: probabilities 0.5, 0.4 and 0.1.
THREE = build_trie([[1, 0], [2, 1, 0], [2, 2, 0]])
PROBS = [[0.5, 0.5], [0.8, 0.2]]


def _draws(reading: FixedReading, trie: Trie, k: int, seed: int, **options: object) -> list[tuple[int, ...]]:
    results = sample(reading, trie, k, np.random.default_rng(seed), **options)  # type: ignore[arg-type]
    assert all(result.exact for result in results)
    return [tuple(result.item_idx_K.tolist()) for result in results]


def _chi_square(drawn: list[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """How far the counts are above what chance explains, in units that should be below 0; inf for the impossible."""
    if set(drawn) - {draw for draw, p in expected.items() if p > 0}:
        return np.inf
    likely = {draw: p for draw, p in expected.items() if p > 0}
    assert sum(likely.values()) == pytest.approx(1)
    assert min(likely.values()) * len(drawn) > 5, "too rare for a chi-square"
    counts = {draw: drawn.count(draw) for draw in likely}
    total = sum((counts[draw] - p * len(drawn)) ** 2 / (p * len(drawn)) for draw, p in likely.items())
    free = len(likely) - 1
    return total - (free + 3.1 * np.sqrt(2 * free) + SLACK)


def _one_by_one(p_I: np.ndarray, k: int) -> dict[tuple[int, ...], float]:
    """Chance of every ordered draw of k items without replacement, each in proportion to what is left."""
    possible = np.flatnonzero(p_I > 0).tolist()
    chances = {}
    for order in itertools.permutations(possible, min(k, len(possible))):
        chance, left = 1.0, p_I.sum()
        for item in order:
            chance, left = chance * p_I[item] / left, left - p_I[item]
        chances[order] = chance
    return chances


def test_pairs_are_drawn_as_derived_by_hand() -> None:
    drawn = _draws(FixedReading(THREE, NUM, PROBS), THREE, 2, seed=1)
    by_hand = {
        (0, 1): 0.5 * 0.4 / 0.5, (0, 2): 0.5 * 0.1 / 0.5, (1, 0): 0.4 * 0.5 / 0.6,
        (1, 2): 0.4 * 0.1 / 0.6, (2, 0): 0.1 * 0.5 / 0.9, (2, 1): 0.1 * 0.4 / 0.9,
    }  # fmt: skip
    assert _chi_square(drawn, by_hand) < 0
    included = [sum(item in pair for pair in drawn) / NUM for item in range(3)]
    # First, or second after either of the others.
    by_hand_3 = [0.5 + 0.4 * 5 / 6 + 0.1 * 5 / 9, 0.4 + 0.5 * 4 / 5 + 0.1 * 4 / 9, 0.1 + 0.5 * 1 / 5 + 0.4 * 1 / 6]
    assert sum(by_hand_3) == pytest.approx(2)
    assert included == pytest.approx(by_hand_3, abs=0.025)


def test_wrong_distribution_would_be_noticed() -> None:
    drawn = _draws(FixedReading(THREE, NUM, [[0.55, 0.45], [0.8, 0.2]]), THREE, 2, seed=1)
    assert _chi_square(drawn, _one_by_one(np.array([0.5, 0.4, 0.1]), 2)) > 0


@pytest.mark.parametrize(
    ("options", "p_I"),
    [
        ({}, [0.5, 0.4, 0.1]),
        # Squared and renormalised at each node: 0.5 and 0.5, then 16 to 1.
        ({"temperature": 0.5}, [0.5, 0.5 * 16 / 17, 0.5 / 17]),
        # A nucleus of 0.7 keeps both edges of the first node and one of the second.
        ({"top_p": 0.7}, [0.5, 0.5, 0.0]),
        # Of equally probable edges the first makes up the nucleus.
        ({"top_p": 0.45}, [1.0, 0.0, 0.0]),
        ({"subset": Subset.of(THREE, np.array([True, False, True]))}, [0.5, 0.0, 0.1]),
        # Prior masses 1 to 4 at the first node and 3 to 1 at the second.
        ({"reweighting": Reweighting(1.0, 1.0, ItemPrior(THREE, np.array([1.0, 3.0, 1.0])))},
         [1 / 5, 4 / 5 * 12 / 13, 4 / 5 / 13]),
    ],
)  # fmt: skip
def test_all_items_are_drawn_in_the_order_of_drawing_one_by_one(
    options: dict[str, object], p_I: list[float]
) -> None:  # fmt: skip
    drawn = _draws(FixedReading(THREE, NUM, PROBS), THREE, 3, seed=2, **options)
    assert _chi_square(drawn, _one_by_one(np.array(p_I), 3)) < 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_random_tries_are_sampled_as_one_by_one(seed: int, top_p: float) -> None:
    trie, generator = make_trie(seed, 5), np.random.default_rng(seed)
    probs = [generator.dirichlet(np.full(n, 3.0)) for n in np.diff(trie.child_ptr_B1)]
    cut = [_naive_nucleus(p, top_p) for p in probs]
    owner_P, node_P, edge_P = trie.decisions(np.arange(5))
    p_I = np.ones(5)
    for item, node, edge in zip(owner_P, node_P, edge_P, strict=True):
        p_I[item] *= cut[node][edge - trie.child_ptr_B1[node]]
    drawn = _draws(FixedReading(trie, NUM, [p.tolist() for p in probs]), trie, 2, seed, top_p=top_p)
    expected = _one_by_one(p_I, 2)
    rare = {draw for draw, p in expected.items() if p * NUM <= 5}
    assert sum(draw in rare for draw in drawn) <= 20
    common = {draw: p for draw, p in expected.items() if draw not in rare}
    total = sum(common.values())
    drawn = [draw for draw in drawn if draw not in rare]
    assert _chi_square(drawn, {draw: p / total for draw, p in common.items()}) < 0


def _naive_nucleus(p: np.ndarray, top_p: float) -> np.ndarray:
    kept, total = np.zeros_like(p), 0.0
    for edge in np.argsort(-p, kind="stable"):
        if total < top_p:
            kept[edge] = p[edge]
        total += p[edge]
    return kept / kept.sum()


def test_log_probabilities_are_those_of_the_tempered_distribution_without_the_noise() -> None:
    options = {"temperature": 0.5, "subset": Subset.of(THREE, np.array([True, False, True]))}
    for result in sample(FixedReading(THREE, 20, PROBS), THREE, 2, np.random.default_rng(0), **options):
        assert np.exp(result.log_prob_K) == pytest.approx(np.array([0.5, 0, 0.5 / 17])[result.item_idx_K])


def test_nucleus_smaller_than_wanted_gives_fewer_items_and_says_why() -> None:
    (result,) = sample(FixedReading(THREE, 1, PROBS), THREE, 3, np.random.default_rng(0), top_p=0.7)
    assert (sorted(result.item_idx_K.tolist()), result.exact) == ([0, 1], True)
    assert result.reason == "only 2 items can be drawn with top_p 0.7"
    (full,) = sample(FixedReading(THREE, 1, PROBS), THREE, 3, np.random.default_rng(0))
    assert (len(full.item_idx_K), full.reason) == (3, "")


def test_nucleus_of_next_to_nothing_is_the_greedy_title() -> None:
    trie = make_trie(1, 30)
    reading = TableReading(trie, 3, 7, "random")
    for query, result in enumerate(sample(reading, trie, 5, np.random.default_rng(0), top_p=1e-9)):
        node, row = 0, 0
        while node >= 0:
            edge = int(trie.child_ptr_B1[node]) + int(reading.log_probs(query, node).argmax())
            node, row = int(trie.child_node_C[edge]), int(trie.child_lo_C[edge])
        assert result.item_idx_K.tolist() == [trie.item_of_row_I[row]]
        assert result.log_prob_K.tolist() == [0.0]


def test_empty_subset_is_reported_by_its_own_reason() -> None:
    nothing = Subset.of(THREE, np.zeros(3, bool), "unseen by this user")
    (result,) = sample(FixedReading(THREE, 1, PROBS), THREE, 3, np.random.default_rng(0), subset=nothing, top_p=0.5)
    assert (result.item_idx_K.tolist(), result.reason) == ([], "unseen by this user")


def test_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    trie = make_trie(1, 30)
    drawn = [
        [tuple(r.item_idx_K) for r in sample(TableReading(trie, 5, 3, "random"), trie, 4, np.random.default_rng(seed))]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_few_nodes_are_expanded_for_a_draw() -> None:
    trie = build_trie([[*bits, 0] for bits in itertools.product([1, 2], repeat=9)])
    reading = TableReading(trie, 1, 0, "random")
    (result,) = sample(reading, trie, 3, np.random.default_rng(0))
    assert len(result.item_idx_K) == 3
    assert result.num_expansions < 60 < trie.num_nodes


@pytest.mark.parametrize("options", [{"top_p": 0.0}, {"top_p": 1.1}, {"temperature": 0.0}, {"k": 0}])
def test_settings_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        sample(FixedReading(THREE, 1, PROBS), THREE, rng=np.random.default_rng(0), **{"k": 2} | options)


def test_values_below_a_node_have_its_value_as_the_largest() -> None:
    generator = np.random.default_rng(0)
    edges = Segments(np.array([0, 3, 1003, 1005]))
    log_prob_J = generator.normal(-5, 4, 1005).astype(np.float32)
    log_prob_J[1004] = -np.inf
    largest_X = np.array([-0.5, -20.0, 3.0], np.float32)
    value_J = perturbed(edges, log_prob_J, largest_X, generator)
    assert edges.highest(value_J).tolist() == largest_X.tolist()
    assert value_J[1004] == -np.inf
    assert not np.isnan(value_J).any()


def test_nucleus_stays_the_same_in_every_stretch_whatever_lies_beside() -> None:
    generator = np.random.default_rng(0)
    probs = [generator.dirichlet(np.full(n, 0.5)) for n in (2, 9, 40, 3)]
    edges = Segments(np.array([0, 2, 11, 51, 54]))
    found_J = np.exp(nucleus(edges, np.log(np.concatenate(probs)).astype(np.float32), 0.75))
    assert found_J == pytest.approx(np.concatenate([_naive_nucleus(p, 0.75) for p in probs]), abs=1e-5)
