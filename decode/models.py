"""Loading a base model, its tokenizer and an adapter, and refusing pairs that do not belong together."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import polars as pl
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ..catalogue import Catalogue
from ..errors import DataError, ModelError
from ..files import read_json
from ..prompts import PromptEncoder, PromptSettings
from .base_models import resolve_base_model
from .settings import ModelSettings
from .tokenizer import Tokenizer
from .transformers_engine import TransformersEngine

ADAPTER_CARD = "whereupon.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
# What must agree between an adapter and the run it is used in, and what to say if it does not.
MUST_AGREE = {
    "base_model": "base model",
    "template_hash": "prompt template",
    "catalogue_hash": "catalogue",
    "prompts": "set of prompt settings",
}


def build_encoder(items: pl.DataFrame, location: str, prompts: PromptSettings, tokenizer: Tokenizer) -> PromptEncoder:
    """Catalogue (`items`: a row per item index, with `item_id` and `title`) and prompt encoder for one tokenizer."""
    catalogue = Catalogue.build(items, tokenizer)
    return PromptEncoder.build(prompts, catalogue, tokenizer, location, tokenizer.prefix)


def load_engine(
    model: ModelSettings, prompts: PromptSettings, items: pl.DataFrame, location: str, adapter: Path | None,
    served: Catalogue | None = None,
) -> tuple[TransformersEngine, PromptEncoder, dict[str, Any]]:  # fmt: skip
    """Everything that answers questions: the engine, the encoder of its prompts, and the adapter's card.

    `items` are those that prompts tell of and, where `served` is None, those that may be answered. `adapter` None is
    the base model as it is, with an empty card. Raises ModelError, CatalogueError or PromptError for
    what is missing or does not belong together; the adapter's card is checked before any weights are read.
    """
    encoder = build_encoder(items, location, prompts, load_tokenizer(model))
    trie = (served or encoder.catalogue).trie
    if adapter is None:
        return TransformersEngine(load_base_model(model), trie), encoder, {}
    card = read_card(adapter)
    check_card(card, adapter, {"base_model": model.base, **encoder.identity})
    merged = merge_adapter(load_base_model(model), adapter)
    return TransformersEngine(merged, trie, card["temperature"]), encoder, card


def load_tokenizer(settings: ModelSettings) -> Tokenizer:
    """The base model's tokenizer. Raises ModelError where it cannot be read."""
    path = resolve_base_model(settings.base)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except Exception as error:  # a damaged file raises many kinds, from a bare Exception on
        raise ModelError(
            f"The tokenizer of {settings.base} cannot be read ({_first_line(error)}); fetch the model again."
        ) from error
    return Tokenizer(tokenizer)


def load_base_model(settings: ModelSettings) -> PreTrainedModel:
    """The base model on its device. Raises ModelError where it cannot be read, or lacks weights."""
    path, device = resolve_base_model(settings.base), choose_device(settings)
    try:
        read: Any = AutoModelForCausalLM.from_pretrained(path, dtype=_dtype(settings.dtype), output_loading_info=True)
    except Exception as error:  # a damaged file raises many kinds
        raise ModelError(
            f"The base model {settings.base} cannot be read ({_first_line(error)}); fetch it again."
        ) from error
    model, info = read
    if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers and goes on
        raise ModelError(
            f"The base model {settings.base} lacks {len(missing)} weights ({missing[0]}, ...); "
            "expected a whole causal language model."
        )
    loaded: PreTrainedModel = model.to(device)
    return loaded


def choose_device(settings: ModelSettings) -> torch.device:
    """Where the model runs. Raises ModelError for a GPU that is not there."""
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise ModelError("model.device is cuda but torch finds no GPU: set model.device to auto or cpu.")
    return torch.device("cuda" if has_gpu and settings.device != "cpu" else "cpu")


def check_card(card: dict[str, Any], folder: Path, expected: dict[str, Any]) -> None:
    """Raise ModelError unless the adapter was trained with the base model, template and catalogue of `expected`."""
    for key, name in MUST_AGREE.items():
        found, wanted = card.get(key), expected[key]
        if found == wanted:
            continue
        if isinstance(found, dict) and isinstance(wanted, dict):
            names = [name for name in wanted if found.get(name) != wanted[name]] or sorted(found.keys() - wanted.keys())
            found, wanted = ({name: of.get(name) for name in names} for of in (found, wanted))
        raise ModelError(
            f"The adapter in {folder} was trained for another {name} ({_short(found)}) than this run's "
            f"({_short(wanted)}): run `whereupon finetune` again, or use the configuration of its training."
        )


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base model with the adapter's update added to its weights. Raises ModelError for a corrupt adapter."""
    if absent := [name for name in ADAPTER_FILES if not (folder / name).is_file()]:  # peft would ask the hub
        raise ModelError(f"The adapter in {folder} is corrupt (no {absent[0]}): run `whereupon finetune` again.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, str(folder))
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except Exception as error:  # peft and safetensors raise many kinds for a damaged file
        raise ModelError(
            f"The adapter in {folder} is corrupt ({_first_line(error)}): run `whereupon finetune` again."
        ) from error
    return merged


def read_card(folder: Path) -> dict[str, Any]:
    """The adapter's `whereupon.json`, which is written last. Raises ModelError where it is missing or damaged."""
    if not (folder / ADAPTER_CARD).is_file():
        raise ModelError(
            f"There is no trained adapter in {folder} (no {ADAPTER_CARD}): run `whereupon finetune` first."
        )
    try:
        card: dict[str, Any] = read_json(folder / ADAPTER_CARD)
        float(card["temperature"])
    except (DataError, KeyError, TypeError, ValueError) as error:
        what = f"{ADAPTER_CARD}: {_first_line(error)}"
        raise ModelError(f"The adapter in {folder} is corrupt ({what}): run `whereupon finetune` again.") from error
    return card


def _dtype(name: str) -> torch.dtype | str:
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(name, "auto")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _short(value: Any) -> str:
    """As text, a dictionary without its braces, a hash by its beginning."""
    text = ", ".join(f"{name}: {v}" for name, v in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 60 else f"{text[:16]}..."
