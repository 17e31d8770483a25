"""The options of `accelerate launch` and the settings, as one Accelerator; and how the base is set up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers

from ..decode.hardware import choose_device, has_native_bf16
from ..errors import ConfigError, first_line
from .settings import FinetuneSettings

if TYPE_CHECKING:
    from ..config import Config

_FIRST_FAST_FP16: Final = (7, 0)
_ACCUMULATE: Final = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"


def as_launched(config: Config) -> Config:
    """The settings with the accumulation that `accelerate launch` was given.

    Raises ConfigError where both say something, and not the same.
    """
    passed, own = int(os.environ.get(_ACCUMULATE, "1")), config.finetune.accumulate
    if passed in (1, own):  # 1 is what accelerate says by default
        return config
    if own != 1:
        raise ConfigError(
            f"accelerate was launched with gradient_accumulation_steps {passed} but finetune.accumulate is {own}: say "
            "it in one place only."
        )
    return config.model_copy(update={"finetune": config.finetune.model_copy(update={"accumulate": passed})})


def accelerator_of(config: Config) -> Accelerator:
    """Raises ConfigError for options of `accelerate launch` that would have no effect, and for trackers whose
    package is missing."""
    chosen, passed = config.finetune.mixed_precision, os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if passed not in ("no", chosen, "bf16" if chosen == "auto" else "no"):  # "no" is what accelerate says by default
        raise ConfigError(
            f"accelerate was launched with mixed_precision {passed} but finetune.mixed_precision is {chosen}: leave it "
            "out there, and set finetune.mixed_precision to no, bf16 or fp16."
        )
    there = {str(name) for name in get_available_trackers()}
    if missing := [name for name in config.finetune.track if name not in there]:
        raise ConfigError(
            f"finetune.track names {missing[0]}, whose package is not installed: run `pip install {missing[0]}`, or "
            "leave it out."
        )
    device = choose_device(config.model)
    precision = passed if passed != "no" else _precision(config.finetune, device)
    AcceleratorState._reset_state()  # in a notebook an earlier training may have had another precision
    more: dict[str, Any] = {}
    if config.finetune.track:
        more = {"log_with": list(config.finetune.track), "project_dir": str(config.run / "tracking")}
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu", **more)
    _check_kind(accelerator)
    accelerator.gradient_accumulation_steps = 1  # every title weighs the same, by weights of our own
    return accelerator


def _check_kind(accelerator: Accelerator) -> None:
    """Raises ConfigError for ways to share a training that would be passed over, or would train something else."""
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA):
        raise ConfigError(
            f"accelerate was launched with {kind.value}, which whereupon does not train with: launch one process a GPU "
            "(MULTI_GPU), or FSDP with fsdp_version 2; examples/accelerate/ holds files of both."
        )
    if kind == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ConfigError(
            "accelerate was launched with the first version of FSDP: set fsdp_version to 2, as in "
            "examples/accelerate/fsdp2.yaml."
        )
    if os.environ.get("ACCELERATE_USE_FSDP", "false") == "true" and kind != DistributedType.FSDP:
        raise ConfigError(
            "accelerate was launched with FSDP, which needs a GPU for each process: accelerate spreads no weights over "
            "CPUs; use examples/accelerate/cpu.yaml there."
        )


def set_up_base(base: Any, settings: FinetuneSettings) -> None:
    """Recomputation in the backward pass, where it is set. Raises ConfigError for a model that cannot do so."""
    if not settings.gradient_checkpointing:
        return
    try:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(f"finetune.gradient_checkpointing: {first_line(error)}; leave it out.") from error


@contextmanager
def attention(base: Any, name: str) -> Iterator[None]:
    """The base model with another implementation of attention, as long as the body runs; "auto" keeps its own.

    Raises ConfigError for one that is not there.
    """
    before = base.config._attn_implementation
    if name not in ("auto", before):
        try:
            base.set_attn_implementation(name)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"finetune.attn_implementation is {name}, which cannot be used here ({first_line(error)}): set it to "
                "auto, eager or sdpa."
            ) from error
    try:
        yield
    finally:
        if base.config._attn_implementation != before:
            base.set_attn_implementation(before)


def _precision(settings: FinetuneSettings, device: torch.device) -> str:
    """For accelerate. Raises ConfigError for fp16 on a CPU, where nothing scales gradients."""
    on_gpu = device.type == "cuda"
    if settings.mixed_precision == "fp16" and not on_gpu:
        raise ConfigError("finetune.mixed_precision is fp16 but training runs on a CPU: set it to auto, bf16 or no.")
    if settings.mixed_precision != "auto":
        return settings.mixed_precision
    if has_native_bf16("cuda" if on_gpu else "cpu"):
        return "bf16"
    # Older GPUs have no matrix units, or multiply fp16 at a small part of their speed.
    return "fp16" if on_gpu and torch.cuda.get_device_capability() >= _FIRST_FAST_FP16 else "no"
