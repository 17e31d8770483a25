"""Base models in eight or four bits, by bitsandbytes: reading them, and turning them into plain weights again.

QLoRA: arXiv 2305.14314; LLM.int8: arXiv 2208.07339. Output layer and embeddings stay as they are, tied or not.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from ..console import say
from ..errors import ModelError
from ..files import read_object

if TYPE_CHECKING:
    from .settings import ModelSettings


def loading_arguments(
    settings: ModelSettings, folder: Path, dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """What `from_pretrained` needs beside number format and folder to quantize the weights while it reads them.

    Empty where nothing is quantized. Raises ModelError without bitsandbytes, and for weights that are quantized
    already.
    """
    if settings.quantize == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"model.quantize is {settings.quantize}, which needs bitsandbytes: run `pip install 'whereupon[train]'`, "
            "or set model.quantize to none."
        )
    if (stored := read_object(folder / "config.json").get("quantization_config")) is not None:
        method = stored.get("quant_method", "unknown") if isinstance(stored, dict) else stored
        raise ModelError(
            f"model.quantize is {settings.quantize} but the weights of {settings.base} are quantized already "
            f"({method}): choose a base model of plain weights, or set model.quantize to none."
        )
    if settings.quantize == "nf4":
        # The constants of the blocks are quantized too: 4.13 rather than 4.5 bits a weight.
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    else:
        config = BitsAndBytesConfig(load_in_8bit=True)
    return {"quantization_config": config, "device_map": {"": device}}


def is_quantized(model: nn.Module) -> bool:
    """Whether some weights of a model are held in few bits."""
    return getattr(model, "quantization_method", None) is not None


def compute_plainly(model: nn.Module, name: str) -> None:
    """Make every pass over a quantized model, in training or not, one with its weights as numbers of `compute_dtype`.

    On CPUs bitsandbytes has faster ways for evaluation. They round activations, so that what is evaluated would not be
    what was trained. The one of NF4 also rearranges the weights for good: a later training step has no gradient below
    such a layer, and what is dequantized is nonsense (0.50.2).

    `name`: of the model. Raises ModelError for a model whose weights cannot be made plain again.
    """
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    class Int8OnCpu(Linear8bitLt):
        """In training mode always, where bitsandbytes multiplies with the dequantized weights."""

        def train(self, mode: bool = True) -> Any:
            return super().train(True)

    for layer in model.modules():
        if getattr(layer, "source_cls", None) is Conv1D:
            raise ModelError(
                f"The model {name} keeps its weights transposed, as GPT-2 does, and could not be merged with an "
                "adapter once it is quantized: set model.quantize to none."
            )
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False
        elif isinstance(layer, Linear8bitLt) and layer.weight.device.type == "cpu":
            layer.__class__ = Int8OnCpu
            layer.train()


def dequantized(model: Any, dtype: torch.dtype) -> Any:
    """The model with plain weights of `dtype`, in place: what the quantized numbers stand for. Says so."""
    loudness = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it would say the same in its own words
    try:
        plain = model.dequantize(dtype=dtype)
    finally:
        transformers_logging.set_verbosity(loudness)
    plain.is_loaded_in_4bit = plain.is_loaded_in_8bit = False  # peft asks for these
    say(f"quantized weights made {str(dtype).removeprefix('torch.')} again, to be merged with the adapter")
    return plain


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights that a model holds, with what is needed to read quantized ones; shared ones count once."""
    tensors = [held for held in model.state_dict(keep_vars=True).values() if isinstance(held, torch.Tensor)]
    return sum({held.data_ptr(): held.nbytes for held in tensors if held.numel()}.values())
