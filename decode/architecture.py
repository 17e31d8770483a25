"""What a model's configuration says about searching it: layers that cannot follow branches, lengths and windows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig

from ..errors import ModelError, first_line
from .base_models import resolve_base_model
from .settings import ModelSettings

# Settings that bound how far back a token sees. A sliding window is no such bound: the branches' mask has it.
BOUNDS = ("max_position_embeddings", "attention_chunk_size")
# Kinds of layers with a running state: a mask cannot keep the tokens of one branch out of another's.
RECURRENT = {"conv", "hybrid", "hybrid_sliding", "linear_attention", "mamba", "recurrent"}
SLIDING = "sliding_attention"
LOCAL = "local"  # GPT-Neo's layers: a window over the order in memory, where the branches lie side by side


def searchable_model(settings: ModelSettings) -> Path:
    """The folder of a base model that can be searched, by its configuration. Raises ModelError for any other."""
    path = resolve_base_model(settings.base, settings.revision)
    try:
        config = AutoConfig.from_pretrained(path)
    except Exception as error:  # a damaged file raises many kinds
        what = f"The base model {settings.base} cannot be read ({first_line(error)}); fetch it again."
        raise ModelError(what) from error
    check_architecture(config, settings.base)
    return path


def check_architecture(config: PreTrainedConfig, name: str) -> None:
    """Raise ModelError for a model whose layers keep a running state (Mamba, LFM2, Qwen3.5) or a window of their own.

    Needs no weights, so a verb says it before it reads or trains anything.
    """
    kind = f"a running state ({', '.join(sorted(kinds))})" if (kinds := _recurrent(config)) else None
    if LOCAL in (getattr(config, "attention_layers", None) or ()):
        kind = f"local attention ({config.model_type})"
    if kind:
        raise ModelError(
            f"The model {name} has layers with {kind}, which cannot follow several branches; expected a causal "
            "transformer of attention layers that see the whole text or a sliding window: choose another model.base."
        )


def _recurrent(config: PreTrainedConfig) -> set[str]:
    """The kinds of layers with a running state."""
    kinds = RECURRENT.intersection(getattr(config.get_text_config(), "layer_types", None) or ())
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if not kinds and known and getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "_is_stateful", False):
        kinds = {config.model_type}
    return kinds


def longest_text(config: PreTrainedConfig) -> int | None:
    """How many tokens a model sees at once; None where nothing bounds them."""
    bounds = [getattr(config.get_text_config(), name, None) for name in BOUNDS]
    return min((bound for bound in bounds if bound), default=None)


def sliding_window(config: PreTrainedConfig) -> int | None:
    """How many tokens a layer with a sliding window sees, itself included; None where no layer has one."""
    text: Any = config.get_text_config()
    if (kinds := getattr(text, "layer_types", None)) and SLIDING not in kinds:
        return None
    window: int | None = getattr(text, "sliding_window", None)
    return window


def has_layer_types(config: PreTrainedConfig) -> bool:
    """Whether the layers are of named kinds, each with a mask of its own; else one mask serves all."""
    return bool(getattr(config.get_text_config(), "layer_types", None))


@contextmanager
def short_window(config: PreTrainedConfig, num_tokens: int) -> Iterator[None]:
    """For a while the sliding window, if there is one, is this short: a dozen tokens then show what it does."""
    window, text = sliding_window(config), config.get_text_config()
    try:
        if window:
            text.sliding_window = num_tokens
        yield
    finally:
        if window:
            text.sliding_window = window
