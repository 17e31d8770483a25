"""Loading: what belongs together works as one, and what does not is refused in a sentence."""

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
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from whereupon.decode import models
from whereupon.decode.models import adapter_identity, build_encoder, load_base_model, load_engine, load_tokenizer
from whereupon.decode.search import score_all
from whereupon.decode.settings import ModelSettings
from whereupon.decode.tokenizer import Tokenizer
from whereupon.errors import ModelError
from whereupon.prompts import PromptSettings
from whereupon.tests.decode.tiny import byte_tokenizer, naive_log_probs, random_text, tiny_config, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

TITLES = ["Blue Cafe", "Blue Cafe 2", "Red Bar", "Crème brûlée", "喫茶店"]
ITEMS = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(TITLES))], "title": TITLES})
EVENTS = pl.DataFrame()  # prompts that show nothing of others read none
PROMPTS = PromptSettings(budget_tokens=512, profile_tokens=64)
RECIPE = {"title": "{{ name }}", "title_attributes": ["street"]}
Damage = Callable[[Path], Any]


@dataclass(frozen=True)
class Trained:
    """A base model's directory and an adapter's, which belong together."""

    base: Path
    adapter: Path

    @property
    def settings(self) -> ModelSettings:
        return ModelSettings(base=str(self.base), device="cpu")

    def load(self, **changes: Any) -> Any:
        fitting = {"prompts": PROMPTS, "items": ITEMS, "events": EVENTS, "location": "item", "adapter": self.adapter}
        fitting["title_recipe"] = RECIPE
        return load_engine(self.settings, **fitting | changes)


@pytest.fixture(scope="module", name="trained_once")
def _trained_once(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    base, adapter = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("adapter")
    byte_tokenizer(base, before="<s>")
    # More rows than the tokenizer has tokens, as models come.
    model = tiny_model(tiny_config("llama", vocab_size=300, max_position_embeddings=512))
    model.save_pretrained(base)
    lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model, lora).save_pretrained(str(adapter))
    settings = ModelSettings(base=str(base))
    tokenizer = load_tokenizer(settings)
    encoder = build_encoder(ITEMS, EVENTS, "item", PROMPTS, tokenizer)
    card = {**adapter_identity(settings, encoder, tokenizer, RECIPE), "temperature": 0.5, "seed": 7}
    (adapter / "whereupon.json").write_text(json.dumps(card))
    return Trained(base, adapter)


@pytest.fixture(name="trained")
def _trained(trained_once: Trained, tmp_path: Path) -> Trained:
    """A copy of the adapter to damage; the base model is shared."""
    return Trained(trained_once.base, Path(shutil.copytree(trained_once.adapter, tmp_path / "adapter")))


def _change_card(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "whereupon.json").read_text())
    (folder / "whereupon.json").write_text(json.dumps(card | changes))


def _change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


# The tokenizer


@pytest.mark.parametrize(
    ("before", "after", "prefix"),
    [("<s>", "", (0,)), ("", "", ()), ("<s>", "</s>", (0,)), ("", "</s>", ())],
    ids=["BOS", "nothing", "BOS and EOS", "EOS"],
)
def test_prefix_is_what_the_tokenizer_puts_before_a_text(before: str, after: str, prefix: tuple[int, ...]) -> None:
    tokenizer = Tokenizer(byte_tokenizer(before=before, after=after))
    assert tokenizer.prefix == prefix
    assert tokenizer(["ab", "b"]) == [[*tokenizer(["a"])[0], *tokenizer(["b"])[0]], tokenizer(["b"])[0]]


def test_no_texts_have_no_tokens() -> None:
    assert Tokenizer(byte_tokenizer())([]) == []


def test_decoding_gives_back_what_was_encoded_spaces_and_all() -> None:
    tokenizer, text = Tokenizer(byte_tokenizer(before="<s>")), " Crème , brûlée 's 喫茶店 .\n"
    assert tokenizer.decode(tokenizer([text])[0]) == text


def test_prompts_begin_with_the_prefix(trained_once: Trained) -> None:
    encoder = build_encoder(ITEMS, EVENTS, "item", PROMPTS, load_tokenizer(trained_once.settings))
    assert encoder.preamble[0] == 0
    assert (encoder.preamble[1:] > 1).all()


# Loading


def test_adapter_is_merged_and_answers_like_the_trained_model_at_its_temperature(trained_once: Trained) -> None:
    engine, encoder, card = trained_once.load()
    model = PeftModel.from_pretrained(load_base_model(trained_once.settings), str(trained_once.adapter)).eval()
    text = random_text(1, 10)
    titles = [encoder.catalogue.trie.title_tokens(item).tolist() for item in range(len(TITLES))]
    found = score_all(engine.read(text, np.array([9])), engine.trie)
    assert np.abs(found - naive_log_probs(model, text, titles, temperature=0.5)).max() < 1e-4
    assert card["seed"] == 7


def test_base_model_without_adapter_answers_at_temperature_one(trained_once: Trained) -> None:
    engine, encoder, card = trained_once.load(adapter=None)
    text = random_text(1, 10)
    titles = [encoder.catalogue.trie.title_tokens(item).tolist() for item in range(len(TITLES))]
    expected = naive_log_probs(load_base_model(trained_once.settings), text, titles)
    assert np.abs(score_all(engine.read(text, np.array([9])), engine.trie) - expected).max() < 1e-4
    assert card == {}


# Adapters that do not belong here


def test_missing_adapter_says_to_finetune(trained: Trained) -> None:
    (trained.adapter / "whereupon.json").unlink()
    with pytest.raises(ModelError, match=r"^There is no trained adapter in \S+ \(no whereupon.json\): run .*\.$"):
        trained.load()


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("base_hash", "0" * 64, "base model"),
        ("tokenizer", None, "tokenizer"),
        ("template_hash", "0" * 64, "prompt template"),
        ("title_recipe", {"title": None, "title_attributes": []}, "recipe of titles"),
        ("prompts", {"budget_tokens": 1}, "set of prompt settings"),
    ],
)
def test_adapter_trained_for_something_else_is_refused(trained: Trained, key: str, value: Any, name: str) -> None:
    _change_card(trained.adapter, **{key: value})
    said = (
        rf"^The adapter in \S+ was trained for another {name} \(.*\) than this run's \(.*\): run `whereupon finetune`"
    )
    with pytest.raises(ModelError, match=said):
        trained.load()


def test_adapter_answers_with_new_and_renamed_items(trained: Trained) -> None:
    renamed = ITEMS.with_columns(pl.col("title").replace("Red Bar", "Red Pub"))
    new = pl.DataFrame({"item_id": ["i9"], "title": ["Green Tea House"]})
    engine, encoder, _ = trained.load(items=pl.concat([renamed, new]))
    found = score_all(engine.read(random_text(1, 10), np.array([9])), engine.trie)
    assert found.shape[-1] == encoder.catalogue.items.height == 6
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-5)


def test_adapter_meets_another_recipe_of_titles_and_is_refused(trained: Trained) -> None:
    said = r"another recipe of titles \(title: {{ name }}\) than this run's \(title: {{ id }}\): run"
    with pytest.raises(ModelError, match=said):
        trained.load(title_recipe=RECIPE | {"title": "{{ id }}"})


def test_adapter_meets_a_base_model_that_was_changed_in_place_and_is_refused(trained: Trained, tmp_path: Path) -> None:
    moved = Trained(Path(shutil.copytree(trained.base, tmp_path / "moved")), trained.adapter)
    moved.load()  # another folder of the same weights is the same model
    weights = load_file(moved.base / "model.safetensors")
    next(iter(weights.values()))[0, 0] += 1
    save_file(weights, moved.base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"another base model \(.*, hash .*\) than this run's \(.*moved, hash"):
        moved.load()


def test_adapter_meets_other_prompt_settings_and_is_refused(trained: Trained) -> None:
    said = r"another set of prompt settings \(budget_tokens: 512\) than this run's \(budget_tokens: 256\): run"
    with pytest.raises(ModelError, match=said):
        trained.load(prompts=PromptSettings(budget_tokens=256, profile_tokens=64))


def test_adapter_is_refused_before_weights_are_read(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    _change_card(trained.adapter, template_hash="0")
    monkeypatch.setattr(models, "load_base_model", lambda settings: pytest.fail("weights were read"))
    with pytest.raises(ModelError, match="another prompt template"):
        trained.load()


# Damaged adapters


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _cut(folder / "adapter_model.safetensors"),
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b""),
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        lambda folder: _cut(folder / "adapter_config.json"),
        lambda folder: (folder / "adapter_config.json").unlink(),
        lambda folder: _cut(folder / "whereupon.json"),
        lambda folder: (folder / "whereupon.json").write_text("[]"),
        lambda folder: _change_card(folder, temperature=None),
        lambda folder: _change_weights(folder, lambda weights: weights.popitem()),
        lambda folder: _change_weights(folder, lambda weights: next(iter(weights.values())).fill_(float("nan"))),
        lambda folder: _change_weights(folder, lambda weights: weights.update({min(weights): torch.ones(3, 3)})),
    ],
    ids=[
        "weights cut short", "weights empty", "no weights", "settings cut short", "no settings", "card cut short",
        "card is a list", "no temperature", "a weight is missing", "a weight is no number",
        "a weight of another shape",
    ],
)  # fmt: skip
def test_damaged_adapter_is_refused_in_one_sentence(trained: Trained, damage: Damage) -> None:
    damage(trained.adapter)
    said = r"^The adapter in \S+ is corrupt \([^\n]+\): run `whereupon finetune` again\.$"
    with pytest.raises(ModelError, match=said):
        trained.load()


# Damaged base models


@pytest.fixture(name="base")
def _base(trained_once: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_once.base, tmp_path / "base"))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_base_model_cut_short_is_refused_in_one_sentence(base: Path, file: str) -> None:
    _cut(base / file)
    with pytest.raises(ModelError, match=r"^The base model \S+ cannot be read \([^\n]+\); fetch it again\.$"):
        load_base_model(ModelSettings(base=str(base)))


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_auto_is_float32_on_a_cpu_whatever_the_checkpoint_is_stored_in(base: Path, stored: torch.dtype) -> None:
    load_base_model(ModelSettings(base=str(base))).to(stored).save_pretrained(base)
    assert load_base_model(ModelSettings(base=str(base), device="cpu")).dtype == torch.float32
    assert load_base_model(ModelSettings(base=str(base), device="cpu", dtype="bfloat16")).dtype == torch.bfloat16


def test_base_model_without_some_weights_is_refused(base: Path) -> None:
    """transformers would fill them with random numbers."""
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks 1 weights \(model.layers.1.mlp.up_proj.weight, ...\); expected a whole"
    ):
        load_base_model(ModelSettings(base=str(base)))


def test_tokenizer_cut_short_is_refused_in_one_sentence(base: Path) -> None:
    _cut(base / "tokenizer.json")
    with pytest.raises(ModelError, match=r"^The tokenizer of \S+ cannot be read \([^\n]+\); fetch the model again\.$"):
        load_tokenizer(ModelSettings(base=str(base)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there_is_refused(base: Path) -> None:
    with pytest.raises(ModelError, match=r"^model.device is cuda but torch finds no GPU: set model.device to auto or"):
        load_base_model(ModelSettings(base=str(base), device="cuda"))


def test_tokenizer_puts_a_message_into_its_chat_format_if_it_has_one() -> None:
    plain = byte_tokenizer()
    assert Tokenizer(plain).chat is None
    plain.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant: {% endif %}"
    )
    chat = Tokenizer(plain).chat
    assert chat is not None
    assert chat("Log.") == "<s>user: Log.</s>\n<s>assistant: "
