"""Settings, models and data that cannot be trained on are refused in one sentence, before the first step."""

import polars as pl
import pytest
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from whereupon.errors import ConfigError, DataError, ModelError
from whereupon.finetune import FinetuneSettings, train
from whereupon.finetune.model import add_lora
from whereupon.finetune.progress import TrainingProgress
from whereupon.finetune.train import finetune
from whereupon.tests.finetune.short_training import SHORT, Town

pytestmark = pytest.mark.slow  # all together


def test_unknown_target_modules_name_what_the_model_has(town: Town) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.target_modules .* \(.*q_proj.*\), not \['quer'\]\.$"):
        finetune(town("finetune.target_modules=[quer]"))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")  # peft's; what follows is the sentence
@pytest.mark.parametrize("tied", [False, True])
def test_output_layer_is_no_target(tied: bool) -> None:
    """Scores come from the base model's: an adapter on it, or on the input layer that shares it, would do nothing."""
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=tied,
    ))  # fmt: skip
    names = ["q_proj", "embed_tokens" if tied else "lm_head"]
    with pytest.raises(ConfigError, match=r"^finetune\.target_modules .*output layer"):
        add_lora(model, FinetuneSettings(target_modules=names))


def test_input_layer_of_its_own_may_be_a_target() -> None:
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    ))  # fmt: skip
    add_lora(model, FinetuneSettings(target_modules=["embed_tokens"]))


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "gradient_accumulation_steps"),  # and 2 in the settings
        ("ACCELERATE_MIXED_PRECISION", "fp16", "mixed_precision"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "mixed_precision"),  # the town's own is "no"
    ],
)
def test_flag_of_accelerate_that_would_be_ignored_is_refused(
    town: Town, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, setting: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=rf"^accelerate was launched with {setting} {value}"):
        finetune(town("finetune.accumulate=2"))


def test_model_that_cannot_be_searched_is_refused_before_the_first_step(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingProgress, "step", lambda *_: pytest.fail("a step was taken"))
    config = town(*SHORT)
    bloom = BloomConfig(vocab_size=1000, hidden_size=32, n_layer=1, n_head=4)
    monkeypatch.setattr(train, "load_base_model", lambda _: AutoModelForCausalLM.from_config(bloom))
    with pytest.raises(ModelError, match=r"cannot continue a text along several branches") as caught:
        finetune(config)
    assert "diverged" not in str(caught.value)
    assert not (config.run / "adapters").exists()


def test_budget_beyond_what_the_model_sees_is_reported_before_training(town: Town) -> None:
    message = r"^prompts\.budget_tokens is 100000 but the model .* at most (\d+) tokens: set it to at most \1\.$"
    with pytest.raises(ConfigError, match=message):
        finetune(town("prompts.budget_tokens=100000"))


def test_no_training_events_are_one_sentence(town: Town) -> None:
    config = town()
    path = config.run / "histories" / "events.parquet"
    pl.read_parquet(path).with_columns(split=pl.lit("test")).write_parquet(path)
    with pytest.raises(DataError, match=r"^There are no training events"):
        finetune(config)
