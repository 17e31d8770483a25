"""The optimizer of a training: torch's AdamW, or that of bitsandbytes, whose states take a quarter of the memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from .settings import FinetuneSettings


def check_optimizer(settings: FinetuneSettings, device: torch.device) -> None:
    """Raise ConfigError for an optimizer that does not run on this device, or needs what is not installed."""
    name = settings.optimizer
    if name == "paged_adamw_8bit" and device.type != "cuda":
        raise ConfigError(
            "finetune.optimizer is paged_adamw_8bit but training runs on a CPU, whose memory cannot be paged out to "
            "itself: set finetune.optimizer to adamw_8bit or adamw."
        )
    if name != "adamw" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"finetune.optimizer is {name}, which needs bitsandbytes: run `pip install 'whereupon[train]'`, or set "
            "finetune.optimizer to adamw."
        )


def make_optimizer(parameters: Sequence[nn.Parameter], settings: FinetuneSettings, device: torch.device) -> Any:
    """An optimizer of what is trained; torch's has one kernel for all parameters on a GPU.

    States of eight bits: arXiv 2110.02861; tensors of fewer than 4,096 numbers keep those of 32.
    """
    how: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    # A learnt temperature, the only single number, has no natural value that decay should lead to.
    single = [p for p in parameters if p.numel() == 1]
    if single:
        others = [p for p in parameters if p.numel() != 1]
        groups: Any = [{"params": others}, {"params": single, "weight_decay": 0.0}]
    else:
        groups = parameters
    if settings.optimizer == "adamw":
        # A CPU keeps the plain one, by which runs were recorded.
        return torch.optim.AdamW(groups, **how, fused=device.type == "cuda" or None)
    from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit

    kinds = {"adamw_8bit": AdamW8bit, "paged_adamw_8bit": PagedAdamW8bit}
    return kinds[settings.optimizer](groups, **how)
