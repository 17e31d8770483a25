"""LightGCN on planted communities, that it reads no more than the past, and what its graph is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from whereupon.eval.protocol import Task, read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.rankers.families import FAMILIES, UnfitDataError
from whereupon.rankers.light_gcn import Graph, GraphRanker, GraphSettings, GraphVectors, graph_users
from whereupon.rankers.light_gcn_training import not_chosen, train
from whereupon.rankers.protocol import Dense, Ranker
from whereupon.rankers.settings import BaselineName
from whereupon.rankers.user_history import FadedHistory

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
DAY = 86_400
NAMES: list[BaselineName] = ["LightGCN", "LightGCN + time"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(name="communities")
def _communities(build: Build) -> Histories:
    """Thirty people of two communities; each chooses eight of the twelve even, or of the twelve odd, items."""
    random, rows = np.random.default_rng(3), list[Row]()
    for user in range(30):
        chosen = (user % 2 + 2 * random.permutation(12)[:8]).tolist()
        parts = ["train"] * 6 + ["valid", "test"]
        rows += [(user, item, at * DAY, part) for at, (item, part) in enumerate(zip(chosen, parts, strict=True))]
    return build(rows, 24)


def _ranker(name: BaselineName, histories: Histories, seed: int = 0, **changes: Any) -> Ranker:
    return FAMILIES[name].ranker(histories, "test", {**FAMILIES[name].grid()[0], **changes}, seed)


def _share_own(ranker: Ranker, task: Task) -> float:
    community_E1 = task.histories.user_idx_N[task.row_E][:, None] % 2
    return float((rank(ranker, task, 10).item_EK % 2 == community_E1).mean())


def _scores(ranker: Ranker, histories: Histories, row_Q: np.ndarray) -> Any:
    answers = ranker.on(histories, "test")
    assert isinstance(answers, Dense)
    return answers.scores(row_Q)


def test_log_without_a_user_of_the_training_is_ranked_by_items_alone(communities: Histories) -> None:
    random = np.random.default_rng(0)
    items = random.normal(size=(2, 24, 8))
    row_Q = np.flatnonzero(communities.split_N == 2)
    found = _scores(GraphRanker(GraphVectors(*items, np.zeros((0, 8), np.float32)), [], None, 0.0), communities, row_Q)
    strange = GraphRanker(GraphVectors(*items, np.ones((1, 8), np.float32)), ["somebody else"], None, 0.0)
    assert np.array_equal(found, _scores(strange, communities, row_Q))
    assert np.ptp(found) > 0


@pytest.mark.parametrize("name", NAMES)
def test_two_communities_are_distinguished_and_random_vectors_not(communities: Histories, name: BaselineName) -> None:
    task = read_task(communities, "test", EvaluateSettings())
    assert _share_own(_ranker(name, communities), task) == 1.0
    random, user_ids = np.random.default_rng(0), graph_users(communities)
    vectors = GraphVectors(*random.normal(size=(2, 24, 64)), random.normal(size=(len(user_ids), 64)))
    assert _share_own(GraphRanker(vectors, user_ids, None, 0.0), task) < 0.7


def test_same_seed_gives_the_same_vectors_and_another_one_others(communities: Histories) -> None:
    settings = GraphSettings(epochs_unwatched=2)
    one, same, other = (train(communities, settings, seed, None) for seed in (3, 3, 4))
    assert (one.vector_ID == same.vector_ID).all()
    assert (one.read_ID == same.read_ID).all()
    assert (one.vector_ID != other.vector_ID).any()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_to_be_predicted_is_not_learnt_from(communities: Histories, name: BaselineName) -> None:
    item_N = np.where(communities.split_N == 2, (communities.item_idx_N + 1) % 24, communities.item_idx_N)
    other = replace(communities, item_idx_N=item_N.astype(np.int32))
    row_Q = np.flatnonzero(communities.split_N == 2)
    one, two = (_scores(_ranker(name, some, max_epochs=2), some, row_Q) for some in (communities, other))
    assert (one == two).all()


def test_items_that_are_drawn_beside_a_chosen_one_are_not_chosen_ones(build: Build) -> None:
    rows = [(0, item, item, "train") for item in range(5)] + [(1, 6, 0, "train"), (2, 6, 1, "train")]
    graph = Graph.of(build(rows, 7), None)
    user_B = np.repeat(np.arange(3), 200)
    item_B = not_chosen(graph, user_B, np.random.default_rng(0))
    assert set(item_B[user_B == 0].tolist()) == {5, 6}
    assert set(item_B[user_B == 1].tolist()) == set(range(6))
    every = Graph.of(build([(0, item, item, "train") for item in range(3)], 3), None)
    assert len(not_chosen(every, np.zeros(9, np.int64), np.random.default_rng(0))) == 9, "a user may have chosen all"


def test_edge_halves_with_the_age_of_its_last_event(build: Build) -> None:
    rows = [(0, 0, 0, "train"), (0, 1, 0, "train"), (0, 1, 10 * DAY, "train"), (1, 2, 20 * DAY, "train")]
    histories = build([*rows, (1, 0, 30 * DAY, "test")], 3)
    graph = Graph.of(histories, 10.0)
    assert (graph.user_P.tolist(), graph.item_P.tolist()) == ([0, 0, 1], [0, 1, 2])
    assert graph.weight_P.tolist() == pytest.approx([0.25, 0.5, 1.0])
    assert Graph.of(histories, None).weight_P.tolist() == [1.0, 1.0, 1.0]
    assert graph.normed_P.tolist() == pytest.approx([0.25 / (0.75 * 0.25) ** 0.5, 0.5 / (0.75 * 0.5) ** 0.5, 1.0])


def test_vector_of_a_user_is_one_step_from_the_items_of_the_past(build: Build) -> None:
    """With one layer and every degree 1, a user reads half of the item's own vector."""
    histories = build([(user, user, 0, "train") for user in range(3)] + [(0, 1, 5, "test")], 3)
    vectors = train(histories, GraphSettings(layers=1, epochs_unwatched=1), 0, None)
    past_QI = np.array([[1.0, 1.0, 0.0]])
    user_D = vectors.read_ID[:2].sum(axis=0) / 2**0.5
    assert vectors.scores_of(past_QI)[0].tolist() == pytest.approx((vectors.vector_ID @ user_D).tolist(), rel=1e-4)


def test_own_vector_is_that_of_the_user_whoever_else_is_there(communities: Histories) -> None:
    ranker = _ranker("LightGCN", communities, max_epochs=2)
    row_Q = np.flatnonzero(communities.split_N == 2)
    two = [communities.user_ids[communities.user_idx_N[row]] for row in row_Q[:2]]
    swapped = {two[0]: two[1], two[1]: two[0]}
    renamed = replace(communities, user_ids=[swapped.get(user_id, user_id) for user_id in communities.user_ids])
    strange = replace(communities, user_ids=[f"new {user_id}" for user_id in communities.user_ids])
    as_is, other, unknown = (_scores(ranker, some, row_Q) for some in (communities, renamed, strange))
    assert (other[2:] == as_is[2:]).all()
    assert other[0] + other[1] == pytest.approx(as_is[0] + as_is[1], abs=1e-5), "each has the vector of the other"
    assert (other[0] != as_is[0]).any()
    assert isinstance(ranker, GraphRanker)
    by_items = FadedHistory(ranker.vectors, ranker.half_life_events, ranker.self_weight).on(communities, "test")
    assert (unknown == by_items.scores(row_Q)).all(), "users to come are ranked for by their items"


@pytest.mark.parametrize("name", NAMES)
def test_new_user_without_a_past_gets_equal_scores(communities: Histories, name: BaselineName) -> None:
    ranker = _ranker(name, communities, max_epochs=1)
    strange = replace(communities, user_ids=[f"new {user_id}" for user_id in communities.user_ids])
    assert np.ptp(_scores(ranker, strange, communities.offset_U1[:1])) == 0
    assert np.ptp(_scores(ranker, communities, communities.offset_U1[:1])) > 0


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_of_one_item_is_always_right(build: Build, name: BaselineName) -> None:
    histories = build([(0, 0, 1, "train"), (0, 0, 2, "test"), (1, 0, 2, "train"), (1, 0, 3, "test")], 1)
    task = read_task(histories, "test", EvaluateSettings())
    assert rank(_ranker(name, histories, epochs_unwatched=1), task, 2).rank_E.tolist() == [1, 1]


def test_data_without_a_training_event_is_unfit(build: Build) -> None:
    histories = build([(0, 0, 1, "valid"), (0, 1, 2, "valid"), (0, 1, 3, "test")], 2)
    with pytest.raises(UnfitDataError, match="training events but found none"):
        _ranker("LightGCN", histories)
