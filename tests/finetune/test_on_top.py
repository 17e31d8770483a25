"""The prior of training events, and the loss on top of it, against direct computation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from whereupon.catalogue import Trie, build_trie
from whereupon.decode.output_layer import OutputLayer
from whereupon.finetune import on_top
from whereupon.finetune.branches import States, nats_of
from whereupon.finetune.model import CatalogueModel, add_lora, mean_nats
from whereupon.finetune.on_top import TrainingPrior, training_prior
from whereupon.finetune.settings import FinetuneSettings
from whereupon.finetune.training_examples import collate, example_of
from whereupon.histories import Histories
from whereupon.prompts import EncodedWindow
from whereupon.rankers.crossfit import cross_fitted
from whereupon.rankers.families import FAMILIES
from whereupon.rankers.stack import Member, Stack, StackRecipe, fit_stack
from whereupon.tests.decode.tables import make_trie, naive_masses

Build = Callable[..., Histories]
Floats = np.ndarray[Any, np.dtype[np.float64]]
NUM_ITEMS, DAY, SEED = 9, 86_400, 5


def _recipe(gated: bool) -> StackRecipe:
    one, other = (Member(FAMILIES[name].grid()[0], 0.7) for name in ("own counts", "popularity"))
    if not gated:
        return StackRecipe({}, {"own counts": one, "popularity": other}, {})
    return StackRecipe({"own counts": one}, {"popularity": other}, {"own counts": one})


@pytest.fixture(name="histories")
def _histories(build: Build) -> Histories:
    random, rows = np.random.default_rng(2), []
    for user in range(7):
        items = random.integers(0, NUM_ITEMS, 14).tolist()
        rows += [(user, item, day * DAY + user, "train" if day < 11 else "valid") for day, item in enumerate(items)]
    return build(rows, NUM_ITEMS)


class Fits:
    """Fits a stack, and counts how often."""

    def __init__(self, gated: bool = True) -> None:
        self.num, self.gated = 0, gated

    def __call__(self, histories: Histories) -> Stack:
        self.num += 1
        return fit_stack(_recipe(self.gated), histories, "valid", SEED)


def _direct(histories: Histories, fit: Fits) -> dict[int, Floats]:
    """Float64 [I] for each training event: masses of the part that its item is of, from the stack itself."""
    found: dict[int, Floats] = {}
    row_N = np.flatnonzero(histories.split_N == 0).astype(np.int64)
    for rows, bound in cross_fitted(histories, fit, row_N, SEED):
        for row in rows.tolist():
            masses, item = bound.masses(np.array([row])), histories.item_idx_N[row]
            again_I, new_I = np.zeros(NUM_ITEMS), np.zeros(NUM_ITEMS)
            again_I[masses.again_item_X], new_I[masses.new_item_X] = masses.again_mass_X, masses.new_mass_X
            found[row] = again_I if again_I[item] else new_I
    return found


def _edges_of(prior: TrainingPrior, decision: int) -> slice:
    return slice(int(prior.begin_D[decision]), int(prior.begin_D[decision] + prior.count_D[decision]))


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("rows_at_once", [4, 256])
def test_masses_at_decisions_are_those_of_the_stack(
    histories: Histories, tmp_path: Path, gated: bool, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_top, "_ROWS", rows_at_once)
    trie = make_trie(2, NUM_ITEMS)
    prior = training_prior(tmp_path / "prior", "key", histories, trie, Fits(gated), SEED)
    num_fewer = 0
    for row, mass_I in _direct(histories, Fits(gated)).items():
        item = int(histories.item_idx_N[row])
        found = list(range(*prior.first_N1[row : row + 2].tolist()))
        for _, node, edge in zip(*(part.tolist() for part in trie.decisions(np.array([item]))), strict=True):
            below = naive_masses(trie, node, mass_I)
            held = np.flatnonzero(below)
            if len(held) < 2:  # nothing is left to decide
                num_fewer += 1
                continue
            decision = found.pop(0)
            own, first = _edges_of(prior, decision), int(trie.child_ptr_B1[node])
            assert prior.depth_D[decision] == trie.depth_B[node]
            assert prior.edge_J[own].tolist() == (first + held).tolist()
            assert np.diff(np.exp(prior.log_mass_J[own]) / below[held]) == pytest.approx(0, abs=1e-4)
            assert prior.edge_J[own][prior.taken_D[decision]] == edge
        assert not found
    assert num_fewer or not gated
    assert prior.first_N1[-1] == len(prior.depth_D)
    assert (np.diff(prior.first_N1)[histories.split_N != 0] == 0).all()


def test_prior_that_is_there_is_read_and_any_other_made_anew(histories: Histories, tmp_path: Path) -> None:
    trie, fits, folder = make_trie(2, NUM_ITEMS), Fits(), tmp_path / "prior"
    made = training_prior(folder, "key", histories, trie, fits, SEED)
    assert fits.num == 5
    read = training_prior(folder, "key", histories, trie, fits, SEED)
    assert fits.num == 5
    for name in made.__dataclass_fields__:
        assert np.array_equal(getattr(read, name), getattr(made, name))
    training_prior(folder, "another", histories, trie, fits, SEED)
    assert fits.num == 10


def test_prior_of_another_trie_is_made_anew(histories: Histories, tmp_path: Path) -> None:
    """Such as that of another tokenizer, for the same data."""
    fits, folder = Fits(), tmp_path / "prior"
    for trie in (make_trie(2, NUM_ITEMS), make_trie(3, NUM_ITEMS)):
        prior = training_prior(folder, "key", histories, trie, fits, SEED)
        assert prior.edge_J.max() < len(trie.child_token_C)
    assert fits.num == 10


@pytest.mark.parametrize("lost", ["prior.json", "decisions.safetensors", "edge_J.bin"])
def test_prior_of_a_killed_run_is_made_anew(histories: Histories, tmp_path: Path, lost: str) -> None:
    trie, fits, folder = make_trie(2, NUM_ITEMS), Fits(), tmp_path / "prior"
    made = training_prior(folder, "key", histories, trie, fits, SEED)
    log_mass_J = made.log_mass_J.copy()
    (folder / lost).unlink()
    (folder / "log_mass_J.bin").write_bytes(b"half of")
    again = training_prior(folder, "key", histories, trie, fits, SEED)
    assert fits.num == 10
    assert again.log_mass_J.tolist() == log_mass_J.tolist()


def test_catalogue_of_one_item_leaves_nothing_to_decide(build: Build, tmp_path: Path) -> None:
    histories = build([(0, 0, day, "train") for day in range(3)], 1)
    prior = training_prior(tmp_path / "prior", "key", histories, build_trie([[3, 1]]), Fits(), SEED)
    assert (len(prior.depth_D), len(prior.edge_J), prior.first_N1.tolist()) == (0, 0, [0, 0, 0, 0])


def _window(histories: Histories, trie: Trie, user: int) -> tuple[EncodedWindow, np.ndarray[Any, Any]]:
    """Tokens of a user's training events with a token of context before each, and their rows."""
    row_V = np.flatnonzero((histories.user_idx_N == user) & (histories.split_N == 0))
    tokens, starts = [7], []
    for row in row_V.tolist():
        tokens.append(8 + row % 3)
        starts.append(len(tokens))
        tokens += trie.title_tokens(int(histories.item_idx_N[row])).tolist()
    return EncodedWindow(np.array(tokens, np.int32), np.array(starts)), row_V


def _model(temperature: float) -> CatalogueModel:
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                         num_attention_heads=2, initializer_range=0.3)  # fmt: skip
    adapted = add_lora(LlamaForCausalLM(config), FinetuneSettings(rank=2))
    return CatalogueModel(adapted, temperature)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_loss_on_top_is_the_naive_log_softmax(histories: Histories, tmp_path: Path, temperature: float) -> None:
    """Logits over temperature plus log masses, over the edges that the stack gives a mass, for two windows at once."""
    trie = make_trie(2, NUM_ITEMS)
    prior, model = training_prior(tmp_path / "prior", "key", histories, trie, Fits(), SEED), _model(temperature)
    direct, total, num, examples = _direct(histories, Fits()), 0.0, 0, []
    for user in (1, 4):
        window, row_V = _window(histories, trie, user)
        examples.append(example_of(window, histories.item_idx_N[row_V], trie, prior, row_V))
        with torch.no_grad():
            logits_LV = model.model(input_ids=torch.from_numpy(window.tokens_L[None].astype(np.int64))).logits[0]
        for row, start in zip(row_V.tolist(), window.title_start_V.tolist(), strict=True):
            num += 1
            item = np.array([histories.item_idx_N[row]])
            for _, node, edge in zip(*(part.tolist() for part in trie.decisions(item)), strict=True):
                own = slice(int(trie.child_ptr_B1[node]), int(trie.child_ptr_B1[node + 1]))
                below = naive_masses(trie, node, direct[row])
                logits = logits_LV[start - 1 + int(trie.depth_B[node])].double().numpy()[trie.child_token_C[own]]
                score = (logits / temperature + np.log(below.clip(min=1e-300)))[below > 0]
                taken = int((below[: edge - own.start] > 0).sum())
                total += np.logaddexp.reduce(score) - score[taken]
    loss = model(collate(examples, trie, prior=prior))
    assert loss.item() == pytest.approx(total / num, rel=1e-4)
    loss.backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_loss_of_a_model_without_an_opinion_is_that_of_the_stack(histories: Histories, tmp_path: Path) -> None:
    """At the nodes on an item's way, what the stack says telescopes to its share of the part."""
    trie, direct = make_trie(2, NUM_ITEMS), _direct(histories, Fits())
    prior = training_prior(tmp_path / "prior", "key", histories, trie, Fits(), SEED)
    window, row_V = _window(histories, trie, 2)
    batch = collate([example_of(window, histories.item_idx_N[row_V], trie, prior, row_V)], trie, prior=prior)
    assert batch.branches is not None
    states = States(torch.zeros(len(batch.position_P), 4), OutputLayer(torch.ones(11, 4)), 2.5)
    loss = mean_nats(nats_of(states, batch.branches), batch)
    expected = [-np.log(direct[row][histories.item_idx_N[row]] / direct[row].sum()) for row in row_V.tolist()]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_without_a_training_event_the_prior_is_empty(histories: Histories, tmp_path: Path, build: Build) -> None:
    nothing = build([(0, item, item, "valid") for item in range(3)], 3)
    prior = training_prior(tmp_path / "prior", "key", nothing, make_trie(0, 3), Fits(), SEED)
    assert (len(prior.depth_D), prior.first_N1.tolist()) == (0, [0, 0, 0, 0])
