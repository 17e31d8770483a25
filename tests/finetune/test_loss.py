from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from whereupon.catalogue import Catalogue
from whereupon.finetune.model import CatalogueModel, add_lora
from whereupon.finetune.settings import FinetuneSettings
from whereupon.finetune.training_examples import TrainingExample, collate, example_of
from whereupon.prompts import EncodedWindow

Model = Callable[..., CatalogueModel]


@pytest.fixture
def model(one_thread: None) -> Model:
    """A tiny random Llama under a LoRA adapter that is random too."""

    def model(temperature: float = 1.0) -> CatalogueModel:
        torch.manual_seed(3)
        config = LlamaConfig(vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                             num_attention_heads=2, initializer_range=0.3)  # fmt: skip
        adapted = add_lora(LlamaForCausalLM(config), FinetuneSettings(rank=2))
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.3)
        return CatalogueModel(adapted, temperature)

    return model


def _random_window(places: Catalogue, num_events: int, seed: int) -> tuple[EncodedWindow, np.ndarray[Any, Any]]:
    """Contexts of one to three unknown words before titles of random items."""
    random = np.random.default_rng(seed)
    items = random.integers(0, 5, num_events)
    tokens, starts = [10], []
    for item in items:
        tokens += random.integers(7, 11, random.integers(1, 4)).tolist()
        starts.append(len(tokens))
        tokens += places.trie.title_tokens(int(item)).tolist()
    return EncodedWindow(np.array(tokens, np.int32), np.array(starts)), items


def _naive(model: CatalogueModel, places: Catalogue, window: EncodedWindow, items: np.ndarray[Any, Any]) -> list[float]:
    """-log p of each title by a walk with the full logits: at each token, a softmax over what may follow."""
    with torch.no_grad():
        logits_LV = model.model(input_ids=torch.from_numpy(window.tokens_L.astype(np.int64))[None]).logits[0]
    titles = [places.trie.title_tokens(i).tolist() for i in range(len(places.titles))]
    losses = []
    for start, item in zip(window.title_start_V, items, strict=True):
        loss = 0.0
        for depth, token in enumerate(titles[item]):
            prefix = titles[item][:depth]
            follow = sorted({title[depth] for title in titles if title[:depth] == prefix})
            log_probs = (logits_LV[start + depth - 1, follow] / model.temperature).log_softmax(0)
            loss -= float(log_probs[follow.index(token)])
        losses.append(loss)
    return losses


def _nats(loss: torch.Tensor) -> float:
    return float(loss.detach())


def _example(window: EncodedWindow, items: np.ndarray[Any, Any], places: Catalogue) -> TrainingExample:
    return example_of(window, items, places.trie)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_loss_equals_the_naive_sum_over_each_title(model: Model, places: Catalogue, temperature: float) -> None:
    loss_of, (window, items) = model(temperature), _random_window(places, 8, seed=1)
    expected = np.mean(_naive(loss_of, places, window, items))
    assert _nats(loss_of(collate([_example(window, items, places)], places.trie))) == pytest.approx(expected, rel=1e-5)


def test_loss_of_a_padded_batch_is_the_mean_over_all_titles(model: Model, places: Catalogue) -> None:
    loss_of = model()
    windows = [_random_window(places, num_events, seed) for seed, num_events in enumerate((1, 9, 4))]
    expected = np.mean([loss for window in windows for loss in _naive(loss_of, places, *window)])
    examples = [_example(*window, places) for window in windows]
    for pad in (0, 6):
        assert _nats(loss_of(collate(examples, places.trie, pad))) == pytest.approx(expected, rel=1e-5)


def test_only_the_adapter_learns(model: Model, places: Catalogue) -> None:
    loss_of = model()
    loss_of(collate([_example(*_random_window(places, 3, seed=2), places)], places.trie)).backward()
    learning = {name.split(".")[-3] for name, weight in loss_of.named_parameters() if weight.grad is not None}
    assert learning == {"lora_A", "lora_B"}
    assert all(weight.grad is None for name, weight in loss_of.named_parameters() if "lora" not in name)


def test_catalogue_of_one_item_has_nothing_to_learn_and_can_be_trained(model: Model) -> None:
    alone = Catalogue.build(pl.DataFrame({"item_id": ["i0"], "title": ["Bar"]}), lambda texts: [[0, 2] for _ in texts])
    loss_of = model()
    window = EncodedWindow(np.array([9, 9, 0, 2], np.int32), np.array([2]))
    loss = loss_of(collate([example_of(window, np.array([0]), alone.trie)], alone.trie))
    loss.backward()
    assert _nats(loss) == 0.0
