"""Quantized base models: trained, evaluated and merged as one model, and refused where they cannot be."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from whereupon.decode.models import (
    adapter_identity,
    build_encoder,
    load_adapted,
    load_base_model,
    load_engine,
    load_tokenizer,
    merge_adapter,
)
from whereupon.decode.quantize import is_quantized, weight_bytes
from whereupon.decode.search import score_all
from whereupon.decode.settings import ModelSettings
from whereupon.errors import ModelError
from whereupon.finetune.model import add_lora
from whereupon.finetune.settings import FinetuneSettings
from whereupon.prompts import PromptSettings
from whereupon.tests.decode.tiny import byte_tokenizer, naive_log_probs, random_text, tiny_config, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

TITLES = ["Blue Cafe", "Blue Cafe 2", "Red Bar", "Crème brûlée", "喫茶店"]
ITEMS = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(TITLES))], "title": TITLES})
EVENTS = pl.DataFrame()  # prompts that show nothing of others read none
PROMPTS = PromptSettings(budget_tokens=512, profile_tokens=64)
RECIPE = {"title": None, "title_attributes": ["street"]}
QUANTIZED = ["nf4", "int8"]


@dataclass(frozen=True)
class Trained:
    """A base model's directory, and an adapter of random weights for it in some quantization."""

    base: Path
    adapter: Path
    quantize: Any

    @property
    def settings(self) -> ModelSettings:
        return ModelSettings(base=str(self.base), device="cpu", quantize=self.quantize)

    def load(self, **changes: Any) -> Any:
        settings = self.settings.model_copy(update=changes)
        return load_engine(settings, PROMPTS, ITEMS, EVENTS, "item", self.adapter, title_recipe=RECIPE)


@pytest.fixture(scope="module", name="base")
def _base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of a few ten thousand parameters; layers of 64 and more, which are the blocks of NF4."""
    folder = tmp_path_factory.mktemp("base")
    byte_tokenizer(folder, before="<s>")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 300, "max_position_embeddings": 512}
    tiny_model(tiny_config("llama", initializer_range=0.1, **sizes)).save_pretrained(folder)
    return folder


def _trained(base: Path, folder: Path, quantize: Any, **kind: Any) -> Trained:
    settings = ModelSettings(base=str(base), device="cpu", quantize=quantize)
    torch.manual_seed(1)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **kind)
    adapted = get_peft_model(load_base_model(settings), lora)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.2)
    adapted.save_pretrained(str(folder))
    tokenizer = load_tokenizer(settings)
    encoder = build_encoder(ITEMS, EVENTS, "item", PROMPTS, tokenizer)
    card = {**adapter_identity(settings, encoder, tokenizer, RECIPE), "temperature": 0.5, "seed": 7}
    (folder / "whereupon.json").write_text(json.dumps(card))
    return Trained(base, folder, quantize)


@pytest.fixture(scope="module", name="trained_once")
def _trained_once(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    kept = {name: _trained(base, tmp_path_factory.mktemp(name), name) for name in ("none", *QUANTIZED)}
    return kept.__getitem__


def _plain(base: Path) -> PreTrainedModel:
    return load_base_model(ModelSettings(base=str(base), device="cpu"))


@pytest.mark.parametrize(("quantize", "share"), [("nf4", 0.15), ("int8", 0.27)])
def test_quantized_layers_take_a_share_of_their_float32_bytes(base: Path, quantize: Any, share: float) -> None:
    plain, few = _plain(base), load_base_model(ModelSettings(base=str(base), device="cpu", quantize=quantize))
    assert is_quantized(few)
    assert not is_quantized(plain)
    layers, layers_few = (model.model.layers[0].mlp.down_proj for model in (plain, few))
    # What is needed to read NF4 has a table of some hundred numbers, which a layer of 8,192 weights feels.
    assert weight_bytes(layers_few) - (16 + 256 + 8) * 4 < share * weight_bytes(layers)
    assert weight_bytes(few) < weight_bytes(plain)


@pytest.mark.parametrize("quantize", QUANTIZED)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_embeddings_and_output_layer_stay_as_they_are_tied_or_not(
    tmp_path: Path, architecture: str, quantize: Any
) -> None:
    original = tiny_model(tiny_config(architecture))
    original.save_pretrained(tmp_path)
    model = load_base_model(ModelSettings(base=str(tmp_path), device="cpu", quantize=quantize))
    for layer in ("get_input_embeddings", "get_output_embeddings"):
        assert torch.equal(getattr(model, layer)().weight, getattr(original, layer)().weight)
    assert model.model.layers[0].self_attn.q_proj.weight.dtype in (torch.uint8, torch.int8)


@pytest.mark.parametrize("quantize", QUANTIZED)
@torch.no_grad()
def test_quantized_model_is_near_the_plain_one_and_not_it(base: Path, quantize: Any) -> None:
    ids = torch.from_numpy(random_text(3, 20).astype(np.int64))[None]
    few = load_base_model(ModelSettings(base=str(base), device="cpu", quantize=quantize))(input_ids=ids).logits
    plain = _plain(base)(input_ids=ids).logits
    off = float((few - plain).abs().max() / plain.abs().max())
    assert 1e-4 < off < (0.5 if quantize == "nf4" else 0.05)


@pytest.mark.parametrize("quantize", QUANTIZED)
def test_engine_searches_the_quantized_base_with_the_adapter_beside_it(
    trained_once: Callable[[str], Trained], quantize: str
) -> None:
    engine, encoder, card = trained_once(quantize).load()
    assert is_quantized(engine.model)
    assert card["quantize"] == quantize
    text = random_text(1, 10)
    titles = [encoder.catalogue.trie.title_tokens(item).tolist() for item in range(len(TITLES))]
    found = score_all(engine.read(text, np.array([9])), engine.trie)
    assert np.abs(found - naive_log_probs(engine.model, text, titles, temperature=0.5)).max() < 1e-4


@pytest.mark.parametrize("quantize", QUANTIZED)
def test_merged_model_ranks_as_quantized_base_and_adapter_do(
    trained_once: Callable[[str], Trained], quantize: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 1e-4 of each log-probability: both multiply with the same numbers, added up in another order."""
    trained = trained_once(quantize)
    engine, encoder, _ = trained.load()
    merged = merge_adapter(load_base_model(trained.settings), trained.adapter).eval()
    assert not is_quantized(merged)
    assert {weight.dtype for weight in merged.parameters()} == {torch.float32}
    assert "quantized weights made float32 again" in capsys.readouterr().err
    text = random_text(2, 10)
    titles = [encoder.catalogue.trie.title_tokens(item).tolist() for item in range(len(TITLES))]
    found = naive_log_probs(merged, text, titles, temperature=0.5)
    assert np.abs(found - naive_log_probs(engine.model, text, titles, temperature=0.5)).max() < 1e-4
    base = naive_log_probs(load_base_model(trained.settings), text, titles, temperature=0.5)
    assert np.abs(found - base).max() > 0.1, "the adapter changes nothing that could be seen"


@pytest.mark.parametrize(("kind", "what"), [({"use_dora": True}, "DoRA"), ({"use_rslora": True}, "rsLoRA"),
                                            ({"modules_to_save": ["norm"]}, "a whole layer")])  # fmt: skip
def test_other_kinds_of_adapters_merge_to_what_they_were_beside_the_base(
    base: Path, tmp_path: Path, kind: dict[str, Any], what: str
) -> None:
    trained = _trained(base, tmp_path, "nf4", **kind)
    text = random_text(2, 10)
    titles = [[5, 3], [5, 6, 3], [7, 3]]
    beside = naive_log_probs(load_adapted(trained.settings, tmp_path).eval(), text, titles)
    merged = merge_adapter(load_base_model(trained.settings), tmp_path).eval()
    assert np.abs(beside - naive_log_probs(merged, text, titles)).max() < 1e-4, what


@pytest.mark.parametrize("quantize", QUANTIZED)
def test_evaluation_changes_neither_gradients_nor_what_is_merged(base: Path, quantize: Any) -> None:
    """On CPUs with bf16, bitsandbytes packs NF4 weights anew in the first evaluation, and no gradient gets past."""
    adapted = add_lora(
        load_base_model(ModelSettings(base=str(base), device="cpu", quantize=quantize)),
        FinetuneSettings(rank=2),
    )
    ids = torch.from_numpy(random_text(4, 12).astype(np.int64))[None]

    def gradients() -> list[torch.Tensor]:
        adapted.train().zero_grad()
        adapted(input_ids=ids, labels=ids).loss.backward()
        return [weight.grad.clone() for weight in adapted.parameters() if weight.grad is not None]

    before = gradients()
    with torch.inference_mode():
        evaluated = adapted.eval()(input_ids=ids).logits
    after = gradients()
    assert sum(float(one.abs().sum()) for one in before) > 0
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    with torch.no_grad():
        assert torch.equal(evaluated, adapted.train()(input_ids=ids).logits), "training computes other numbers"


@pytest.mark.parametrize(("trained_on", "here"), [("nf4", "none"), ("nf4", "int8"), ("int8", "nf4"), ("none", "nf4")])
def test_adapter_of_another_quantization_is_refused(
    trained_once: Callable[[str], Trained], trained_on: str, here: str
) -> None:
    with pytest.raises(ModelError, match=r"was trained on .* with model\.quantize") as caught:
        trained_once(trained_on).load(quantize=here)
    for part in (f"model.quantize {trained_on}", f"with {here}", "whereupon export --merge"):
        assert part in str(caught.value)


def test_card_from_before_quantization_fits_an_unquantized_base(
    trained_once: Callable[[str], Trained], tmp_path: Path
) -> None:
    trained = trained_once("none")
    folder = Path(shutil.copytree(trained.adapter, tmp_path / "adapter"))
    card = json.loads((folder / "whereupon.json").read_text())
    del card["quantize"]
    (folder / "whereupon.json").write_text(json.dumps(card))
    Trained(trained.base, folder, "none").load()
    with pytest.raises(ModelError, match=r"model\.quantize none"):
        Trained(trained.base, folder, "nf4").load()


def test_base_that_is_quantized_already_is_refused(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match=r"quantized already \(gptq\)"):
        load_base_model(ModelSettings(base=str(folder), device="cpu", quantize="nf4"))


def test_base_with_transposed_weights_is_refused(tmp_path: Path) -> None:
    tiny_model(tiny_config("gpt2")).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"keeps its weights transposed.* set model\.quantize to none"):
        load_base_model(ModelSettings(base=str(tmp_path), device="cpu", quantize="nf4"))


def test_quantization_without_bitsandbytes_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"^model\.quantize is nf4, which needs bitsandbytes: run `pip install"):
        load_base_model(ModelSettings(base=str(base), device="cpu", quantize="nf4"))
