"""A town whose model is trained on four or eight bits: the whole way from training to serving."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.config import Config
from whereupon.decode.adapters import current_adapter
from whereupon.decode.models import load_adapted, load_base_model, load_engine
from whereupon.decode.quantize import dequantized, is_quantized
from whereupon.decode.search import score_all, search
from whereupon.errors import ModelError
from whereupon.eval.run import evaluate
from whereupon.finetune.model import add_lora
from whereupon.finetune.train import finetune
from whereupon.histories import read_histories
from whereupon.serve.launcher.merged import merged_weights

pytestmark = pytest.mark.slow  # all together

Town = Callable[..., Config]
EPOCHS = "finetune.epochs=12"


@pytest.fixture(scope="module", name="trained_run")
def _trained_run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a town whose adapter was trained on NF4. Never changed."""
    from whereupon.config import load_config

    run = tmp_path_factory.mktemp("nf4") / "run"
    shutil.copytree(prepared.parent / "run" / "histories", run / "histories")
    finetune(load_config(prepared, [f"run={run}", "model.quantize=nf4", EPOCHS]))
    return run


@pytest.fixture(name="trained")
def _trained(town: Town, trained_run: Path, tmp_path: Path) -> Town:
    """Its configuration, with a run folder of its own."""

    def trained(*overrides: str) -> Config:
        if not (tmp_path / "run").exists():
            shutil.copytree(trained_run, tmp_path / "run")
        return town("model.quantize=nf4", EPOCHS, *overrides)

    return trained


def _engine(config: Config) -> Any:
    histories = read_histories(config.run)
    return load_engine(
        config.model, config.prompts, histories.items, histories.events, histories.location,
        current_adapter(config.run),
        title_recipe=histories.title_recipe,
    )  # fmt: skip


def test_card_and_readme_name_the_quantization(trained: Town) -> None:
    folder = current_adapter(trained().run)
    assert json.loads((folder / "whereupon.json").read_text())["quantize"] == "nf4"
    assert "in nf4 (bitsandbytes), and for that alone" in (folder / "README.md").read_text()


def test_training_on_few_bits_learns(trained: Town) -> None:
    entries = [json.loads(line) for line in (current_adapter(trained().run) / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["train_loss"] < entries[0]["train_loss"]
    assert min(entry["log-loss"] for entry in entries) < np.log(5), "five places: no better than guessing"


def test_trained_model_is_evaluated_and_searched_on_the_quantized_base(trained: Town) -> None:
    config = trained()
    tuned = evaluate(config, split="test")[-1]
    assert tuned.metrics["nDCG@10"] > 0.6
    engine, encoder, _ = _engine(config)
    assert is_quantized(engine.model)
    reading = engine.read(encoder.preamble, np.array([len(encoder.preamble) - 1]))
    [result] = search(reading, engine.trie, 5)
    assert result.exact
    assert np.exp(result.log_prob_K).sum() == pytest.approx(1.0, abs=1e-5)


def test_resumed_training_ends_as_an_unbroken_one(town: Town) -> None:
    """With states of eight bits, which are in the checkpoint too."""
    from whereupon.finetune import train
    from whereupon.finetune.train import TrainingProgress

    settings = ("model.quantize=nf4", "finetune.optimizer=adamw_8bit", "finetune.epochs=2", "finetune.batch_tokens=400")
    whole, config = finetune(town(*settings, run="whole")), town(*settings, run="cut")
    original = TrainingProgress.step

    def stepping(self: TrainingProgress, now: int, *numbers: Any) -> None:
        if now == 3:
            raise KeyboardInterrupt
        original(self, now, *numbers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingProgress, "step", stepping)
        patch.setattr(train, "CHECKPOINT_EVERY_S", -1.0)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)
    resumed = finetune(config)
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]


def test_exported_and_served_weights_rank_as_the_quantized_model_does(
    trained: Town, prepared: Path, tmp_path: Path
) -> None:
    """Within 1e-4 of each item's log-probability."""
    from whereupon.decode.settings import ModelSettings
    from whereupon.decode.transformers_engine import TransformersEngine

    config, folder = trained(), tmp_path / "merged"
    arguments = ["export", str(prepared), "--merge", "-o", str(folder)]
    sets = [f"run={config.run}", "model.quantize=nf4", EPOCHS]
    result = CliRunner().invoke(app, [*arguments, *(part for one in sets for part in ("--set", one))])
    assert result.exit_code == 0, result.output
    engine, encoder, card = _engine(config)
    text = encoder.preamble
    expected = score_all(engine.read(text, np.array([len(text) - 1])), engine.trie)
    with merged_weights(config, "float32") as weights:
        for plain in (folder, weights.folder):
            model = AutoModelForCausalLM.from_pretrained(plain)
            assert not is_quantized(model)
            found = TransformersEngine(model, engine.trie, card["temperature"])
            assert np.abs(score_all(found.read(text, np.array([len(text) - 1])), engine.trie) - expected).max() < 1e-4
    other = load_adapted(ModelSettings(base=config.model.base, device="cpu"), current_adapter(config.run))
    with torch.no_grad():
        ids = torch.from_numpy(text.astype(np.int64))[None]
        off = (other.eval()(ids).logits - engine.model(ids).logits).abs().max()
    assert off > 1e-3, "the adapter on the unquantized base is another model"


def test_adapter_of_few_bits_is_refused_on_the_plain_base_in_evaluation_and_export(trained: Town) -> None:
    config = trained("model.quantize=none")
    with pytest.raises(ModelError, match=r"with model\.quantize nf4, and this run has .* with none"):
        evaluate(config, split="test")
    with pytest.raises(ModelError, match=r"with model\.quantize nf4"):
        _engine(config)


def test_model_trained_on_eight_bits_is_evaluated(town: Town) -> None:
    config = town("model.quantize=int8", EPOCHS)
    finetune(config)
    assert evaluate(config, split="test")[-1].metrics["nDCG@10"] > 0.6


def test_gradients_on_few_bits_are_those_of_plain_layers_with_the_same_weights(town: Town) -> None:
    config, found = town("model.quantize=nf4"), list[dict[str, torch.Tensor]]()
    for plain in (False, True):
        base = load_base_model(config.model)
        torch.manual_seed(1)
        model = add_lora(dequantized(base, torch.float32) if plain else base, config.finetune).train()
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        for weight in trained.values():
            torch.nn.init.normal_(weight, std=0.1)  # LoRA's own start has no gradient of its first part
        ids = torch.arange(20)[None]
        model(input_ids=ids).logits.log_softmax(-1)[0, :, 3].sum().backward()
        found.append({name: weight.grad for name, weight in trained.items() if weight.grad is not None})
    quantized, expected = found
    assert len(expected) == len(quantized) > 0
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(quantized[name], gradient, rtol=1e-4, atol=1e-5)
