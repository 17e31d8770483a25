"""Decisions of titles in a text, with the two parts of a mixture, against scores of the whole catalogue."""

from itertools import pairwise

import numpy as np
import pytest

from whereupon.catalogue import build_trie
from whereupon.decode.decisions import Decisions, decisions_of
from whereupon.decode.reweighting import AgainOrNew
from whereupon.decode.search import score_all
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.rankers.fitting import ChoiceSets, likelihood
from whereupon.tests.decode.tables import make_mixture
from whereupon.tests.decode.tiny import random_text, random_titles, tiny_config, tiny_model


@pytest.fixture(scope="module", name="engine")
def _engine(one_thread: None) -> TransformersEngine:
    return TransformersEngine(tiny_model(tiny_config("llama")), build_trie(random_titles(1, 30)))


def _case(engine: TransformersEngine, seed: int, with_base: bool) -> tuple[Decisions, AgainOrNew, np.ndarray]:
    """Eight events, with items that are possible, their decisions, and float32 [E]: what the search would say."""
    trie, num = engine.trie, 8
    mixture = make_mixture(trie, seed, num, 0.8, 0.6, 0.4, with_base)
    generator = np.random.default_rng(seed)
    mass_QI = mixture.again_QI + mixture.new_QI
    item_Q = np.array([generator.choice(np.flatnonzero(mass_I)) for mass_I in mass_QI])
    pieces, position_Q = [], []
    for query, item in enumerate(item_Q.tolist()):
        pieces.append(random_text(query, 4))
        position_Q.append(sum(map(len, pieces)) - 1)
        pieces.append(trie.title_tokens(item))
    tokens_L, at_Q = np.concatenate(pieces), np.array(position_Q)
    found = decisions_of(engine, engine.read(tokens_L, at_Q), item_Q, at_Q, mixture.change)
    expected = [
        score_all(engine.read(tokens_L, at_Q), trie, query, mixture.change)[item]
        for query, item in enumerate(item_Q.tolist())
    ]
    return found, mixture.change, np.array(expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("with_base", [True, False])
def test_log_probabilities_are_those_of_the_whole_catalogue(
    engine: TransformersEngine, seed: int, with_base: bool
) -> None:
    decisions, change, expected_E = _case(engine, seed, with_base)
    likely_E = expected_E > -500
    assert decisions.num_events == 8
    assert decisions.log_probs(change.pools)[likely_E] == pytest.approx(expected_E[likely_E], abs=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_decisions_of_a_part_are_those_of_its_events(engine: TransformersEngine, seed: int) -> None:
    decisions, change, _ = _case(engine, seed, with_base=False)
    log_prob_E = decisions.log_probs(change.pools)
    for is_new, pool in enumerate(change.pools):
        part = decisions.of_part(bool(is_new))
        at_E = decisions.is_new_E == bool(is_new)
        assert part.num_events == at_E.sum()
        assert (part.is_new_E == bool(is_new)).all()
        assert part.log_probs(change.pools) == pytest.approx(log_prob_E[at_E])
        if part.num_events:
            nll, _, _ = likelihood(ChoiceSets.of(part), np.array([1 / pool.temperature, pool.weight]))
            assert nll == pytest.approx(-(log_prob_E[at_E] - decisions.log_share_E[at_E]).mean(), abs=1e-4)


def test_parts_that_are_joined_again_are_the_whole(engine: TransformersEngine) -> None:
    decisions, change, _ = _case(engine, 1, with_base=False)
    joined = Decisions.join([decisions.of_part(False), decisions.of_part(True)])
    assert sorted(joined.log_probs(change.pools)) == pytest.approx(sorted(decisions.log_probs(change.pools)))
    assert len(joined.taken_D) == len(decisions.taken_D)


def test_edges_without_mass_are_left_out(engine: TransformersEngine) -> None:
    """Of items chosen before, those alone make up the choice at each node."""
    decisions, change, _ = _case(engine, 2, with_base=False)
    assert (decisions.log_mass_J > np.log(np.finfo(np.float64).tiny) + 1).all()
    num_edges = np.diff(decisions.ptr_D1)
    assert (num_edges >= 1).all()
    for taken, (begin, end) in zip(decisions.taken_D.tolist(), pairwise(decisions.ptr_D1.tolist()), strict=True):
        assert begin <= taken < end
    assert change.again.prior is not None
    most = max(len(item_M) for item_M in [np.flatnonzero(row_I) for row_I in change.again.prior.of_items()])
    known_D = ~decisions.is_new_E[decisions.owner_D]
    assert num_edges[known_D].max(initial=0) <= most
