from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from accelerate import Accelerator

from whereupon.config import Config
from whereupon.decode.models import build_encoder, load_base_model, load_tokenizer
from whereupon.eval import METRICS
from whereupon.eval.run import evaluate
from whereupon.finetune.model import CatalogueModel, add_lora
from whereupon.finetune.training_examples import make_examples
from whereupon.finetune.validation import Validator
from whereupon.histories import Histories, read_histories
from whereupon.prompts import PromptEncoder

Town = Callable[..., Config]


def _read(config: Config) -> tuple[Histories, PromptEncoder]:
    histories = read_histories(config.run)
    tokenizer = load_tokenizer(config.model)
    return histories, build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)


@pytest.mark.slow
def test_validation_gives_what_the_evaluation_will_give(town: Town) -> None:
    config = town()
    histories, encoder = _read(config)
    validator = Validator.build(histories, encoder, config.finetune, config.seed)
    adapted = add_lora(load_base_model(config.model), config.finetune)  # B = 0: the base model's answers
    module = CatalogueModel(adapted, 1.0)
    scores = validator.validate(Accelerator(mixed_precision="no", cpu=True), module)
    zero_shot = evaluate(config, split="valid", use_adapter=False)[-1]
    assert zero_shot.num_events == validator.num_events
    assert scores == pytest.approx({name: zero_shot.metrics[name] for name in METRICS}, rel=1e-5)


def test_validation_samples_whole_windows_by_seed(town: Town) -> None:
    config = town("finetune.validation_events=3", "prompts.budget_tokens=100")
    histories, encoder = _read(config)
    seeded = [Validator.build(histories, encoder, config.finetune, seed) for seed in (1, 1, 2)]
    chosen = [validator.windows.target_W.tolist() for validator in seeded]
    assert chosen[0] == chosen[1] != chosen[2]
    assert 3 <= seeded[0].num_events < 3 + max(np.diff(seeded[0].text.offset_U1))
    assert seeded[0].text.encoder.catalogue.titles.equals(encoder.catalogue.titles)
    assert len(chosen[0]) > 0


def test_validation_sees_no_event_of_the_test_split(town: Town) -> None:
    config = town()
    histories, encoder = _read(config)
    validator = Validator.build(histories, encoder, config.finetune, config.seed)
    assert len(validator.text.item_idx_N) == int((histories.split_N < 2).sum())


def test_validation_without_events_is_silent(town: Town) -> None:
    config = town()
    histories, encoder = _read(config)
    train = histories.events.with_columns(split=pl.lit("train"))
    without = Histories(train, *(getattr(histories, name) for name in list(histories.__dataclass_fields__)[1:]))
    validator = Validator.build(without, encoder, config.finetune, 1)
    module = CatalogueModel.__new__(CatalogueModel)
    assert (validator.num_events, validator.validate(Accelerator(mixed_precision="no", cpu=True), module)) == (0, {})


def test_examples_hold_training_events_only(town: Town) -> None:
    config = town()
    histories, encoder = _read(config)
    examples = list(make_examples(histories, encoder))
    text = encoder.text(histories.events, len(histories.user_ids))
    taught = sum(example.num_titles for example in examples)
    assert taught >= int((histories.split_N == 0).sum())
    assert len(examples) < len(text.windows)
