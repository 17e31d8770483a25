import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval import METRICS, per_event, summarise
from whereupon.eval.metrics import Metric, by_visit, evaluate_rankings, macro, micro
from whereupon.eval.rankings import Rankings

RANKS = [1, 2, 0, 11, 5]


def mean(name: str, ranks: Any) -> float:
    """Of the ranks, by one metric."""
    return summarise(ranks, metrics=[name])[name]


def log_loss(log_probs: Any) -> float:
    return summarise([1] * len(log_probs), log_probs, ["log-loss"])["log-loss"]


def test_recall_of_hand_derived_ranks_counts_hits() -> None:
    assert mean("recall@1", RANKS) == pytest.approx(1 / 5)
    assert mean("recall@5", RANKS) == pytest.approx(3 / 5)
    assert mean("recall@11", RANKS) == pytest.approx(4 / 5)


def test_ndcg_of_hand_derived_ranks_discounts_by_log() -> None:
    assert mean("nDCG@10", RANKS) == pytest.approx((1 + 0.6309297536 + 0.3868528072) / 5)


def test_mrr_of_hand_derived_ranks_takes_reciprocals() -> None:
    assert mean("MRR@10", RANKS) == pytest.approx((1 + 0.5 + 0.2) / 5)
    assert mean("MRR@2", RANKS) == pytest.approx(1.5 / 5)


def test_precision_of_hand_derived_ranks_divides_hits_by_the_cutoff() -> None:
    assert mean("precision@1", RANKS) == pytest.approx(1 / 5)
    assert mean("precision@5", RANKS) == pytest.approx(3 / 5 / 5)


def test_f1_of_hand_derived_ranks_is_the_harmonic_mean() -> None:
    assert mean("F1@1", RANKS) == pytest.approx(1 / 5), "precision and recall are both 1 for the only hit"
    assert mean("F1@5", RANKS) == pytest.approx(3 * (2 * (1 / 5) * 1 / (1 / 5 + 1)) / 5)


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
        mean("recall@10", ranks)


@pytest.mark.parametrize("log_probs", [[math.nan], [0.5], [[-1.0]]])
def test_unfit_log_probabilities_are_refused(log_probs: Any) -> None:
    with pytest.raises(ValueError, match="log-probabilities"):
        log_loss(log_probs)


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
    assert mean(f"recall@{k}", ranks) == pytest.approx(hits / len(ranks))
    assert mean(f"MRR@{k}", ranks) == pytest.approx(reciprocal / len(ranks))
    assert mean(f"nDCG@{k}", ranks) == pytest.approx(gain / len(ranks))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.floats(-50, 0)), min_size=1, max_size=20))
def test_summary_is_the_mean_of_the_events_own_values(events: list[tuple[int, float]]) -> None:
    ranks, log_probs = zip(*events, strict=True)
    values = per_event(ranks, log_probs)
    assert {name: value_E.mean() for name, value_E in values.items()} == pytest.approx(summarise(ranks, log_probs))
    assert all(value_E.shape == (len(events),) and value_E.dtype == np.float64 for value_E in values.values())


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("recall@10", "recall@10"),
        ("ndcg@7", "nDCG@7"),
        ("mrr@100", "MRR@100"),
        (" Precision@5 ", "precision@5"),
        ("f1@5", "F1@5"),
        ("LOG-LOSS", "log-loss"),
    ],
)
def test_name_is_parsed_whatever_its_capitals(name: str, canonical: str) -> None:
    metric = Metric.parse(name)
    assert metric.name == canonical
    assert Metric.parse(metric.name) == metric


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("recal@10", r"did you mean recall@k\?"),
        ("", "there are recall@k, precision@k, F1@k, nDCG@k, MRR@k, log-loss"),
        ("recall", "recall needs a cutoff"),
        ("recall@0", "cutoff of 1 or more"),
        ("nDCG@-1", "cutoff of 1 or more"),
        ("nDCG@1.5", "cutoff of 1 or more"),
        ("nDCG@10@2", "cutoff of 1 or more"),
        ("log-loss@5", "log-loss has no cutoff"),
    ],
)
def test_name_of_no_metric_is_refused_with_what_there_is(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Metric.parse(name)


def test_every_metric_but_log_loss_is_better_when_higher() -> None:
    lower = [name for name in (*METRICS, "F1@3") if Metric.parse(name).lower_is_better]
    assert lower == ["log-loss"]


def test_metrics_come_in_the_order_requested_under_canonical_names() -> None:
    assert list(summarise([1], [-1.0], ["log-loss", "mrr@3", "Recall@2"])) == ["log-loss", "MRR@3", "recall@2"]


def test_log_loss_without_log_probabilities_is_left_out() -> None:
    assert per_event([1], None, ["log-loss"]) == {}


def test_macro_mean_counts_each_user_once() -> None:
    values, users = np.array([1.0, 1.0, 1.0, 0.0, 0.5]), [7, 7, 7, 3, 3]
    assert micro(values) == pytest.approx(3.5 / 5)
    assert macro(values, users) == pytest.approx((1 + 0.25) / 2)


def test_unknown_values_are_left_out_of_both_means() -> None:
    values, users = np.array([1.0, math.nan, 0.0, math.nan]), [0, 0, 1, 2]
    assert micro(values) == pytest.approx(0.5)
    assert macro(values, users) == pytest.approx(0.5)
    assert math.isnan(macro(np.array([math.nan]), [0]))
    assert math.isnan(macro(np.empty(0), np.empty(0, np.int64)))


def test_infinite_loss_of_one_user_makes_the_macro_mean_infinite() -> None:
    assert macro(np.array([math.inf, 1.0]), [0, 1]) == math.inf


def _rankings(rank: list[int], k: int) -> Rankings:
    num_events = len(rank)
    items = np.tile(np.arange(k, dtype=np.int32), (num_events, 1))
    return Rankings(np.arange(num_events), np.array(rank), items, -items.astype(np.float64))


def test_rankings_are_scored_like_their_ranks() -> None:
    assert {
        name: value.mean() for name, value in evaluate_rankings(_rankings([1, 2, 30], 10)).items()
    } == pytest.approx(summarise([1, 2, 30]))


def test_cutoff_below_what_the_rankings_know_is_refused() -> None:
    with pytest.raises(ValueError, match="nDCG@11 looks at the first 11 items but these rankings hold 10"):
        evaluate_rankings(_rankings([1, 0], 10), ["recall@1", "nDCG@11"])


def test_cutoff_beyond_the_lists_is_fine_where_all_ranks_are_known() -> None:
    assert evaluate_rankings(_rankings([1, 11], 10), ["recall@11"])["recall@11"].tolist() == [1, 1]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1) | st.just(math.nan)), max_size=30))
def test_macro_equals_averaging_user_by_user(events: list[tuple[int, float]]) -> None:
    by_user: dict[int, list[float]] = {}
    for user, value in events:
        if not math.isnan(value):
            by_user.setdefault(user, []).append(value)
    means = [sum(values) / len(values) for values in by_user.values()]
    found = macro(np.array([value for _, value in events]), np.array([user for user, _ in events], np.int64))
    assert found == pytest.approx(sum(means) / len(means) if means else math.nan, nan_ok=True)


def test_first_visits_and_repeats_are_distinguished_where_there_are_both() -> None:
    found = by_visit(np.array([1, 0, 3, 1]), np.array([True, True, False, False]))
    assert found == {"nDCG@10 first visits": 0.5, "nDCG@10 repeats": 0.75}
    assert by_visit(np.array([1, 2]), np.array([True, True])) == {}
    assert by_visit(np.array([1, 2]), np.array([False, False])) == {}
