"""Which device a model runs on, and in which number format. Imports torch only in calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..errors import ModelError
from .settings import ModelSettings

if TYPE_CHECKING:
    import torch

Device = Literal["cpu", "cuda"]
# As `torch.cpu.get_capabilities` names them: x86-64 first, then ARM.
_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def choose_device(settings: ModelSettings) -> torch.device:
    """The device of training, evaluation and recommendations. Raises ModelError for a GPU that is not there.

    Apple's GPUs (MPS) are never chosen: no test runs there.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise ModelError("model.device is cuda but torch finds no GPU: set model.device to auto or cpu.")
    return torch.device("cuda" if has_gpu and settings.device != "cpu" else "cpu")


def resolve_dtype(settings: ModelSettings, device: Device | None = None) -> Literal["float32", "bfloat16"]:
    """The number format of the weights on a device, by default the chosen one.

    `auto` is float32 on every CPU: there, results are the same on all machines, and vLLM serves it fastest.
    """
    if settings.dtype != "auto":
        return settings.dtype
    device = device or ("cuda" if choose_device(settings).type == "cuda" else "cpu")
    return "bfloat16" if device == "cuda" and has_native_bf16("cuda") else "float32"


def has_native_bf16(device: Device) -> bool:
    """Whether a device multiplies bfloat16 in hardware; torch computes it everywhere, but slowly where it emulates."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not torch.backends.mkldnn.is_available():  # torch reaches these instructions through oneDNN only: not on a Mac
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in _CPU_BF16)
