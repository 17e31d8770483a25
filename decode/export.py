"""Base model and adapter as plain folders, for whereupon's server and for other programs."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import say
from ..errors import ModelError, first_line
from ..files import atomic_path, write_json
from .adapter_card import ADAPTER_CARD, check_card, quantization_of, read_card
from .identity import ADAPTER_FILES, base_identity

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .settings import ModelSettings


def export_merged(settings: ModelSettings, adapter: Path, folder: Path) -> None:
    """Write base model and adapter in one as a transformers checkpoint with tokenizer, and the adapter's card.

    Raises ModelError where `folder` exists, for an adapter of another base model, and as `write_merged`.
    """
    card = read_card(adapter)
    check_card(card, adapter, base_identity(settings))
    with _new_folder(folder) as unfinished:
        unfinished.mkdir()
        write_merged(settings, adapter, unfinished)
        # Temperature and prompt settings belong to the weights: a reader of them needs both.
        write_json(unfinished / ADAPTER_CARD, card | {"merged": True})
    was = "" if quantization_of(card) == "none" else f", whose base was {quantization_of(card)} and is plain now"
    say(f"{folder} holds a transformers model{was}")


def export_adapter(adapter: Path, folder: Path) -> None:
    """Copy an adapter as a PEFT folder. Raises ModelError where `folder` exists, or the adapter is not whole."""
    card = read_card(adapter)
    names = [name for name in (*ADAPTER_FILES, ADAPTER_CARD, "README.md") if (adapter / name).is_file()]
    with _new_folder(folder) as unfinished:
        unfinished.mkdir()
        for name in names:
            shutil.copy2(adapter / name, unfinished / name)
    trained = card.get("finetune", {})
    if trained.get("adapter") == "dora" or trained.get("modules_to_save"):
        say("vLLM loads neither DoRA nor modules_to_save as an adapter: for vLLM, export with --merge", "yellow")
    say(f"{folder} holds a PEFT adapter for {card.get('base_model')} (model.quantize {quantization_of(card)})")


def write_merged(settings: ModelSettings, adapter: Path, folder: Path) -> PreTrainedModel:
    """Base model and adapter in one, with the tokenizer, as files in `folder`; the model.

    Raises ModelError for a base model or an adapter that is missing, corrupt, or cannot be saved.
    """
    from .models import load_base_model, merge_adapter

    model = merge_adapter(load_base_model(settings), adapter)
    _save(settings, model, folder)
    return model


def write_student(settings: ModelSettings, teacher: PreTrainedModel, num_layers: int, folder: Path) -> None:
    """A merged model with fewer of its layers (`kept_layers`), and the tokenizer, as a plain checkpoint in `folder`.

    Raises ModelError as `kept_layers`, `with_layers` and `write_merged`.
    """
    from .layers import kept_layers, with_layers
    from .layers import num_layers as layers_of

    _save(settings, with_layers(teacher, kept_layers(layers_of(teacher), num_layers)), folder)


def _save(settings: ModelSettings, model: PreTrainedModel, folder: Path) -> None:
    from transformers import GenerationConfig

    from .models import load_tokenizer

    # What a checkpoint's generation_config.json says would silently change decoding; an invalid one cannot be saved.
    model.generation_config = GenerationConfig()
    try:
        model.save_pretrained(folder)
    except (ValueError, NotImplementedError, ImportError) as error:  # a base model in another quantization, say
        raise ModelError(
            f"transformers cannot save {settings.base} merged with its adapter ({first_line(error)}); expected a "
            "base model of plain weights: choose another model.base."
        ) from error
    (folder / "generation_config.json").unlink(missing_ok=True)
    load_tokenizer(settings).tokenizer.save_pretrained(folder)


def _new_folder(folder: Path) -> contextlib.AbstractContextManager[Path]:
    """See `atomic_path`. Raises ModelError where something of that name exists."""
    if folder.exists():
        raise ModelError(f"{folder} exists and is not replaced: name another folder for -o, or remove it.")
    return atomic_path(folder)
