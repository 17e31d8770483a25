"""The plain objective, and weights of events: known values, and that training lowers what it is about."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from whereupon.config import Config
from whereupon.decode.models import build_encoder, load_tokenizer
from whereupon.decode.output_layer import OutputLayer
from whereupon.errors import ConfigError
from whereupon.finetune.model import mean_nats, plain_nats
from whereupon.finetune.progress import read_steps
from whereupon.finetune.settings import FinetuneSettings, WeightSettings
from whereupon.finetune.train import finetune
from whereupon.finetune.training_examples import Batch, make_examples
from whereupon.finetune.weighting import event_weights
from whereupon.histories import read_histories

Town = Callable[..., Config]
START = datetime(2026, 1, 1, tzinfo=UTC)


def _events(items: list[int], days: list[float]) -> pl.DataFrame:
    times = [START + timedelta(days=day) for day in days]
    return pl.DataFrame({"item_idx": items, "time": times})


def test_recent_events_and_rare_items_count_more_and_the_mean_is_one() -> None:
    events = _events([0, 0, 0, 1], [0, 10, 20, 20])
    recency = event_weights(events, WeightSettings(half_life_days=10))
    assert recency is not None
    np.testing.assert_allclose(recency, np.array([0.25, 0.5, 1, 1]) * 4 / 2.75, rtol=1e-6)
    rare = event_weights(events, WeightSettings(popularity_power=1))
    assert rare is not None
    np.testing.assert_allclose(rare, [2 / 3, 2 / 3, 2 / 3, 2], rtol=1e-6)
    assert event_weights(events, WeightSettings()) is None


def _plain_loss(hidden_RLH: torch.Tensor, batch: Batch, output: OutputLayer) -> torch.Tensor:
    return mean_nats(plain_nats(hidden_RLH.flatten(0, 1)[batch.position_P], batch, output), batch)


def _batch(weight_P: torch.Tensor | None = None) -> Batch:
    tokens_RL = torch.tensor([[3, 1, 2, 0], [2, 2, 1, 0]])
    return Batch(tokens_RL, torch.tensor([0, 1, 5]), 2, weight_P=weight_P)


def test_plain_loss_is_the_cross_entropy_of_title_tokens_and_has_its_gradient() -> None:
    torch.manual_seed(1)
    hidden_RLH, weight_VH = torch.randn(2, 4, 6, requires_grad=True), torch.randn(5, 6)
    bias_V = torch.randn(5)
    loss = _plain_loss(hidden_RLH, _batch(), OutputLayer(weight_VH, bias_V))
    logits_RLV = (hidden_RLH @ weight_VH.T + bias_V).log_softmax(-1)
    nats = -(logits_RLV[0, 0, 1] + logits_RLV[0, 1, 2] + logits_RLV[1, 1, 1])
    assert loss.item() == pytest.approx(nats.item() / 2, rel=1e-6)
    weighted = _plain_loss(hidden_RLH, _batch(torch.tensor([0.0, 0.0, 3.0])), OutputLayer(weight_VH, bias_V))
    assert weighted.item() == pytest.approx(-3 * logits_RLV[1, 1, 1].item() / 2, rel=1e-6)
    exact = hidden_RLH.detach().double().requires_grad_()
    own = torch.autograd.grad(loss, hidden_RLH)[0]
    naive = -(exact @ weight_VH.double().T + bias_V.double()).log_softmax(-1)
    torch.autograd.backward((naive[0, 0, 1] + naive[0, 1, 2] + naive[1, 1, 1]) / 2)
    assert exact.grad is not None
    torch.testing.assert_close(own, exact.grad.float(), rtol=1e-5, atol=1e-6)


def test_examples_of_the_plain_objective_predict_every_token_of_each_title(town: Town) -> None:
    config = town()
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    half = WeightSettings(half_life_days=1)
    plain = list(make_examples(histories, encoder, settings=FinetuneSettings(objective="plain", weights=half)))
    branching = list(make_examples(histories, encoder, settings=FinetuneSettings(weights=half)))
    title_tokens = {tuple(encoder.catalogue.trie.title_tokens(i).tolist()) for i in range(histories.items.height)}
    for one, other in zip(plain, branching, strict=True):
        assert one.num_titles == other.num_titles
        assert set(other.position_P.tolist()) <= set(one.position_P.tolist())
        predicted = np.split(one.tokens_L[one.position_P + 1], np.flatnonzero(np.diff(one.position_P) > 1) + 1)
        assert {tuple(title.tolist()) for title in predicted} <= title_tokens
        assert one.weight_P is not None
        assert other.weight_P is not None
        by_position = dict(zip(one.position_P.tolist(), one.weight_P.tolist(), strict=True))
        assert [by_position[at] for at in other.position_P.tolist()] == other.weight_P.tolist()
        assert (np.diff(one.weight_P) >= 0).all()  # a window is of one person, in the order of time


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_training_with_the_plain_objective_and_weights_lowers_its_loss(town: Town) -> None:
    config = town(
        "finetune.objective=plain", "finetune.weights={half_life_days: 5, popularity_power: 0.5}", "finetune.epochs=6",
        "finetune.log_every=1", "finetune.batch_tokens=256", "finetune.rank=4", "finetune.validation_events=8",
    )  # fmt: skip
    steps = read_steps(Path(finetune(config)))
    assert steps[-1]["loss"] < 0.85 * steps[0]["loss"]


def test_plain_objective_on_top_of_rankers_is_refused(town: Town) -> None:
    with pytest.raises(ConfigError, match=r"on_top: false"):
        town("finetune.objective=plain", "priors=auto")
