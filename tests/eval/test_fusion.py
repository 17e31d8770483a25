"""Fusion of lists: hand-derived numbers, and a loop over events and items as the reference."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.errors import DataError
from whereupon.eval.fusion import METHODS, Fusion, FusionMethod, Pool, fit_fusion, fuse_rankings, fusion_grid
from whereupon.eval.rankings import Rankings

A, B, C, D, E = range(5)
HALF = (0.5, 0.5)


def _rankings(
    lists: Sequence[Sequence[tuple[int, float]]], k: int = 3, log_probs: bool = False, first_row: int = 10
) -> Rankings:
    """One list of (item, score) an event, best first."""
    item_EK = np.full((len(lists), k), -1, np.int32)
    score_EK = np.full((len(lists), k), -np.inf)
    for event, ranked in enumerate(lists):
        for at, (item, score) in enumerate(ranked):
            item_EK[event, at], score_EK[event, at] = item, score
    row_E, num = np.arange(first_row, first_row + len(lists)), len(lists)
    log_prob_E = np.zeros(num, np.float32) if log_probs else None
    return Rankings(row_E, np.zeros(num, np.int64), item_EK, score_EK, log_prob_E)


def _items(rankings: Rankings, event: int = 0) -> list[int]:
    found: list[int] = [item for item in rankings.item_EK[event].tolist() if item >= 0]
    return found


ONE = _rankings([[(A, 3.0), (B, 2.0), (C, 1.0)]])
OTHER = _rankings([[(C, 0.6), (D, 0.3), (A, 0.1)]])


def test_reciprocal_ranks_are_added_up_with_their_weights() -> None:
    """A: 0.5 (1/61 + 1/63), C: the same the other way round; B and D: 0.5 / 62 each. Ties by the first list."""
    fused = fuse_rankings([ONE, OTHER], np.array([D]), Fusion("rrf", HALF, 60.0), 5)
    assert _items(fused) == [A, C, B, D]
    both, single = 0.5 / 61 + 0.5 / 63, 0.5 / 62
    assert fused.score_EK[0].tolist() == pytest.approx([both, both, single, single, -math.inf])
    assert fused.rank_E.tolist() == [4]
    assert fused.log_prob_E is None


def test_min_max_puts_missing_items_at_the_lists_floor() -> None:
    """One: A 1, B 0.5, C 0, D 0. Other: C 1, D 0.4, A 0, B 0. With weights 0.8 and 0.2."""
    fused = fuse_rankings([ONE, OTHER], np.array([D]), Fusion("min-max", (0.8, 0.2)), 5)
    assert _items(fused) == [A, B, C, D]
    assert fused.score_EK[0, :4].tolist() == pytest.approx([0.8, 0.4, 0.2, 0.08])


def test_standardised_scores_have_mean_0_and_deviation_1() -> None:
    """One: A, B, C at +, 0 and - sqrt(1.5). Weight 1 on it leaves its order, D at the floor beside C."""
    fused = fuse_rankings([ONE, OTHER], np.array([C]), Fusion("z", (1.0, 0.0)), 5)
    assert _items(fused) == [A, B, C, D]  # C before D by its better rank in a list
    assert fused.score_EK[0, :4].tolist() == pytest.approx([1.5**0.5, 0, -(1.5**0.5), -(1.5**0.5)])


def test_log_probabilities_are_taken_as_they_are_and_other_scores_as_shares() -> None:
    model = _rankings([[(A, -0.5), (B, -2.0)]], log_probs=True)
    fused = fuse_rankings([model, OTHER], np.array([A]), Fusion("log-prob", (0.25, 0.75), 0.1), 4)
    expected = {
        A: 0.25 * -0.5 + 0.75 * math.log(0.1 + 0.1),
        B: 0.25 * -2.0 + 0.75 * math.log(0.1 + 0.1),  # the floor of the other list
        C: 0.25 * -2.0 + 0.75 * math.log(0.6 + 0.1),  # the floor of the model's
        D: 0.25 * -2.0 + 0.75 * math.log(0.3 + 0.1),
    }
    order = sorted(expected, key=lambda item: -expected[item])
    assert _items(fused) == order
    assert fused.score_EK[0].tolist() == pytest.approx([expected[item] for item in order])


def test_negative_scores_that_are_no_log_probabilities_are_refused_by_log_prob_alone() -> None:
    odd = _rankings([[(A, 1.0), (B, -2.0)]])
    with pytest.raises(DataError, match="has the score -2; fuse by another method"):
        fuse_rankings([odd, OTHER], np.array([A]), Fusion("log-prob", HALF, 0.1), 4)
    assert _items(fuse_rankings([odd, OTHER], np.array([A]), Fusion("z", HALF), 4)) != []


@pytest.mark.parametrize("method", METHODS)
def test_list_without_items_leaves_the_other_as_it_is(method: FusionMethod) -> None:
    fused = fuse_rankings([_rankings([[]]), OTHER], np.array([D]), Fusion(method, HALF, 0.5), 4)
    assert _items(fused) == [C, D, A]
    assert fused.rank_E.tolist() == [2]


@pytest.mark.parametrize("method", METHODS)
def test_event_that_no_list_answers_is_answered_by_nothing(method: FusionMethod) -> None:
    empty = _rankings([[]])
    fused = fuse_rankings([empty, empty], np.array([D]), Fusion(method, HALF, 0.5), 4)
    assert (_items(fused), fused.rank_E.tolist()) == ([], [0])


@pytest.mark.parametrize("method", METHODS)
def test_item_held_impossible_counts_as_lacking(method: FusionMethod) -> None:
    sure = _rankings([[(A, 0.0), (B, -np.inf)]], log_probs=True)
    other = _rankings([[(A, -1.0), (C, -2.0)]], log_probs=True)
    fused = fuse_rankings([sure, other], np.array([B]), Fusion(method, (0.0, 1.0), 0.5), 4)
    assert (_items(fused), fused.rank_E.tolist()) == ([A, C], [0])


def test_truth_in_no_list_is_not_found_and_beyond_k_it_still_has_its_rank() -> None:
    fused = fuse_rankings([ONE, OTHER], np.array([E]), Fusion("rrf", HALF, 60.0), 2)
    assert fused.rank_E.tolist() == [0]
    fused = fuse_rankings([ONE, OTHER], np.array([D]), Fusion("rrf", HALF, 60.0), 2)
    assert (_items(fused), fused.rank_E.tolist()) == ([A, C], [4])


def test_lists_of_other_events_are_refused() -> None:
    with pytest.raises(ValueError, match="same events"):
        Pool.of([ONE, _rankings([[(A, 1.0)]], first_row=11)])
    with pytest.raises(ValueError, match="2 lists but 3 weights"):
        fuse_rankings([ONE, OTHER], np.array([A]), Fusion("rrf", (0.2, 0.3, 0.5)), 2)


def test_fit_trusts_the_ranker_that_was_right() -> None:
    """The second list always has the truth first, the first one something else; equal weights would tie."""
    wrong = _rankings([[(A, 2.0), (B, 1.0)]] * 4)
    right = _rankings([[(item, 1.0)] for item in (C, D, C, E)])
    truth_E = np.array([C, D, C, E])
    fusion, trials = fit_fusion([wrong, right], truth_E, "min-max")
    assert fusion.weights[1] > fusion.weights[0]
    assert max(trial["metrics"]["nDCG@10"] for trial in trials) == 1.0
    assert fuse_rankings([wrong, right], truth_E, fusion, 3).rank_E.tolist() == [1, 1, 1, 1]


def test_fit_among_equals_takes_equal_weights_and_the_usual_constant() -> None:
    same = _rankings([[(A, 1.0), (B, 0.5)]])
    assert fit_fusion([same, same], np.array([A]), "rrf")[0] == Fusion("rrf", (0.5, 0.5), 60.0)


@pytest.mark.parametrize("num_lists", [2, 3, 4, 5, 6])
def test_grid_has_equal_weights_first_and_every_ranker_alone(num_lists: int) -> None:
    weights = [fusion.weights for fusion in fusion_grid("z", num_lists)]
    assert max(weights[0]) - min(weights[0]) < 0.15
    assert len(set(weights)) == len(weights) <= 462
    assert all(sum(one) == pytest.approx(1) for one in weights)
    assert {one.index(1.0) for one in weights if max(one) == 1.0} == set(range(num_lists))


@pytest.mark.parametrize("num_lists", [1, 7])
def test_fusion_of_too_few_or_too_many_is_refused(num_lists: int) -> None:
    with pytest.raises(DataError, match=f"of 2 to 6 rankers, found {num_lists}"):
        list(fusion_grid("rrf", num_lists))


_LIST = st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])), max_size=5).map(
    lambda pairs: sorted(dict(pairs).items(), key=lambda pair: -pair[1])
)


@given(
    st.lists(st.tuples(_LIST, _LIST, _LIST, st.integers(0, 7)), min_size=1, max_size=4),
    st.sampled_from(METHODS), st.sampled_from([(1 / 3, 1 / 3, 1 / 3), (0.5, 0.25, 0.25), (0.0, 1.0, 0.0)]),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_fusion_is_what_a_loop_over_events_finds(
    events: list[tuple[list[tuple[int, float]], ...]], method: FusionMethod, weights: tuple[float, ...]
) -> None:
    truth = np.array([event[3] for event in events])
    lists = [_rankings([event[number] for event in events], k=5) for number in range(3)]
    fusion = Fusion(method, weights, 0.5)
    fused = fuse_rankings(lists, truth, fusion, 30)
    for number, event in enumerate(events):
        expected = _naive(event[:3], fusion)  # type: ignore[arg-type]
        found = dict(zip(_items(fused, number), fused.score_EK[number].tolist(), strict=False))
        assert found == pytest.approx(expected)
        ranked = _items(fused, number)
        assert fused.rank_E[number] == (ranked.index(truth[number]) + 1 if truth[number] in ranked else 0)


def _naive(lists: Sequence[list[tuple[int, float]]], fusion: Fusion) -> dict[int, float]:
    fused = dict.fromkeys({item for one in lists for item, _ in one}, 0.0)
    for one, weight in zip(lists, fusion.weights, strict=True):
        values = _naive_values(one, fusion)
        floor = 0.0 if fusion.method in ("rrf", "min-max") or not one else min(values.values())
        for item in fused:
            fused[item] += weight * values.get(item, floor)
    return fused


def _naive_values(one: list[tuple[int, float]], fusion: Fusion) -> dict[int, float]:
    items, scores = [item for item, _ in one], [score for _, score in one]
    match fusion.method:
        case "rrf":
            return {item: 1 / (fusion.constant + rank) for rank, item in enumerate(items, start=1)}
        case "log-prob":
            total = sum(scores) or 1.0
            return {item: math.log(score / total + fusion.constant) for item, score in one}
        case "min-max":
            low, high = min(scores, default=0.0), max(scores, default=0.0)
            return {item: (score - low) / (high - low) if high > low else 1.0 for item, score in one}
        case "z":
            mean, deviation = float(np.mean(scores or [0.0])), float(np.std(scores or [0.0]))
            return {item: (score - mean) / deviation if deviation > 1e-9 else 0.0 for item, score in one}
