import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval import METRICS, log_loss, mrr, ndcg, per_event, recall, summarise

RANKS = [1, 2, 0, 11, 5]


def test_recall_of_hand_derived_ranks_counts_hits() -> None:
    assert recall(RANKS, 1) == pytest.approx(1 / 5)
    assert recall(RANKS, 5) == pytest.approx(3 / 5)
    assert recall(RANKS, 11) == pytest.approx(4 / 5)


def test_ndcg_of_hand_derived_ranks_discounts_by_log() -> None:
    assert ndcg(RANKS, 10) == pytest.approx((1 + 0.6309297536 + 0.3868528072) / 5)


def test_mrr_of_hand_derived_ranks_takes_reciprocals() -> None:
    assert mrr(RANKS, 10) == pytest.approx((1 + 0.5 + 0.2) / 5)
    assert mrr(RANKS, 2) == pytest.approx(1.5 / 5)


def test_log_loss_of_uniform_guess_is_log_of_catalogue_size() -> None:
    assert log_loss(np.log([1 / 8, 1 / 8])) == pytest.approx(math.log(8))


def test_impossible_event_makes_log_loss_infinite() -> None:
    assert log_loss([0.0, -math.inf]) == math.inf


def test_certain_event_loses_positive_zero() -> None:
    assert math.copysign(1, log_loss([0.0])) == 1


def test_miss_as_zero_or_as_large_sentinel_is_the_same() -> None:
    assert summarise([1, 0, 3]) == summarise([1, 2**40, 3])


def test_summary_has_canonical_names_in_order() -> None:
    assert tuple(summarise([1], [-0.5])) == METRICS
    assert tuple(summarise([1])) == METRICS[:-1]


def test_no_events_give_nan_without_a_warning() -> None:
    assert all(math.isnan(value) for value in summarise([], []).values())


@pytest.mark.parametrize("ranks", [[-1], [1.5], [[1]]])
def test_unfit_ranks_are_refused(ranks: Any) -> None:
    with pytest.raises(ValueError, match="ranks"):
        recall(ranks, 10)


@pytest.mark.parametrize("log_probs", [[math.nan], [0.5], [[-1.0]]])
def test_unfit_log_probabilities_are_refused(log_probs: Any) -> None:
    with pytest.raises(ValueError, match="log-probabilities"):
        log_loss(log_probs)


def test_cutoff_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be"):
        recall([1], 0)


def test_ranks_and_log_probabilities_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 ranks but 1 log-prob"):
        summarise([1, 2], [-1.0])


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 20))
def test_metrics_equal_scoring_a_ranked_list_item_by_item(ranks: list[int], k: int) -> None:
    hits = reciprocal = gain = 0.0
    for rank in ranks:
        for position in range(1, k + 1):
            if position == rank:
                hits += 1
                reciprocal += 1 / position
                gain += math.log(2) / math.log(position + 1)
    assert recall(ranks, k) == pytest.approx(hits / len(ranks))
    assert mrr(ranks, k) == pytest.approx(reciprocal / len(ranks))
    assert ndcg(ranks, k) == pytest.approx(gain / len(ranks))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.floats(-50, 0)), min_size=1, max_size=20))
def test_summary_is_the_mean_of_the_events_own_values(events: list[tuple[int, float]]) -> None:
    ranks, log_probs = zip(*events, strict=True)
    values = per_event(ranks, log_probs)
    assert {name: value_E.mean() for name, value_E in values.items()} == pytest.approx(summarise(ranks, log_probs))
    assert all(value_E.shape == (len(events),) and value_E.dtype == np.float64 for value_E in values.values())
