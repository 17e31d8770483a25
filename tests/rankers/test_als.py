"""Histories folded into fixed vectors, against solving one system each; and the fit, where `implicit` is installed."""

import importlib.util
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.rankers.als import FAMILIES, fold_in
from whereupon.rankers.protocol import UnfitDataError

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
A, B, C, D, E = range(5)
INSTALLED = importlib.util.find_spec("implicit") is not None


@given(
    num_items=st.integers(1, 8), rank=st.integers(1, 5), penalty=st.sampled_from([0.01, 3.0]), seed=st.integers(0, 999)
)
def test_folded_histories_solve_the_normal_equations(num_items: int, rank: int, penalty: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vector_IR = rng.normal(size=(num_items, rank))
    extra_QI = np.where(rng.random((6, num_items)) < 0.4, 40 * rng.random((6, num_items)), 0.0)
    extra_QI[0] = 0  # an empty history
    found = fold_in(vector_IR, extra_QI, penalty)
    for extra_I, user_R in zip(extra_QI, found, strict=True):
        left = vector_IR.T @ np.diag(1 + extra_I) @ vector_IR + penalty * np.eye(rank)
        right = vector_IR.T @ np.where(extra_I > 0, 1 + extra_I, 0)
        assert user_R.tolist() == pytest.approx(np.linalg.solve(left, right).tolist(), rel=1e-5, abs=1e-7)


@pytest.mark.skipif(not INSTALLED, reason="implicit is not installed")
def test_friends_of_a_taste_are_ranked_before_the_others(build: Build) -> None:
    # Two tastes, A B C and D E: who knows A and B is shown C, who knows D is shown E.
    rows = [(u, item, u * 10 + item, "train") for u in range(20) for item in ((A, B, C) if u % 2 else (D, E))]
    rows += [(30, A, 1, "train"), (30, B, 2, "train"), (31, D, 3, "train")]
    histories = build([*rows, (30, C, 999, "test"), (31, E, 999, "test")], 5)
    chosen = {"rank": 2, "penalty": 0.1, "alpha": 10.0, "half_life_events": None, "self_weight": 0.0}
    task = read_task(histories, "test", EvaluateSettings(repeats="excluded"))
    first, again = (rank(FAMILIES[0].ranker(histories, "test", chosen, seed=4), task, 3) for _ in range(2))
    assert first.rank_E.tolist() == [1, 1]
    assert (first.score_EK == again.score_EK).all()


def test_missing_package_is_reported(town: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnfitDataError, match=r"'ALS' needs the package implicit, .* pip install 'whereupon\[als\]'"):
        FAMILIES[0].ranker(town, "test", FAMILIES[0].grid()[0], 0)
