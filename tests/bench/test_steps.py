"""What a step costs is measured on searches that do what they should."""

import time

import numpy as np
from steps import RandomReading, step_overhead

from whereupon.catalogue import Trie, build_trie
from whereupon.decode.search import score_all, search


def _trie(num: int = 400) -> Trie:
    rng = np.random.default_rng(0)
    found = {tuple(rng.integers(1, 12, 3).tolist()) for _ in range(num)}
    return build_trie([[*title, 0] for title in sorted(found)])


def test_random_reading_gives_a_distribution_over_the_catalogue() -> None:
    trie = _trie()
    log_prob_N = score_all(RandomReading.over(trie, np.random.default_rng(1)), trie)
    assert abs(np.exp(log_prob_N.astype(float)).sum() - 1) < 1e-4


def test_every_round_of_a_search_is_one_step() -> None:
    trie = _trie()
    reading = RandomReading.over(trie, np.random.default_rng(1))
    (result,) = search(reading, trie, 10)
    steps = reading.steps(time.perf_counter())
    assert [step.is_root for step in steps] == [True] + [False] * (len(steps) - 1)
    assert sum(step.num_nodes for step in steps) == result.num_expansions
    assert steps[0].num_edges == trie.child_ptr_B1[1]
    assert all(step.score_ms > 0 and step.search_ms > 0 for step in steps)


def test_steps_are_distinguished_by_root_and_number_of_nodes() -> None:
    found = step_overhead(_trie(1_200), seed=1, num_searches=3)
    for kind in ("best_first", "beam"):
        assert found[kind]["root"]["num_steps"] == 3
        assert found[kind]["nodes_32"]["nodes_median"] >= 32
        assert found[kind]["nodes_32"]["ms_median"] <= found[kind]["nodes_32"]["ms_p90"]
