"""Our metrics are those of ir-measures; the bench does the same with many more runs."""

import numpy as np
import pytest

pytest.importorskip("ir_measures")

import metrics_check
from metrics_check import compare, exported, largest_gaps, random_lists

EVERY = {
    "recall", "mean recall", "precision", "mean precision", "nDCG", "mean nDCG", "MRR", "mean MRR", "hit rate",
    "accuracy", "F1", "F1 from P and R",
}  # fmt: skip


def test_metrics_equal_those_of_ir_measures_on_random_runs() -> None:
    gaps = largest_gaps(num_runs=25, seed=1)
    assert gaps.keys() == EVERY
    assert max(gaps.values()) <= 1e-9


def test_random_lists_hit_and_miss() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_lists(rng) for _ in range(50)]
    hits = [(items == true[:, None]).any(axis=1).mean() for items, true in drawn if items.shape[1] >= 5]
    assert 0.3 < np.mean(hits) < 0.95
    assert min(items.shape[1] for items, _ in drawn) == 0


def test_exported_scores_decrease_strictly_along_a_list() -> None:
    assert exported(np.array([[7, 3, 5]])) == {"0": {"7": 0.0, "3": -1.0, "5": -2.0}}


def test_wrong_discount_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(rank_E: np.ndarray, log_prob_E: None, names: list[str]) -> dict[str, np.ndarray]:
        return {name: np.where(rank_E > 0, 1 / np.log2(rank_E + 2), 0.0) for name in names}

    monkeypatch.setattr(metrics_check, "per_event", off_by_one)
    assert dict(compare(np.array([[1, 2, 3]]), np.array([2]), 3))["nDCG"] > 0.1
