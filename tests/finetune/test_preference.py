"""Stages after a training: known values, exact scores of all candidates in one pass, and losses that go down."""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from whereupon.config import Config
from whereupon.decode.adapter_card import read_card
from whereupon.decode.models import build_encoder, load_adapted, load_base_model, load_tokenizer
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.errors import ConfigError
from whereupon.finetune.preference import candidate_log_probs, drawn_orders, policy_gradient, softmax_dpo
from whereupon.finetune.preference_examples import PreferenceExample, collate_preferences, make_preferences
from whereupon.finetune.train import finetune
from whereupon.finetune.validation import Validator
from whereupon.histories import read_histories
from whereupon.tests.decode.families import FAMILIES, Family
from whereupon.tests.decode.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

Town = Callable[..., Config]
SMALL = ("finetune.rank=4", "finetune.validation_events=8", "finetune.batch_tokens=400",
         "finetune.validations_per_epoch=1")  # fmt: skip
DPO = (*SMALL, "finetune.objective=softmax_dpo", "finetune.preference={events: 40, negatives: 3}")


def _papers(log_prob: list[float], reference: list[float], beta: float) -> float:
    """The loss of arXiv 2406.09215, the true item first."""
    true, *others = (one - before for one, before in zip(log_prob, reference, strict=True))
    inner = -math.log(sum(math.exp(beta * (other - true)) for other in others))
    return -math.log(1 / (1 + math.exp(-inner)))


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_loss_is_the_papers(beta: float) -> None:
    log_prob, reference = [-1.0, -0.5, -3.0, -2.0], [-1.5, -0.7, -2.0, -2.0]
    found = softmax_dpo(torch.tensor([log_prob]), torch.tensor([reference]), beta)
    assert found.item() == pytest.approx(_papers(log_prob, reference, beta), rel=1e-6)


def test_loss_with_one_negative_is_that_of_dpo() -> None:
    found = softmax_dpo(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.2, -1.5]]), 0.5)
    assert found.item() == pytest.approx(-math.log(1 / (1 + math.exp(-0.5 * (0.2 + 0.5)))), rel=1e-6)


def test_slope_raises_the_true_item_and_lowers_each_other_one_by_its_share() -> None:
    log_prob_EG = torch.tensor([[-1.0, -0.5, -3.0]], requires_grad=True)
    softmax_dpo(log_prob_EG, torch.tensor([[-1.0, -1.0, -3.0]]), 2.0).sum().backward()  # type: ignore[no-untyped-call]
    assert log_prob_EG.grad is not None
    true, risen, same = log_prob_EG.grad[0].tolist()
    assert true < 0 < same < risen
    assert true + risen + same == pytest.approx(0, abs=1e-6)


def test_orders_are_drawn_without_replacement_by_their_probabilities() -> None:
    torch.manual_seed(1)
    probability = [0.5, 0.3, 0.2]
    order_SG = drawn_orders(torch.tensor([probability]).log(), 20_000)[0]
    assert (order_SG.sort(-1).values == torch.arange(3)).all()
    for order in itertools.permutations(range(3)):
        expected = probability[order[0]] * probability[order[1]] / (1 - probability[order[0]])
        share = (order_SG == torch.tensor(order)).all(-1).float().mean().item()
        assert share == pytest.approx(expected, abs=0.012)


def _by_hand(log_prob: list[float], reference: list[float], orders: list[list[int]], beta: float) -> float:
    rewards, log_probs = [], []
    for order in orders:
        rank = order.index(0)
        rewards.append(1 / math.log2(rank + 2))
        left, total = [math.exp(one) for one in log_prob], 0.0
        for place, item in enumerate(order[: rank + 1]):
            total += math.log(left[item] / sum(left[other] for other in order[place:]))
        log_probs.append(total)
    deviation = float(np.std(rewards)) + 1e-6
    gained = sum((r - np.mean(rewards)) / deviation * p for r, p in zip(rewards, log_probs, strict=True)) / len(orders)
    now, before = ([*map(math.exp, of), 1 - sum(map(math.exp, of))] for of in (log_prob, reference))
    apart = sum(p * math.log(p / q) for p, q in zip(now, before, strict=True))
    return beta * apart - float(gained)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_policy_gradient_is_the_value_by_hand(beta: float) -> None:
    log_prob, reference = [math.log(p) for p in (0.4, 0.3, 0.1)], [math.log(p) for p in (0.2, 0.3, 0.2)]
    orders = [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]]
    found = policy_gradient(torch.tensor([log_prob]), torch.tensor([reference]), torch.tensor([orders]), beta)
    assert found.item() == pytest.approx(_by_hand(log_prob, reference, orders, beta), rel=1e-5)


def test_policy_gradient_raises_the_true_item_and_nothing_without_another_reward() -> None:
    log_prob_EG = torch.tensor([[0.3, 0.3, 0.2]]).log().requires_grad_()
    different, same = ([[0, 1, 2], [1, 0, 2]], [[0, 1, 2], [0, 2, 1]])
    slopes = []
    for orders in (different, same):
        loss = policy_gradient(log_prob_EG, log_prob_EG.detach(), torch.tensor([orders]), 0.0)
        slopes.append(torch.autograd.grad(loss.sum(), log_prob_EG)[0][0].tolist())
    assert slopes[0][0] < 0 < slopes[0][1]
    assert slopes[1] == [0.0, 0.0, 0.0]


def test_divergence_pulls_back_to_the_start_and_is_zero_there() -> None:
    start, orders = torch.tensor([[0.4, 0.3, 0.1]]).log(), torch.tensor([[[0, 1, 2], [0, 2, 1]]])
    assert policy_gradient(start, start, orders, 1.0).item() == pytest.approx(0, abs=1e-6)
    moved = torch.tensor([[0.6, 0.1, 0.1]]).log().requires_grad_()
    [slope] = torch.autograd.grad(policy_gradient(moved, start, orders, 1.0).sum(), moved)
    assert slope[0, 0] > 0 > slope[0, 1]


def _examples(config: Config, model: Any) -> tuple[list[PreferenceExample], TransformersEngine]:
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    engine = TransformersEngine(model, encoder.catalogue.trie, config.temperature)
    settings = config.finetune.preference
    return list(make_preferences(histories, encoder, engine, settings, config.seed)), engine


@torch.no_grad()
def _scores(model: Any, examples: list[PreferenceExample], engine: TransformersEngine) -> tuple[Any, Any]:
    """float32 [E, G]: log-probabilities in one pass, and those of the search."""
    batch = collate_preferences(examples, engine.trie)
    return candidate_log_probs(model, batch, engine.temperature), batch.reference_EG


@pytest.mark.parametrize("budget", [1024, 110])
def test_candidates_are_the_best_of_the_search_and_scored_as_there(town: Town, budget: int) -> None:
    config = town(f"prompts.budget_tokens={budget}", "finetune.preference={events: 30, negatives: 3}",
                  "finetune.temperature=0.5")  # fmt: skip
    model = load_base_model(config.model)
    examples, engine = _examples(config, model)
    assert sum(len(one.reference_EG) for one in examples) >= 30
    found_EG, reference_EG = _scores(model, examples, engine)
    torch.testing.assert_close(found_EG, reference_EG, rtol=0, atol=2e-5)
    assert (reference_EG.exp().sum(1) <= 1 + 1e-5).all(), "no item is there twice"
    negative_EG = reference_EG[:, 1:]
    assert (negative_EG[:, :-1] >= negative_EG[:, 1:]).all()
    # With three of the four other items, the one that is left out has no more than the least of them.
    assert ((1 - reference_EG.exp().sum(1)) <= negative_EG[:, -1].exp() + 1e-5).all()


def test_window_with_many_branches_is_cut_into_rows(town: Town) -> None:
    examples, _ = _examples(town("finetune.preference={events: 60, negatives: 4}"), load_base_model(town().model))
    for one in examples:
        num_text = int((one.branch_T == 0).sum())
        assert len(one.reference_EG) == 1 or (one.branch_T > 0).sum() <= num_text + 40
        assert (one.seen_T[one.branch_T > 0] == one.place_T[one.branch_T > 0][:1]).all() or len(one.reference_EG) > 1


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.name in ("Qwen2.5", "Mistral", "Gemma 2", "GPT-2")],
                         ids=lambda one: one.name)  # fmt: skip
def test_sliding_windows_and_learnt_positions_count_along_each_branch(town: Town, family: Family) -> None:
    config = town("finetune.preference={events: 10, negatives: 3}")
    num_tokens = len(load_tokenizer(config.model).tokenizer)
    settings = family.config(vocab_size=num_tokens)
    if settings is None:
        pytest.skip(f"this transformers has no {family.kind}")
    model = tiny_model(settings)
    found_EG, reference_EG = _scores(model, *_examples(config, model))
    torch.testing.assert_close(found_EG, reference_EG, rtol=0, atol=5e-5)


def test_other_rows_of_a_batch_change_nothing(town: Town) -> None:
    config = town("prompts.budget_tokens=110", "finetune.preference={events: 30, negatives: 3}")
    model = load_base_model(config.model)
    examples, engine = _examples(config, model)
    alone = [_scores(model, [one], engine)[0] for one in examples]
    torch.testing.assert_close(torch.cat(alone), _scores(model, examples, engine)[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_training_raises_the_margin_from_what_it_is_at_the_start(town: Town) -> None:
    first = finetune(town(*SMALL, "finetune.epochs=2"))
    config = town(*DPO, "finetune.epochs=3", "finetune.learning_rate=2e-3", "finetune.log_every=1")
    second = finetune(config, "0001")
    steps = [json.loads(line)["loss"] for line in (second / "steps.jsonl").read_text().splitlines()]
    assert steps[0] == pytest.approx(math.log(4), abs=1e-3), "nothing has changed yet: all four are the same"
    assert steps[-1] < steps[0] - 0.05
    card = read_card(second)
    assert card["started_from"] == read_card(first)["adapter_hash"]
    assert (card["finetune"]["objective"], card["finetune"]["preference"]["negatives"]) == ("softmax_dpo", 3)
    log = [json.loads(line) for line in (second / "log.jsonl").read_text().splitlines()]
    assert (log[0]["step"], card["validation"]["nDCG@10"] >= log[0]["nDCG@10"]) == (0, True)


@pytest.mark.slow
def test_policy_gradient_ranks_the_true_items_of_its_events_higher(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    number = itertools.count(1)
    monkeypatch.setattr(Validator, "validate", lambda *_: {"nDCG@10": next(number) / 100})  # the last one is kept
    finetune(town(*SMALL, "finetune.epochs=1"))
    config = town(*SMALL, "finetune.objective=policy_gradient", "finetune.epochs=12", "finetune.learning_rate=3e-3",
                  "finetune.preference={events: 40, negatives: 4, beta: 0.02}")  # fmt: skip
    gains = []
    second = finetune(config, "0001")
    examples, engine = _examples(config, load_adapted(config.model, config.run / "adapters" / "0001"))
    for folder in (config.run / "adapters" / "0001", second):
        found_EG, _ = _scores(load_adapted(config.model, folder), examples, engine)
        rank_E = 1 + (found_EG[:, 1:] > found_EG[:, :1]).sum(1)
        gains.append((1 / (rank_E + 1).float().log2()).mean().item())
    assert read_card(second)["finetune"]["objective"] == "policy_gradient"
    assert gains[1] > gains[0] + 0.02


@pytest.mark.parametrize(("changes", "said"), [
    (("priors=[popularity]",), r"on_top: false"),
    (("finetune.attn_implementation=flash_attention_2",), "flash attention"),
    (("finetune.weights={popularity_power: 0.5}",), "weights are for"),
])  # fmt: skip
def test_what_does_not_go_with_preferences_is_refused(town: Town, changes: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        town(*DPO, *changes)


@pytest.mark.parametrize("objective", ["softmax_dpo", "policy_gradient"])
def test_stage_without_an_adapter_to_start_from_is_refused(town: Town, objective: str) -> None:
    with pytest.raises(ConfigError, match=rf"is {objective}.*--from 0001"):
        finetune(town(f"finetune.objective={objective}"))
