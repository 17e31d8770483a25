"""Weights that FSDP2 has spread over processes: whole ones to validate and to write, and parts of what was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(value: Any) -> Any:
    """The same tree of dictionaries and lists with whole tensors. All processes must call it at once."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: whole(held) for key, held in value.items()}
    return [whole(held) for held in value] if isinstance(value, list) else value


def whole_where_spread(module: nn.Module) -> dict[str, Any] | None:
    """The trained weights by name, whole; None where they are not spread. All processes must call it at once."""
    trained = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    return dict(whole(trained)) if any(isinstance(p, DTensor) for p in trained.values()) else None


def spread_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, in the parts and on the device of another one of its shape."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def spread_optimizer(state: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """What `whole` made of an optimizer's state, in the parts of its parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    spread = {
        number: {
            name: spread_like(one, parameters[number]) if torch.is_tensor(one) and one.ndim else one
            for name, one in held.items()
        }
        for number, held in state["state"].items()
    }
    return {**state, "state": spread}


@contextmanager
def gathered(module: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """All weights whole on each process while the body runs: processes may then pass different numbers of texts."""
    frees = accelerator.is_fsdp2 and accelerator.state.fsdp_plugin.reshard_after_forward
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    if parts:  # validation passes through parts alone, which torch refuses before the whole module knows them
        parts[0]._get_fsdp_state()._lazy_init()
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(frees and part is not parts[0], recurse=False)
            part.reshard()


def all_finite(module: nn.Module) -> bool:
    """Whether this process's part of all trained weights is finite."""
    trained = (p.to_local() if isinstance(p, DTensor) else p for p in module.parameters() if p.requires_grad)
    return all(bool(p.isfinite().all()) for p in trained)
