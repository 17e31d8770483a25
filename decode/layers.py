"""A model with only some of its layers. The others are left out, and nothing is trained."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from ..errors import ModelError, first_line


def kept_layers(have: int, wanted: int) -> list[int]:
    """Which of `have` layers are kept: `wanted` ones at equal distances, the first and the last among them.

    Raises ModelError for numbers of which no such choice leaves a layer out.
    """
    if not 2 <= wanted < have:
        raise ModelError(
            f"A student has the first and the last layer of its teacher and fewer in all: expected 2 to {have - 1} "
            f"layers, as the teacher has {have}, found {wanted}."
        )
    return [int(layer) for layer in np.linspace(0, have - 1, wanted).round()]


def with_layers(model: PreTrainedModel, kept: list[int]) -> PreTrainedModel:
    """A new model of these layers, with copies of all other weights, on the device of `model`.

    Settings that say something of each layer, such as `layer_types`, keep what they say of those that stay. Raises
    ModelError for a model whose layers are no list, or differ in shape.
    """
    config = copy.deepcopy(model.config)
    text: Any = config.get_text_config()
    have, path = int(text.num_hidden_layers), _path_of_layers(model)
    for name, value in list(vars(text).items()):
        if "layer" in name and isinstance(value, list | tuple) and len(value) == have:
            setattr(text, name, [value[layer] for layer in kept])
    text.num_hidden_layers = len(kept)
    number = {str(layer): str(at) for at, layer in enumerate(kept)}
    weights = {}
    for name, weight in model.state_dict().items():
        if not name.startswith(f"{path}."):
            weights[name] = weight
            continue
        layer, _, rest = name.removeprefix(f"{path}.").partition(".")
        if layer in number:
            weights[f"{path}.{number[layer]}.{rest}"] = weight
    try:
        fewer: Any = type(model)(config)
        fewer.to(device=model.device, dtype=model.dtype)
        fewer.load_state_dict(weights)
    except Exception as error:  # configurations and modules of other libraries raise many kinds
        raise ModelError(
            f"The model {config.name_or_path} cannot lose layers ({first_line(error)}); expected layers that are all "
            "alike: choose another model.base."
        ) from error
    found: PreTrainedModel = fewer.eval()
    return found


def num_layers(model: PreTrainedModel) -> int:
    """Of its text part."""
    return int(model.config.get_text_config().num_hidden_layers)


def _path_of_layers(model: PreTrainedModel) -> str:
    have = num_layers(model)
    paths: list[str] = [
        name for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == have
    ]
    if not paths:
        raise ModelError(
            f"The model {model.config.name_or_path} has no list of its {have} layers, so none can be left out: choose "
            "another model.base."
        )
    return paths[0]
