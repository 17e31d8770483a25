"""The fit of temperature and weight: derivatives against finite differences, planted answers found again."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.arrays import Float64
from whereupon.catalogue import build_trie
from whereupon.decode.decisions import Decisions, decisions_of
from whereupon.decode.reweighting import ItemPrior, Reweighting
from whereupon.decode.search import score_all
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.rankers import fitting as calibration
from whereupon.rankers.fitting import ChoiceSets, fit, fit_weights, likelihood
from whereupon.tests.decode.tiny import random_text, random_titles, tiny_config, tiny_model


def _simulated(
    seed: int, num: int, temperature: float = 1.0, weight: float = 0.0, edges: int = 8, spread: float = 2.0
) -> Decisions:
    """Decisions at nodes of 2 to `edges` edges, taken by the model and a prior reweighted as said; two per event."""
    generator = np.random.default_rng(seed)
    count_D = generator.integers(2, edges + 1, num)
    log_probs, masses, taken = [], [], []
    for count in count_D.tolist():
        logits, mass = generator.normal(0, spread, count), generator.normal(0, 1.5, count)
        log_prob = logits - np.logaddexp.reduce(logits)
        score = log_prob / temperature + weight * mass
        taken.append(generator.choice(count, p=np.exp(score - np.logaddexp.reduce(score))))
        log_probs.append(log_prob)
        masses.append(mass)
    ptr_D1 = np.concatenate([[0], np.cumsum(count_D)])
    return Decisions(
        np.concatenate(log_probs).astype(np.float32), np.concatenate(masses).astype(np.float32), ptr_D1,
        ptr_D1[:-1] + np.array(taken), np.arange(num) // 2, np.zeros((num + 1) // 2, bool), np.zeros((num + 1) // 2),
    )  # fmt: skip


def _likelihood(decisions: Decisions, theta: Float64) -> tuple[float, Float64, Float64]:
    return likelihood(ChoiceSets.of(decisions), theta)


def _naive(decisions: Decisions, a: float, w: float) -> float:
    total = 0.0
    for d, taken in enumerate(decisions.taken_D.tolist()):
        own = slice(*decisions.ptr_D1[d : d + 2])
        score = a * decisions.log_prob_J[own].astype(np.float64) + w * decisions.log_mass_J[own].astype(np.float64)
        total += np.logaddexp.reduce(score) - score[taken - decisions.ptr_D1[d]]
    return total / decisions.num_events


@given(st.integers(0, 1000), st.integers(1, 30), st.floats(0.1, 5), st.floats(0, 3), st.sampled_from([1, 7, 1 << 20]))
@settings(deadline=None)
def test_likelihood_and_its_derivatives_are_those_of_finite_differences(
    seed: int, num: int, a: float, w: float, block: int
) -> None:
    decisions, theta, step = _simulated(seed, num), np.array([a, w]), 1e-4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "BLOCK_EDGES", block)
        nll, slope, curve = _likelihood(decisions, theta)
        assert nll == pytest.approx(_naive(decisions, a, w), rel=1e-9)
        for axis in range(2):
            shift = np.eye(2)[axis] * step
            below, above = _likelihood(decisions, theta - shift), _likelihood(decisions, theta + shift)
            assert slope[axis] == pytest.approx((above[0] - below[0]) / (2 * step), rel=1e-5, abs=1e-6)
            assert curve[axis] == pytest.approx((above[1] - below[1]) / (2 * step), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("temperature", "weight"), [(2.0, 0.7), (0.6, 0.0), (1.0, 1.5)])
def test_planted_temperature_and_weight_are_found(temperature: float, weight: float) -> None:
    found = fit(_simulated(3, 20_000, temperature, weight))
    assert found.temperature == pytest.approx(temperature, rel=0.06)
    assert found.weight == pytest.approx(weight, abs=0.05)
    assert found.nll_after < found.nll_before


@given(st.integers(0, 1000), st.integers(1, 40), st.sampled_from([0.2, 1.0, 5.0]), st.sampled_from([0.0, 1.0]))
@settings(deadline=None)
def test_fit_is_a_minimum_within_bounds_and_never_worse_than_no_change(
    seed: int, num: int, temperature: float, weight: float
) -> None:
    decisions = _simulated(seed, num, temperature, weight)
    found = fit(decisions)
    assert found.nll_before == pytest.approx(_naive(decisions, 1, 0))
    assert found.nll_after == pytest.approx(_naive(decisions, 1 / found.temperature, found.weight))
    assert found.nll_after <= found.nll_before
    Reweighting(found.temperature, 0.0)
    for a in (0.02, 0.3, 0.8, 1.0, 1.2, 3.0, 60.0):
        for w in (0.0, 0.3, 1.0, 4.0):
            assert found.nll_after <= _naive(decisions, a, w) + 1e-5


def test_prior_against_which_people_decide_gets_no_weight() -> None:
    decisions = _simulated(5, 2000, 1.0, 1.0)
    assert fit(replace(decisions, log_mass_J=-decisions.log_mass_J)).weight == 0.0


def test_decisions_without_a_prior_give_a_temperature_alone() -> None:
    one = _simulated(6, 5000, 2.0)
    found = fit(replace(one, log_mass_J=np.zeros_like(one.log_mass_J)))
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    assert found.weight == 0.0


def test_always_the_most_probable_edge_ends_at_the_lowest_temperature() -> None:
    one = _simulated(7, 50, edges=3, spread=0.01)
    taken_D = one.ptr_D1[:-1] + [int(part.argmax()) for part in np.split(one.log_prob_J, one.ptr_D1[1:-1])]
    flat = np.zeros_like(one.log_mass_J)
    assert fit(replace(one, log_mass_J=flat, taken_D=taken_D)).temperature == 0.01


def test_joined_decisions_are_those_of_the_parts() -> None:
    parts = [_simulated(seed, num) for seed, num in ((0, 5), (1, 1), (2, 8))]
    whole = Decisions.join(parts)
    theta = np.array([0.7, 0.4])
    total = sum(_likelihood(part, theta)[0] * part.num_events for part in parts)
    assert _likelihood(whole, theta)[0] == pytest.approx(total / whole.num_events)
    assert whole.num_events == 3 + 1 + 4
    assert whole.owner_D.tolist() == [0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7]


def test_nothing_to_decide_is_refused() -> None:
    empty = np.zeros(0, np.int64)
    edges, ptr_D1 = np.zeros(0, np.float32), np.zeros(1, np.int64)
    nothing = Decisions(edges, edges, ptr_D1, empty, empty, np.zeros(3, bool), np.zeros(3))
    with pytest.raises(ValueError, match="at least one decision"):
        fit(nothing)


@pytest.fixture(scope="module", name="engine")
def _engine() -> TransformersEngine:
    return TransformersEngine(tiny_model(tiny_config("llama")), build_trie(random_titles(1, 30)))


@pytest.mark.parametrize("with_prior", [True, False])
def test_decisions_in_a_text_give_the_likelihood_of_its_titles(engine: TransformersEngine, with_prior: bool) -> None:
    """That of searching at each title's place, at any temperature and weight."""
    trie, item_Q = engine.trie, np.array([4, 17, 4])
    titles = [trie.title_tokens(item) for item in item_Q]
    texts = [random_text(q, 5) for q in range(3)]
    tokens_L = np.concatenate([part for text, title in zip(texts, titles, strict=True) for part in (text, title)])
    position_Q = np.cumsum([5 + len(title) for title in titles]) - [len(title) for title in titles] - 1
    base = ItemPrior(trie, np.random.default_rng(0).random(30) + 0.1)
    prior = base.with_own([(item_Q[:q], np.ones(q)) for q in range(3)]) if with_prior else None
    change = Reweighting(1.0, 1.0, prior) if with_prior else None
    decisions = decisions_of(engine, engine.read(tokens_L, position_Q), item_Q, position_Q, change)
    assert len(decisions.taken_D) == len(trie.decisions(item_Q)[0])
    for temperature, weight in ((1.0, 0.0), (2.0, 0.6 * with_prior)):
        reweighting = Reweighting(temperature, weight, prior)
        expected = [
            -score_all(engine.read(tokens_L, position_Q), trie, query, reweighting)[item]
            for query, item in enumerate(item_Q.tolist())
        ]
        found, _, _ = _likelihood(decisions, np.array([1 / temperature, weight]))
        assert found == pytest.approx(np.mean(expected), abs=1e-4)


def test_only_item_leaves_nothing_to_decide() -> None:
    engine = TransformersEngine(tiny_model(tiny_config("llama")), build_trie([[5, 6, 3]]))
    reading = engine.read(random_text(0, 4), np.array([3]))
    change = Reweighting(1.0, 1.0, ItemPrior(engine.trie, np.ones(1)))
    decisions = decisions_of(engine, reading, np.array([0]), np.array([3]), change)
    assert (len(decisions.taken_D), len(decisions.log_prob_J), decisions.num_events) == (0, 0, 1)


def _choices(seed: int, num: int, num_features: int, theta: Float64) -> ChoiceSets:
    """Choices among 2 to 9 alternatives, taken by a planted theta."""
    generator = np.random.default_rng(seed)
    count_D = generator.integers(2, 10, num)
    ptr_D1 = np.concatenate([[0], np.cumsum(count_D)])
    feature_KJ = generator.normal(0, 1, (num_features, ptr_D1[-1])).astype(np.float32)
    noise_J = generator.gumbel(size=ptr_D1[-1])
    score_J = theta @ feature_KJ + noise_J
    taken_D = np.array([begin + score_J[begin:end].argmax() for begin, end in pairwise(ptr_D1.tolist())])
    return ChoiceSets(feature_KJ, ptr_D1, taken_D, num)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_weights_of_three_features_within_bounds_are_those_of_scipy(seed: int, ridge: float) -> None:
    """Of which one is held at its bound, and one may be below 0."""
    sets = _choices(seed, 300, 3, np.array([0.8, -0.5, -0.7]))
    lower, upper, start = np.array([0.0, 0.0, -np.inf]), np.array([0.6, np.inf, np.inf]), np.array([0.3, 0.3, 0.3])

    def penalised(theta: Float64) -> float:
        total = 0.0
        for taken, (begin, end) in zip(sets.taken_D.tolist(), pairwise(sets.ptr_D1.tolist()), strict=True):
            score = theta @ sets.feature_KJ[:, begin:end].astype(np.float64)
            total += np.logaddexp.reduce(score) - score[taken - begin]
        return float(total / sets.num_events + ridge / 2 * theta @ theta)

    bounds = [(0, 0.6), (0, None), (None, None)]
    expected = scipy.optimize.minimize(penalised, start, bounds=bounds, method="L-BFGS-B")
    theta, nll = fit_weights(sets, start, lower, upper, ridge)
    assert theta == pytest.approx(expected.x, abs=2e-3)
    assert penalised(theta) <= expected.fun + 1e-7
    assert nll == pytest.approx(penalised(theta) - ridge / 2 * theta @ theta)
    assert theta[1] == 0.0


def test_some_of_the_features_and_choices_are_fitted_as_if_there_were_no_others() -> None:
    sets = _choices(9, 400, 3, np.array([1.0, 0.5, 0.0]))
    chosen_D = np.arange(400) % 3 == 0
    part = sets.part(chosen_D).take([2, 0])
    alone = np.concatenate([np.arange(*sets.ptr_D1[d : d + 2]) for d in np.flatnonzero(chosen_D)])
    assert part.feature_KJ.tolist() == sets.feature_KJ[[2, 0]][:, alone].tolist()
    assert alone[part.taken_D].tolist() == sets.taken_D[chosen_D].tolist()
    assert part.num_events == chosen_D.sum()
