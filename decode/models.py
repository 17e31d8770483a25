"""Loading a base model, its tokenizer and an adapter."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ..catalogue import Catalogue
from ..errors import ModelError, first_line
from ..files import sha256_text
from ..prompts import PromptEncoder, PromptSettings
from .adapter_card import check_card, check_data, read_card
from .architecture import searchable_model
from .hardware import choose_device, resolve_dtype
from .identity import base_identity, check_files
from .quantize import compute_plainly, dequantized, is_quantized, loading_arguments
from .settings import ModelSettings
from .tokenizer import Tokenizer
from .transformers_engine import TransformersEngine


def build_encoder(
    items: pl.DataFrame, events: pl.DataFrame, location: str, prompts: PromptSettings, tokenizer: Tokenizer
) -> PromptEncoder:
    """Catalogue (`items`: a row per item index, with `item_id` and `title`) and prompt encoder for one tokenizer.

    `events`: of the histories; with `prompts.similar_tokens`, prompts say what users of the training split did.
    """
    catalogue = Catalogue.build(items, tokenizer)
    encoder = PromptEncoder.build(prompts, catalogue, tokenizer, location, tokenizer.prefix, tokenizer.chat)
    return encoder.with_others(events)


def adapter_identity(
    model: ModelSettings, encoder: PromptEncoder, tokenizer: Tokenizer, title_recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """What an adapter's card says it belongs to, see `check_card`; `title_recipe` is that of the histories."""
    bound = {"tokenizer": tokenizer.fingerprint, "title_recipe": dict(title_recipe)}
    if encoder.templates.pack.chat:  # the tokenizer's fingerprint says nothing of its chat format
        bound["chat_hash"] = sha256_text(encoder.preamble_text)
    return {**base_identity(model), **bound, **encoder.identity}


def load_engine(
    model: ModelSettings, prompts: PromptSettings, items: pl.DataFrame, events: pl.DataFrame, location: str,
    adapter: Path | None, served: Catalogue | None = None, *, title_recipe: Mapping[str, Any],
    data_hash: str | None = None,
) -> tuple[TransformersEngine, PromptEncoder, dict[str, Any]]:  # fmt: skip
    """Everything that answers questions: the engine, the encoder of its prompts, and the adapter's card.

    `items` are those that prompts show and, where `served` is None, those that may be answered; `events`: see
    `build_encoder`. `adapter` None is the base model as it is, with an empty card. `data_hash` is that of the data
    which an adapter must have been trained on; None: any. Raises ModelError, CatalogueError or PromptError for what is
    missing or does not belong together, DataError for other data; the adapter's card is checked before any weights are
    read.
    """
    tokenizer = load_tokenizer(model)
    encoder = build_encoder(items, events, location, prompts, tokenizer)
    trie = (served or encoder.catalogue).trie
    if adapter is None:
        return TransformersEngine(load_base_model(model), trie), encoder, {}
    card = read_card(adapter)
    check_card(card, adapter, adapter_identity(model, encoder, tokenizer, title_recipe))
    if data_hash is not None:
        check_data(card, adapter, data_hash)
    return TransformersEngine(load_adapted(model, adapter), trie, card["temperature"]), encoder, card


def load_tokenizer(settings: ModelSettings) -> Tokenizer:
    """The base model's tokenizer. Raises ModelError where it cannot be read, or its model cannot be searched."""
    path = searchable_model(settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except Exception as error:  # a damaged file raises many kinds, from a bare Exception on
        what = f"The tokenizer of {settings.base} cannot be read ({first_line(error)}); fetch the model again."
        raise ModelError(what) from error
    return Tokenizer(tokenizer)


def load_base_model(settings: ModelSettings) -> PreTrainedModel:
    """The base model on its device, quantized if `quantize` says so.

    Raises ModelError where it cannot be read, cannot be searched (`check_architecture`), lacks weights, or cannot be
    quantized: see `loading_arguments` and `compute_plainly`.
    """
    path, device = searchable_model(settings), choose_device(settings)
    dtype = getattr(torch, resolve_dtype(settings))
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()  # in a log each of its steps is a line
    how = loading_arguments(settings, path, dtype, device)
    try:
        read: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, output_loading_info=True, **how)
    except Exception as error:  # a damaged file raises many kinds
        what = f"The base model {settings.base} cannot be read ({first_line(error)}); fetch it again."
        raise ModelError(what) from error
    model, info = read
    if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers and goes on
        raise ModelError(
            f"The base model {settings.base} lacks {len(missing)} weights ({missing[0]}, ...); "
            "expected a whole causal language model."
        )
    if is_quantized(model):
        compute_plainly(model, settings.base)
        quantized: PreTrainedModel = model  # read onto its device; moving it is refused
        return quantized
    loaded: PreTrainedModel = model.to(device)
    return loaded


def load_adapted(settings: ModelSettings, folder: Path) -> PreTrainedModel:
    """Base model and adapter: merged, or beside each other where the base is quantized and cannot hold the update.

    Raises ModelError as `load_base_model` and `merge_adapter`.
    """
    base = load_base_model(settings)
    return _with_adapter(base, folder, merge=False) if is_quantized(base) else merge_adapter(base, folder)


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base model with the adapter's update added to its weights; quantized ones become plain numbers before.

    Rounding the sum to few bits again would lose what the adapter has learnt. Raises ModelError for a corrupt adapter.
    """
    if is_quantized(model):
        check_files(folder)
        model = dequantized(model, model.dtype)
    return _with_adapter(model, folder, merge=True)


def _with_adapter(model: PreTrainedModel, folder: Path, *, merge: bool) -> PreTrainedModel:
    """The base model with the adapter beside its weights, or merged into them."""
    from peft import PeftModel  # some seconds to import, for which a prompt that is only shown need not wait

    check_files(folder)  # peft would ask the hub
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, str(folder))
        found: Any = adapted.merge_and_unload(safe_merge=True) if merge else adapted.get_base_model()
    except Exception as error:  # peft and safetensors raise many kinds for a damaged file
        raise ModelError(
            f"The adapter in {folder} is corrupt ({first_line(error)}): run `whereupon finetune` again."
        ) from error
    assert isinstance(found, PreTrainedModel)
    return found
