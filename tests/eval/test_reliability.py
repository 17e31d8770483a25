import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval.rankings import Rankings
from whereupon.eval.reliability import Binning, Calibrated, calibration, predictions, reliability_curve

PROBABILITIES = np.array([0.1, 0.2, 0.6, 0.8])
RIGHT = np.array([False, True, True, True])


def _rankings(rank: list[int], probabilities: list[list[float]]) -> Rankings:
    """Events whose lists hold as many items as there are probabilities, filled up to the longest."""
    k = max(len(one) for one in probabilities)
    items = np.array([[*range(len(one)), *[-1] * (k - len(one))] for one in probabilities], np.int32)
    scores = np.array([[*np.log(one), *[-np.inf] * (k - len(one))] for one in probabilities], np.float64)
    return Rankings(np.arange(len(rank)), np.array(rank), items, scores)


def test_equal_width_bins_of_hand_derived_predictions() -> None:
    curve = reliability_curve(PROBABILITIES, RIGHT, "equal-width", 2)  # (0, 0.5] and (0.5, 1]
    assert curve.confidence_B == pytest.approx([0.15, 0.7])
    assert curve.accuracy_B == pytest.approx([0.5, 1.0])
    assert curve.count_B.tolist() == [2, 2]
    assert curve.error == pytest.approx((2 * 0.35 + 2 * 0.3) / 4)


def test_equal_mass_bins_of_hand_derived_predictions() -> None:
    curve = reliability_curve(np.array([0.1, 0.11, 0.12, 0.9]), RIGHT, "equal-mass", 2)
    assert curve.confidence_B == pytest.approx([0.105, 0.51])
    assert curve.accuracy_B == pytest.approx([0.5, 1.0])
    assert curve.error == pytest.approx((0.395 + 0.49) / 2)


def test_bound_of_an_equal_width_bin_belongs_to_the_lower_bin_and_zero_to_the_first() -> None:
    curve = reliability_curve(np.array([0.0, 0.3, 0.7, 1.0]), RIGHT, "equal-width", 10)
    assert curve.confidence_B.tolist() == [0.0, 0.3, 0.7, 1.0]
    above = reliability_curve(np.array([0.7, 0.65]), RIGHT[:2], "equal-width", 10)
    assert above.count_B.tolist() == [2], "0.7 * 10 is 7.000000000000001, but 0.7 is in (0.6, 0.7]"


def test_empty_bins_are_left_out() -> None:
    assert reliability_curve(np.array([0.05, 0.95]), RIGHT[:2], "equal-width", 10).count_B.tolist() == [1, 1]


def test_equal_probabilities_share_a_bin_in_whatever_order() -> None:
    probability_P = np.array([0.2] * 3 + [0.5] * 7)
    right_P = np.array([True, False, False] + [True] * 2 + [False] * 5)
    curves = [
        reliability_curve(probability_P[order], right_P[order], "equal-mass", 5)
        for order in (np.arange(10), np.arange(10)[::-1])
    ]
    for curve in curves:
        assert curve.count_B.tolist() == [3, 7]
        assert curve.accuracy_B == pytest.approx([1 / 3, 2 / 7])


@pytest.mark.parametrize("binning", ["equal-mass", "equal-width"])
def test_no_predictions_give_no_bins_and_nan(binning: Binning) -> None:
    curve = reliability_curve(np.empty(0), np.empty(0, bool), binning)
    assert not curve.count_B.size
    assert math.isnan(curve.error)
    empty = Calibrated.of(np.empty(0), np.empty(0, bool))
    assert math.isnan(empty.brier)
    assert empty.num_predictions == 0


def test_first_predictions_and_all_of_them_are_distinguished() -> None:
    rankings = _rankings([1, 2, 0], [[0.5, 0.25], [0.75, 0.125], [0.25]])
    probability_P, right_P = predictions(rankings, 1)
    assert probability_P == pytest.approx([0.5, 0.75, 0.25])
    assert right_P.tolist() == [True, False, False]
    probability_P, right_P = predictions(rankings, 2)
    assert probability_P == pytest.approx([0.5, 0.25, 0.75, 0.125, 0.25]), "the third list has no second item"
    assert right_P.tolist() == [True, False, False, True, False]
    found = calibration(rankings)
    assert list(found) == ["top-1", "top-2"]
    assert found["top-1"].brier == pytest.approx((0.25 + 0.75**2 + 0.25**2) / 3)
    assert found["top-1"].confidence == pytest.approx(0.5)
    assert found["top-1"].accuracy == pytest.approx(1 / 3)
    assert found["top-2"].num_predictions == 5


def test_event_without_a_list_makes_no_prediction() -> None:
    first = calibration(_rankings([1, 0], [[0.5], []]))["top-1"]
    assert (first.num_predictions, first.brier) == (1, pytest.approx(0.25))


def test_rank_zero_is_no_hit_at_any_place() -> None:
    assert not predictions(_rankings([0], [[0.5, 0.5]]), 2)[1].any()


def test_scores_that_are_no_log_probabilities_are_refused() -> None:
    rankings = _rankings([1], [[0.75, 0.5]])
    with pytest.raises(ValueError, match=r"first 2 items sum to 1\.25"):
        calibration(rankings)


def test_round_off_above_certainty_passes_as_certainty() -> None:
    assert predictions(_rankings([1], [[1.0000001]]), 1)[0].tolist() == [1.0]


@pytest.mark.parametrize("binning", ["equal-mass", "equal-width"])
def test_calibrated_predictions_err_little_and_oversure_ones_by_how_much_they_are(binning: Binning) -> None:
    rng = np.random.default_rng(0)
    true_P = rng.uniform(0, 0.8, 100_000)
    right_P = rng.random(len(true_P)) < true_P
    assert reliability_curve(true_P, right_P, binning).error < 0.01
    assert reliability_curve(true_P + 0.2, right_P, binning).error == pytest.approx(0.2, abs=0.01)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40), st.integers(1, 12))
def test_curves_equal_binning_one_by_one(drawn: list[tuple[int, bool]], num_bins: int) -> None:
    probability_P, right_P = np.array([p / 20 for p, _ in drawn]), np.array([right for _, right in drawn])
    ordered = sorted(probability_P.tolist())
    for binning in ("equal-mass", "equal-width"):
        bins: dict[int, list[tuple[float, bool]]] = {}
        for p, right in zip(probability_P.tolist(), right_P.tolist(), strict=True):
            if binning == "equal-width":
                place = next(b for b in range(num_bins) if p <= (b + 1) / num_bins)
            else:
                first, last = ordered.index(p), len(ordered) - 1 - ordered[::-1].index(p)
                place = num_bins * (first + last) // (2 * len(ordered))
            bins.setdefault(place, []).append((p, right))
        curve = reliability_curve(probability_P, right_P, binning, num_bins)
        expected = [bins[place] for place in sorted(bins)]
        assert curve.count_B.tolist() == [len(one) for one in expected]
        assert curve.confidence_B == pytest.approx([sum(p for p, _ in one) / len(one) for one in expected])
        assert curve.accuracy_B == pytest.approx([sum(right for _, right in one) / len(one) for one in expected])
