"""A temperature that is learnt: where it begins, that it goes with the weights, and where it makes no sense."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whereupon.config import Config
from whereupon.decode.adapter_card import read_card
from whereupon.errors import ConfigError, ModelError
from whereupon.finetune.continual import start_from
from whereupon.finetune.progress import TrainingProgress
from whereupon.finetune.train import finetune
from whereupon.histories import read_histories

pytestmark = pytest.mark.usefixtures("one_thread")

Town = Callable[..., Config]
SHORT = ("finetune.batch_tokens=256", "finetune.rank=4", "finetune.validation_events=8", "finetune.epochs=3",
         "finetune.validations_per_epoch=1", "finetune.learning_rate=1e-2", "finetune.weight_decay=0.5")  # fmt: skip
LEARNT = "finetune.temperature=learnt"


@pytest.mark.parametrize("objective", ["plain", "softmax_dpo", "policy_gradient"])
def test_learnt_temperature_of_another_objective_is_refused(town: Town, objective: str) -> None:
    with pytest.raises(ConfigError, match=rf"for the objective catalogue; with {objective} it"):
        town(LEARNT, f"finetune.objective={objective}")


def test_learnt_temperature_begins_where_a_fixed_one_would_be(town: Town) -> None:
    assert town(LEARNT).temperature == 1.0
    assert town(LEARNT, "priors=[popularity]").temperature == 2.5
    with pytest.raises(ConfigError, match=r"finetune\.temperature"):
        town("finetune.temperature=0")


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_learnt_temperature_goes_with_the_weights_that_are_kept_and_with_a_checkpoint(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finetune(town(*SHORT, LEARNT, run="whole"))
    card, log = read_card(folder), _log(folder)
    by_step = {one["step"]: one["temperature"] for one in log}
    assert card["temperature"] == by_step[card["step"]]
    assert len(set(by_step.values())) == len(by_step), "it changes from validation to validation"
    assert all(abs(value - 1) > 1e-5 for value in by_step.values())
    assert f"divided by {card['temperature']:.4g}, which was learnt" in (folder / "README.md").read_text()

    original, config = TrainingProgress.step, town(*SHORT, LEARNT, "finetune.log_every=1", run="cut")

    def stepping(self: TrainingProgress, now: int, *numbers: Any) -> None:
        if now == max(by_step) - 1:
            raise KeyboardInterrupt
        original(self, now, *numbers)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "step", stepping)
        patch.setattr("whereupon.finetune.train.CHECKPOINT_EVERY_S", -1.0)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)
    assert _log(finetune(config)) == log


@pytest.mark.slow
def test_training_goes_on_from_a_learnt_temperature(town: Town) -> None:
    config = town(*SHORT, LEARNT)
    card, histories = read_card(finetune(config)), read_histories(config.run)
    identity = {key: card[key] for key in ("base_hash", "tokenizer", "template_hash", "prompts", "title_recipe")}
    assert start_from(config, "0001", identity, histories).temperature == card["temperature"]
    with pytest.raises(ModelError, match=r"set finetune\.temperature to 1|set finetune\.temperature to 0"):
        start_from(town(*SHORT), "0001", identity, histories)
