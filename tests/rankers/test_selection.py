"""Which rankers join a stack: planted answers, and what must not be learnt from."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from whereupon.histories import Histories
from whereupon.histories.questions import evaluated_events
from whereupon.rankers.crossfit import cross_fitted, folds, held_out
from whereupon.rankers.families import FAMILIES
from whereupon.rankers.fitting import fit_weights, likelihood
from whereupon.rankers.gate import fit_gate
from whereupon.rankers.popular import popular_shares
from whereupon.rankers.protocol import Dense
from whereupon.rankers.selection import Pool, choice_sets, select, select_gate
from whereupon.rankers.settings import BaselineName
from whereupon.rankers.stack import BoundStack, Member, Stack, StackRecipe, fit_stack, past_items

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
Rows = NDArray[np.int64]
DAY, NUM_ITEMS = 86_400, 30


@pytest.fixture(name="noise")
def _noise(build: Build) -> Histories:
    """Forty people who choose at random, so that nothing can be learnt of one from the others."""
    random, rows = np.random.default_rng(1), []
    for user in range(40):
        for day, item in enumerate(random.choice(NUM_ITEMS, 13).tolist()):
            rows.append((user, item, day * DAY + user, "train" if day < 9 else "valid"))
    return build(rows, NUM_ITEMS)


def _dense(histories: Histories, strength: float, seed: int) -> Dense:
    """Noise for each row and item, and `strength` on top for the truth; as a distribution."""

    def scores(row_Q: Rows) -> NDArray[np.float64]:
        random = [np.random.default_rng([seed, row]).normal(0, 1, histories.items.height) for row in row_Q.tolist()]
        score_QI = np.stack(random) if random else np.zeros((0, histories.items.height))
        score_QI[np.arange(len(row_Q)), histories.item_idx_N[row_Q]] += strength
        found_QI: NDArray[np.float64] = score_QI - np.log(np.exp(score_QI).sum(axis=1, keepdims=True))
        return found_QI

    return Dense(scores, is_log_prob=True)


@pytest.mark.parametrize("pool", ["again", "new", "all"])
def test_ranker_that_knows_joins_first_and_noise_does_not(noise: Histories, pool: Pool) -> None:
    names: list[BaselineName] = ["popularity", "transitions", "nearest", "ItemKNN"]
    answers = {name: _dense(noise, 2.0 * (name == "nearest"), seed) for seed, name in enumerate(names)}
    found = select(pool, answers, noise, evaluated_events(noise, "valid"), 0)
    assert next(iter(found.weights)) == "nearest"
    assert set(found.weights) == {"nearest"}
    # Two Gaussians with a variance of 1 that are 2 apart: the log-odds are 2 times the score.
    assert found.weights["nearest"] == pytest.approx(2.0, abs=0.4)
    assert found.log_loss < found.uniform - 0.5
    assert min(found.alone, key=lambda name: found.alone[name]) == "nearest"


def test_two_rankers_that_know_different_things_both_join(noise: Histories) -> None:
    names: list[BaselineName] = ["popularity", "transitions", "nearest"]
    answers = {name: _dense(noise, 1.3 * (name != "popularity"), seed) for seed, name in enumerate(names)}
    found = select("all", answers, noise, evaluated_events(noise, "valid"), 0)
    assert set(found.weights) == {"transitions", "nearest"}
    assert [step.name for step in found.steps] == list(found.weights)
    assert found.steps[1].log_loss < found.steps[0].log_loss


def test_rankers_that_are_named_are_all_weighed(noise: Histories) -> None:
    names: list[BaselineName] = ["popularity", "nearest"]
    answers = {name: _dense(noise, 2.0 * (name == "nearest"), seed) for seed, name in enumerate(names)}
    found = select("all", answers, noise, evaluated_events(noise, "valid"), 0, all_of_them=True)
    assert found.steps == []
    assert found.weights["nearest"] > 5 * found.weights.get("popularity", 0.0)


def test_without_an_event_the_first_ranker_stands_alone(noise: Histories) -> None:
    answers: dict[BaselineName, Dense] = {"nearest": _dense(noise, 1.0, 0), "popularity": _dense(noise, 1.0, 1)}
    found = select("all", answers, noise, np.zeros(0, np.int64), 0)
    assert (found.weights, found.num_events) == ({"nearest": 1.0}, 0)


def test_choices_are_among_the_items_of_the_pool(noise: Histories) -> None:
    answers: dict[BaselineName, Dense] = {"nearest": _dense(noise, 1.0, 0)}
    row_E = evaluated_events(noise, "valid")
    num_events = 0
    for pool in ("again", "new", "all"):
        sets, row_D = choice_sets(pool, answers, noise, row_E, 0)
        num_events += len(row_D) * (pool != "all")
        for d, row in enumerate(row_D.tolist()):
            past = set(past_items(noise, np.array([row]))[1].tolist())
            held = sorted({"again": past, "new": set(range(NUM_ITEMS)) - past, "all": set(range(NUM_ITEMS))}[pool])
            said_I = answers["nearest"].scores(np.array([row]))[0]
            own = slice(*sets.ptr_D1[d : d + 2])
            assert sets.feature_KJ[0, own] == pytest.approx(said_I[held], rel=1e-5)
            assert held[sets.taken_D[d] - sets.ptr_D1[d]] == noise.item_idx_N[row]
    assert num_events == len(row_E)


def test_gate_learns_from_the_odds_of_a_ranker_that_knows(noise: Histories) -> None:
    """Its masses of new items are high where a new one comes; the history does not say whether that is so."""
    row_E, gate = evaluated_events(noise, "valid"), fit_gate(noise, "valid", 7)
    past_X = past_items(noise, np.arange(len(noise.split_N)))
    is_past_NI = np.zeros((len(noise.split_N), NUM_ITEMS), bool)
    is_past_NI[past_X] = True
    is_new_N = ~is_past_NI[np.arange(len(noise.split_N)), noise.item_idx_N]

    def scores(row_Q: Rows) -> NDArray[np.float64]:
        p_new_Q = np.where(is_new_N[row_Q], 0.8, 0.2)[:, None]
        is_past_QI = is_past_NI[row_Q]
        num_Q = is_past_QI.sum(axis=1, keepdims=True)
        found_QI: NDArray[np.float64] = np.log(
            np.where(is_past_QI, (1 - p_new_Q) / num_Q, p_new_Q / (NUM_ITEMS - num_Q))
        )
        return found_QI

    answers: dict[BaselineName, Dense] = {"popularity": _dense(noise, 0.0, 5), "nearest": Dense(scores, True)}
    found = select_gate(gate, answers, noise, row_E)
    assert "nearest" in found.weights
    assert "popularity" not in found.weights
    assert found.share_new == pytest.approx(is_new_N[row_E].mean())
    assert found.log_loss < 0.7 * min(found.alone["history"], found.alone["popularity"])


def test_what_is_held_out_is_of_no_split_that_is_fitted_on(noise: Histories) -> None:
    fold_U = folds(noise, 0)[0]
    others = held_out(noise, fold_U)
    hidden_N = fold_U[noise.user_idx_N] & (noise.split_N == 0)
    assert (others.split_N[hidden_N] == 3).all()
    assert (others.split_N[~hidden_N] == noise.split_N[~hidden_N]).all()
    assert ((others.events["split"] == "history").to_numpy() == (others.split_N == 3)).all()
    assert others.events.drop("split").equals(noise.events.drop("split"))
    count_I = np.bincount(noise.item_idx_N[~hidden_N & (noise.split_N == 0)], minlength=NUM_ITEMS) + 1
    assert popular_shares(others, "valid") == pytest.approx(count_I / count_I.sum())


def test_every_training_event_is_scored_once_where_its_user_was_not_seen(noise: Histories) -> None:
    seen: list[Histories] = []

    def fit(histories: Histories) -> Stack:
        seen.append(histories)
        return fit_stack(_recipe("popularity"), histories, "valid", 0)

    row_N = np.flatnonzero(noise.split_N == 0).astype(np.int64)
    asked = list(cross_fitted(noise, fit, row_N, seed=3))
    assert sorted(np.concatenate([rows for rows, _ in asked]).tolist()) == row_N.tolist()
    for (rows, bound), histories in zip(asked, seen, strict=True):
        assert bound.known is bound.histories is histories
        fitted_on = np.unique(histories.user_idx_N[histories.split_N == 0])
        assert not np.isin(noise.user_idx_N[rows], fitted_on).any()
        assert len(fitted_on) == 32


def _recipe(name: BaselineName, weight: float = 1.0) -> StackRecipe:
    return StackRecipe({}, {name: Member(_settings(name), weight)}, {})


def _settings(name: BaselineName) -> dict[str, object]:
    changes: dict[str, object] = {"penalty": 0.1} if name == "EASE" else {}
    return {**FAMILIES[name].grid()[0], **changes}


def _mass_of_truth(bound: BoundStack, rows: Rows) -> float:
    """Mean log-probability of the true items by the stack."""
    masses = bound.masses(rows)
    total_Q = np.bincount(masses.new_query_X, masses.new_mass_X)
    true_X = masses.new_item_X == bound.histories.item_idx_N[rows][masses.new_query_X]
    return float((np.log(masses.new_mass_X[true_X]) - np.log(total_Q)).mean())


def test_ranker_that_has_seen_the_answers_is_trusted_by_who_learns_from_them(noise: Histories) -> None:
    """EASE without a penalty to speak of knows the training events of its own users by heart, and nothing else."""
    row_N = np.flatnonzero((noise.split_N == 0) & (np.arange(len(noise.split_N)) > noise.offset_U1[noise.user_idx_N]))
    recipe = _recipe("EASE", 10.0)
    seen = fit_stack(recipe, noise, "valid", 0).on(noise)
    asked = list(cross_fitted(noise, lambda one: fit_stack(recipe, one, "valid", 0), row_N, seed=0))
    crossed = np.average(
        [_mass_of_truth(bound, rows) for rows, bound in asked], weights=[len(rows) for rows, _ in asked]
    )
    assert _mass_of_truth(seen, row_N) > crossed + 1.0

    def weighed(histories: Histories, answers: BoundStack, rows: Rows) -> tuple[float, Callable[[float], float]]:
        by_name: dict[BaselineName, Dense] = {"EASE": _only(answers)}
        sets, _ = choice_sets("all", by_name, histories, rows, 0)
        theta, _ = fit_weights(sets, np.ones(1), np.zeros(1), np.full(1, np.inf))
        return float(theta[0]), lambda weight: likelihood(sets, np.array([weight]))[0]

    trusted, _ = weighed(noise, seen, row_N)
    fair = float(np.mean([weighed(bound.histories, bound, rows)[0] for rows, bound in asked]))
    deserved, loss_of = weighed(noise, seen, evaluated_events(noise, "valid"))
    assert trusted > 3 * max(fair, deserved)
    assert loss_of(fair) < loss_of(trusted) - 0.05


def _only(bound: BoundStack) -> Dense:
    (answers,) = bound.answers.values()
    assert isinstance(answers, Dense)
    return answers
