"""A student of fewer layers comes closer to what its teacher says, and is evaluated like any other run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from whereupon.config import Config, configured
from whereupon.decode.adapter_card import read_card
from whereupon.decode.models import adapter_identity, build_encoder, load_adapted, load_base_model, load_tokenizer
from whereupon.errors import ConfigError, ModelError
from whereupon.eval.run import evaluate
from whereupon.finetune.branches import nats_of
from whereupon.finetune.dataset import open_examples
from whereupon.finetune.model import Teacher, mean_nats, states_at
from whereupon.finetune.student import student, student_config
from whereupon.finetune.train import finetune
from whereupon.histories import read_histories
from whereupon.verbs import record

Town = Callable[..., Config]
SMALL = ("finetune.rank=8", "finetune.validation_events=8", "finetune.batch_tokens=400", "finetune.epochs=4",
         "finetune.learning_rate=5e-3", "finetune.validations_per_epoch=0")  # fmt: skip


@pytest.fixture(name="taught")
def _taught(town: Town, deep_model: Path) -> Callable[..., Config]:
    """A town whose model has four layers, and a trained adapter."""

    def taught(*overrides: str) -> Config:
        return town(*SMALL, f"model.base={deep_model}", *overrides)

    finetune(taught())
    return taught


@torch.no_grad()
def _apart(config: Config, model: Any, teacher: Any) -> float:
    """Nats by which a model differs from its teacher, over the titles of the training events."""
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    identity = adapter_identity(config.model, encoder, tokenizer, histories.title_recipe)
    examples = open_examples(config.run, histories, encoder, identity, config.finetune)
    batch = examples[np.arange(len(examples))]
    assert batch.branches is not None
    own, taught = (states_at(one.eval(), batch, config.temperature) for one in (model, teacher))
    return float(mean_nats(nats_of(own, batch.branches, taught, 1.0), batch))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_student_comes_closer_to_its_teacher_and_is_a_run_like_any_other(
    taught: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = taught("finetune.teacher_share=0.9", "finetune.epochs=15"), tmp_path / "student"
    adapter = student(config, 2, run)
    settings = student_config(config, run)
    assert f"--set run={run} --set model.base={run / 'base'}" in " ".join(capsys.readouterr().err.split())
    assert AutoModelForCausalLM.from_pretrained(run / "base").config.num_hidden_layers == 2
    card, teacher = read_card(adapter), read_card(config.run / "adapters" / "0001")
    assert (adapter.parent, card["taught_by"]) == (run / "adapters", teacher["adapter_hash"])
    whole = load_adapted(config.model, config.run / "adapters" / "0001")
    untrained = _apart(settings, load_base_model(settings.model), whole)
    trained = _apart(settings, load_adapted(settings.model, adapter), whole)
    assert trained < 0.5 * untrained
    record("student", settings)
    assert evaluate(configured(run), split="valid")[-1].num_events > 0


@pytest.mark.slow
def test_student_goes_on_and_what_does_not_fit_is_refused(taught: Callable[..., Config], tmp_path: Path) -> None:
    config, run = taught("finetune.epochs=0.2"), tmp_path / "student"
    student(config, 3, run, "0001")
    before = (run / "base" / "model.safetensors").stat().st_mtime_ns
    student(config, 3, run)
    assert (run / "base" / "model.safetensors").stat().st_mtime_ns == before, "made once"
    with pytest.raises(ModelError, match="holds another student"):
        student(config, 2, run)
    with pytest.raises(ModelError, match="expected 2 to 3 layers"):
        student(config, 4, tmp_path / "whole")
    assert not (tmp_path / "whole" / "base").exists()
    with pytest.raises(ConfigError, match="set it to catalogue"):
        student(taught("finetune.objective=plain"), 3, tmp_path / "plain")
    with pytest.raises(ModelError, match=r"was trained alone.*set finetune\.on_top to false"):
        student(taught("priors=[popularity]"), 3, tmp_path / "on-top")
    card = config.run / "adapters" / "0001" / "whereupon.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"priors": "some"}))
    with pytest.raises(ModelError, match="was trained on top of rankers"):
        student(config, 3, tmp_path / "alone")


@pytest.mark.slow
def test_student_of_a_model_on_top_of_rankers_is_taught_on_top_of_the_same(
    taught: Callable[..., Config], tmp_path: Path
) -> None:
    config, run = taught("priors=[popularity, own counts]", "finetune.epochs=0.2"), tmp_path / "student"
    teacher = finetune(config)
    adapter = student(config, 2, run, teacher.name)
    card = read_card(adapter)
    assert card["priors"] == read_card(teacher)["priors"] != "none"
    assert card["taught_by"] == read_card(teacher)["adapter_hash"]
    assert (adapter / "pools.json").is_file(), "calibrated with the rankers, as any other"


def test_teacher_on_top_of_other_rankers_is_refused() -> None:
    teacher = Teacher(Any, 1.0, {"priors": "some", "adapter_hash": "it"}, 0.5)  # type: ignore[arg-type]
    assert teacher.hash_with("some") == "it"
    with pytest.raises(ModelError, match="on top of other rankers"):
        teacher.hash_with("others")
