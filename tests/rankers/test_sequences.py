"""Sequential models on planted sequences, and that they neither look ahead nor learn from what is to be predicted."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from whereupon.errors import ModelError
from whereupon.eval.metrics import summarise
from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank, rank_dense
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.candidates import EvaluatedSplit, Repeats
from whereupon.histories.questions import num_previous
from whereupon.rankers import families as baselines
from whereupon.rankers.families import Family, UnfitDataError
from whereupon.rankers.protocol import Dense
from whereupon.rankers.sequences import SequenceSettings, Transitions, Watched
from whereupon.rankers.sequences_networks import Reader, SASRec, SequenceRanker, Trained, train

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
HOUR, DAY = 3600, 86_400

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {"hidden": 16, "layers": 1, "dropout": 0.0, "learning_rate": 0.02, "length": 8, "batch_size": 8}
NETWORKS: list[dict[str, Any]] = [
    {"network": "SASRec"},
    {"network": "SASRec", "timed": True},
    {"network": "GRU4Rec"},
    {"network": "LSTM"},
    {"network": "LSTM", "timed": True},
]


def _settings(**changes: Any) -> SequenceSettings:
    return SequenceSettings(**{**SMALL, "max_epochs": 30, **changes})


def _split_of(at: int, length: int) -> str:
    return "train" if at < length - 4 else "valid" if at < length - 2 else "test"


def _town_of(build: Build, sequences: Sequence[Sequence[int]], num_items: int, step_s: int = HOUR) -> Histories:
    """One user a sequence; the last two events are test, the two before them valid."""
    rows = [
        (user, item, at * step_s, _split_of(at, len(sequence)))
        for user, sequence in enumerate(sequences)
        for at, item in enumerate(sequence)
    ]
    return build(rows, num_items)


def _share_at_top(histories: Histories, settings: SequenceSettings, split: EvaluatedSplit = "test") -> float:
    task = read_task(histories, split, EvaluateSettings())
    return float((rank(SequenceRanker(_trained(histories, settings).reader), task, 10).rank_E == 1).mean())


def _trained(histories: Histories, settings: SequenceSettings, seed: int = 0, repeats: Repeats = "allowed") -> Trained:
    return train(histories, settings, seed, Watched.of(histories, repeats))


@pytest.fixture(name="random_town")
def _random_town(build: Build) -> Histories:
    generator = np.random.default_rng(5)
    return _town_of(build, [generator.integers(0, 7, generator.integers(6, 15)).tolist() for _ in range(12)], 7)


@pytest.mark.parametrize("network", NETWORKS)
def test_who_goes_from_a_to_b_to_c_is_sent_there(build: Build, network: dict[str, Any]) -> None:
    ring = [[(start + at) % 5 for at in range(12)] for start in range(5) for _ in range(4)]
    assert _share_at_top(_town_of(build, ring, 9), _settings(**network)) == 1.0


@pytest.mark.parametrize("network", NETWORKS)
def test_what_follows_b_is_known_from_what_stood_before_it(build: Build, network: dict[str, Any]) -> None:
    """Some people go from A to B to C, others from D to B to E: knowing only the last event, half of what follows B
    would be missed. Histories begin and end anywhere, or where an event stands in its window would show what it is."""
    generator = np.random.default_rng(1)
    cuts = [(generator.integers(0, 6), generator.integers(16, 25)) for _ in range(40)]
    rows = [([0, 1, 2] if user % 2 else [3, 1, 4]) * 8 for user in range(40)]
    histories = _town_of(build, [row[begin:end] for row, (begin, end) in zip(rows, cuts, strict=True)], 5)
    ranker = SequenceRanker(_trained(histories, _settings(**network, learning_rate=0.005)).reader)
    rankings = rank(ranker, read_task(histories, "test", EvaluateSettings()), 5)
    after_b_E = histories.item_idx_N[rankings.row_E - 1] == 1
    assert after_b_E.sum() > 20
    assert (rankings.rank_E[after_b_E] == 1).all()


@pytest.mark.parametrize("network", ["SASRec", "GRU4Rec", "LSTM"])
def test_only_who_is_reported_the_time_knows_what_is_done_at_noon(build: Build, network: str) -> None:
    """Item 0 at midnight and item 1 at noon, but which of the two comes next is random."""
    generator = np.random.default_rng(2)
    rows: list[Row] = []
    for user in range(30):
        noon_E = generator.random(14) < 0.5
        time_E = np.arange(14) * 3 * DAY + noon_E * 12 * HOUR
        rows += [
            (user, int(n), int(t), _split_of(at, 14)) for at, (n, t) in enumerate(zip(noon_E, time_E, strict=True))
        ]
    histories = build(rows, 3)
    assert _share_at_top(histories, _settings(network=network, timed=True)) > 0.95
    # Weekday and gap are not known to it either; what is left is a coin.
    assert _share_at_top(histories, _settings(network=network)) < 0.7


@pytest.mark.parametrize("network", NETWORKS)
def test_known_item_is_ranked_first_where_people_repeat_themselves(build: Build, network: dict[str, Any]) -> None:
    histories = _town_of(build, [[user % 4] * 10 for user in range(16)], 8)
    assert _share_at_top(histories, _settings(**network)) == 1.0


@pytest.mark.parametrize("network", NETWORKS)
def test_same_seed_gives_the_same_weights_and_another_one_others(
    random_town: Histories, network: dict[str, Any]
) -> None:
    settings = _settings(**network, dropout=0.2, max_epochs=2, length=4)
    row_Q = np.flatnonzero(num_previous(random_town) > 0)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    one, same, other = (_trained(random_town, settings, seed).reader.log_probs(row_Q) for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()
    assert torch.equal(torch.get_rng_state(), state)  # no other code's randomness is disturbed


@pytest.mark.parametrize("network", NETWORKS)
def test_scores_do_not_change_with_what_comes_later(random_town: Histories, network: dict[str, Any]) -> None:
    reader = _trained(random_town, _settings(**network, max_epochs=2)).reader
    row_Q = np.flatnonzero(num_previous(random_town) > 0)
    before = reader.log_probs(row_Q)
    for row in row_Q[::5].tolist():
        item_E = random_town.item_idx_N.copy()
        item_E[row:] = (item_E[row:] + 3) % 7  # this event's own item too, which is predicted
        changed = dataclasses.replace(reader, histories=dataclasses.replace(random_town, item_idx_N=item_E))
        np.testing.assert_allclose(changed.log_probs(row_Q)[row_Q <= row], before[row_Q <= row], atol=1e-5)
        after = (row_Q > row) & (random_town.user_idx_N[row_Q] == random_town.user_idx_N[row])
        if after.any():
            assert np.abs(changed.log_probs(row_Q) - before)[after].max() > 1e-3  # and it does read what was before


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_to_be_predicted_is_not_learnt_from(random_town: Histories, network: dict[str, Any]) -> None:
    settings = _settings(**network, max_epochs=3)
    item_E = np.where(random_town.split_N == 2, (random_town.item_idx_N + 1) % 7, random_town.item_idx_N)
    other = dataclasses.replace(random_town, item_idx_N=item_E.astype(np.int32))
    one, two = (_trained(histories, settings).reader.network.state_dict() for histories in (random_town, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (item_E != random_town.item_idx_N).any()


@pytest.mark.parametrize("network", NETWORKS)
def test_loss_of_all_steps_at_once_equals_asking_for_one_after_the_other(
    random_town: Histories, network: dict[str, Any]
) -> None:
    """Windows as long as the longest history are not cut, so that training sees what ranking sees, but for places."""
    reader = _trained(random_town, _settings(**network, max_epochs=1, length=20)).reader
    reader.network.eval()
    if isinstance(reader.network, SASRec):
        torch.nn.init.zeros_(reader.network.positions.weight)
    windows = Transitions.of(random_town).windows(20, np.random.default_rng(0))
    row_Q = np.sort(windows.next_WL[windows.real_WL])
    one_by_one = [
        -reader.log_probs(np.array([row]))[0, random_town.item_idx_N[row]] for row in row_Q.tolist()
    ]  # fmt: skip
    assert reader.loss(windows).item() == pytest.approx(np.mean(one_by_one), rel=1e-5)
    together = reader.log_probs(row_Q)[np.arange(len(row_Q)), random_town.item_idx_N[row_Q]]
    np.testing.assert_allclose(-together, one_by_one, rtol=1e-4)


def test_places_are_counted_from_the_last_event_of_each_window(random_town: Histories) -> None:
    """Swapping two places changes what follows a window that reaches back to both, and nothing else."""
    reader = _trained(random_town, _settings(max_epochs=2)).reader
    assert isinstance(reader.network, SASRec)
    row_Q = np.flatnonzero(num_previous(random_town) > 0)
    before = reader.log_probs(row_Q)
    with torch.no_grad():
        reader.network.positions.weight[[0, 3]] = reader.network.positions.weight[[3, 0]]
    moved_Q = np.abs(reader.log_probs(row_Q) - before).max(axis=1) > 1e-6
    assert moved_Q.all()  # place 0 is in every window
    with torch.no_grad():
        reader.network.positions.weight[[0, 3]] = reader.network.positions.weight[[3, 0]]
        reader.network.positions.weight[3] += torch.linspace(-1, 1, 16)
    moved_Q = np.abs(reader.log_probs(row_Q) - before).max(axis=1) > 1e-6
    assert (moved_Q == (num_previous(random_town)[row_Q] >= 4)).all()


def test_rankings_are_probabilities_over_the_catalogue(random_town: Histories) -> None:
    ranker = SequenceRanker(_trained(random_town, _settings(max_epochs=3)).reader)
    rankings = rank(ranker, read_task(random_town, "test", EvaluateSettings()), 7)
    np.testing.assert_allclose(np.exp(rankings.score_EK).sum(axis=1), 1, rtol=1e-5)  # all seven items are listed
    true_EK = rankings.item_EK == random_town.item_idx_N[rankings.row_E][:, None]
    assert rankings.log_prob_E is not None
    np.testing.assert_allclose(rankings.score_EK[true_EK], rankings.log_prob_E, rtol=1e-6)
    assert (np.nonzero(true_EK)[1] + 1 == rankings.rank_E).all()


def test_epoch_that_is_kept_is_the_best_on_validation(random_town: Histories) -> None:
    task = read_task(random_town, "valid", EvaluateSettings())
    trained = _trained(random_town, _settings(patience=3))
    best = max(trained.ndcg_by_epoch)
    assert trained.ndcg_by_epoch.index(best) + 1 == trained.epoch
    assert len(trained.ndcg_by_epoch) == min(trained.epoch + 3, 30)
    assert summarise(rank(SequenceRanker(trained.reader), task, 10).rank_E)["nDCG@10"] == pytest.approx(best)


def test_training_loss_falls(random_town: Histories) -> None:
    losses = train(random_town, _settings(epochs_unwatched=10), 0, None).loss_by_epoch
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("repeats", ["allowed", "excluded"])
def test_training_is_stopped_by_the_very_metric_of_the_evaluation(random_town: Histories, repeats: Repeats) -> None:
    task, watched = read_task(random_town, "valid", EvaluateSettings(repeats=repeats)), Watched.of(random_town, repeats)
    assert watched is not None
    assert watched.row_E.tolist() == task.row_E.tolist()
    score_NI = np.random.default_rng(0).integers(0, 3, (len(random_town.item_idx_N), 7)).astype(float)  # ties galore
    found = rank_dense(task, Dense(lambda row_Q: score_NI[row_Q]), 7)
    assert watched.ndcg_at_10(lambda row_Q: score_NI[row_Q]) == pytest.approx(summarise(found.rank_E)["nDCG@10"])


def test_excluded_repeats_are_not_listed(random_town: Histories) -> None:
    ranker = SequenceRanker(_trained(random_town, _settings(max_epochs=2), repeats="excluded").reader)
    new = read_task(random_town, "test", EvaluateSettings(repeats="excluded"))
    past = [set(random_town.item_idx_N[random_town.offset_U1[random_town.user_idx_N[r]] : r]) for r in new.row_E]
    listed = [set(items[items >= 0].tolist()) for items in rank(ranker, new, 7).item_EK]
    assert not any(known & items for known, items in zip(past, listed, strict=True))


def test_without_validation_events_training_lasts_as_long_as_said(build: Build) -> None:
    histories = build([(0, at % 3, at, "train" if at < 8 else "test") for at in range(10)], 3)
    trained = _trained(histories, _settings(epochs_unwatched=4))
    assert (trained.epoch, len(trained.loss_by_epoch), trained.ndcg_by_epoch) == (4, 4, [])


def test_item_that_was_never_trained_on_is_read_as_nothing(build: Build) -> None:
    rows = [(user, at % 3, at, "train") for user in range(4) for at in range(6)]
    histories = build([*rows, (0, 3, 9, "test"), (0, 1, 10, "test"), (1, 4, 9, "test"), (1, 1, 10, "test")], 5)
    reader: Reader = train(histories, _settings(epochs_unwatched=2), 0, None).reader
    after_3, after_4 = reader.log_probs(np.flatnonzero(histories.time_s_N == 10))
    assert (after_3 == after_4).all()


def test_training_that_diverges_is_one_clear_sentence(random_town: Histories) -> None:
    with pytest.raises(ModelError, match=r"^The training loss of SASRec .* in epoch \d+; lower its learning_rate"):
        train(random_town, _settings(learning_rate=1e30, epochs_unwatched=5), 0, None)


@pytest.mark.parametrize("family", baselines.SEQUENTIAL, ids=lambda family: family.name)
def test_family_is_listed_and_its_settings_are_distinct_json(family: Family) -> None:
    assert baselines.FAMILIES[family.name] is family
    grid = [SequenceSettings(**json.loads(json.dumps(one))) for one in family.grid()]
    assert len(set(grid)) == len(grid) >= 4
    assert all(one.hidden % one.heads == 0 for one in grid)
    assert {one.network + " + time" * one.timed for one in grid} == {family.name}


def test_family_without_torch_is_left_out(random_town: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UnfitDataError,
        match=r".SASRec. needs the package torch, which is not installed; pip install .whereupon\[train\]",
    ):
        baselines.FAMILIES["SASRec"].ranker(random_town, "test", {}, seed=0)


def test_data_without_two_training_events_of_anybody_is_unfit(build: Build) -> None:
    histories = build([(0, 0, 1, "train"), (1, 1, 2, "train"), (1, 0, 3, "test")], 2)
    with pytest.raises(UnfitDataError, match="users with two training events but found none"):
        baselines.FAMILIES["GRU4Rec"].ranker(histories, "test", {}, seed=0)
