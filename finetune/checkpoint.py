"""What a killed training needs to go on as if nothing had happened: weights, optimizer state, random states."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from ..files import atomic_path


@dataclass
class Standing:
    """How far a training has come: steps done, the last step whose validation is done, and what validations found.

    `best`, `stale`: the best score, and how many validations did not reach more; `log`: an entry for each validation.
    """

    step: int = 0
    validated: int = 0
    train_loss: float | None = None
    best: float = -float("inf")
    stale: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)


def write_checkpoint(
    file: Path, fingerprint: str, standing: Standing, model: PeftModel, optimizer: Any, rngs: list[dict[str, Any]]
) -> None:
    """`rngs`: `rng_states()` of the processes, whose number a checkpoint thereby knows."""
    with atomic_path(file) as path:
        torch.save(
            {"fingerprint": fingerprint, "standing": asdict(standing), "adapter": get_peft_model_state_dict(model),
             "optimizer": optimizer.state_dict(), "rngs": rngs}, path)  # fmt: skip


def read_checkpoint(file: Path) -> dict[str, Any] | None:
    """What `write_checkpoint` wrote; None for a foreign or damaged file."""
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        state["standing"] = Standing(**state["standing"])
        return state if {"fingerprint", "adapter", "optimizer", "rngs"} <= state.keys() else None
    except Exception:  # torch raises many kinds; training anew loses only time
        return None


def restore(state: dict[str, Any], model: PeftModel, optimizer: Any, process: int) -> Standing:
    """Load weights, optimizer and this process's random numbers. A process that was not there keeps its own."""
    set_peft_model_state_dict(model, state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    if process < len(state["rngs"]):
        rng = state["rngs"][process]
        torch.set_rng_state(rng["cpu"])
        if rng["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(rng["cuda"])
    standing: Standing = state["standing"]
    return standing


def rng_states() -> list[dict[str, Any]]:
    """What dropout draws from, process by process. All processes must call it at once."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    states: list[dict[str, Any]] = gather_object([{"cpu": torch.get_rng_state(), "cuda": cuda}])
    return states
