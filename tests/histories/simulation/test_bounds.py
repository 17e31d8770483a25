"""The best possible figures of known probabilities, by hand and against any other order."""

import itertools
import math

import numpy as np
import pytest

from whereupon.histories.simulation.bounds import KS, Bounds, Known


def test_figures_of_two_events_by_hand() -> None:
    prob_EI = np.array([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    known = Known.of(prob_EI, np.array([2, 2]))
    assert known.rank_E.tolist() == [2, 1]
    assert known.recall_EK[0].tolist() == pytest.approx([0.5, 1.0, 1.0])
    assert known.ndcg_EK[0, KS.index(10)] == pytest.approx(0.5 + 0.3 / math.log2(3) + 0.2 / 2)
    assert known.entropy_E.tolist() == pytest.approx([-sum(p * math.log(p) for p in (0.2, 0.5, 0.3)), 0.0])
    figures = known.figures()
    assert figures["drawn"]["nDCG@10"] == pytest.approx((1 / math.log2(3) + 1) / 2)
    assert figures["drawn"]["log_loss"] == pytest.approx(-math.log(0.3) / 2)


def test_no_other_order_of_items_is_expected_to_do_better() -> None:
    prob_I = np.random.default_rng(1).dirichlet(np.ones(6))
    known = Known.of(prob_I[None], np.array([0]))
    for order in itertools.permutations(range(6)):
        assert sum(prob_I[item] for item in order[:5]) <= known.recall_EK[0, KS.index(5)] + 1e-12
        gains = sum(prob_I[item] / math.log2(rank + 2) for rank, item in enumerate(order))
        assert gains <= known.ndcg_EK[0, KS.index(10)] + 1e-12


def test_no_event_has_no_figures() -> None:
    bounds = Bounds.of(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.int64))
    assert bounds.figures() == {"with_weather": {}, "without_weather": {}}
