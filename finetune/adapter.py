"""What training leaves behind: the best adapter so far, its card, a log, and a checkpoint to resume from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch.optim.lr_scheduler import LambdaLR

from ..console import say
from ..decode.adapter_card import ADAPTER_CARD
from ..files import atomic_path, sha256_text, versions

if TYPE_CHECKING:
    from ..config import Config

LOG = "log.jsonl"


class Keeper:
    """Keeps the best adapter of a run in `<run>/adapter`, and a checkpoint beside it while training goes on."""

    def __init__(
        self, config: Config, model: PeftModel, identity: dict[str, Any], data_hash: str,
        writes: bool = True, num_processes: int = 1,
    ) -> None:  # fmt: skip
        """`identity`: what a prompt encoder and its base model must agree on; `writes`: only the main process does."""
        self._config, self._model, self._writes, self._num_processes = config, model, writes, num_processes
        self.folder = config.run / "adapter"
        self._checkpoint = config.run / "adapter.checkpoint.pt"
        self._card = {**identity, "data_hash": data_hash, "temperature": config.finetune.temperature,
                      "seed": config.seed, "finetune": config.finetune.model_dump(mode="json"),
                      "versions": versions()}  # fmt: skip
        training = {**self._card, "versions": None}
        self._fingerprint = sha256_text(json.dumps(training, sort_keys=True))
        self._log: list[dict[str, Any]] = []
        self._best = -float("inf")
        self._stale = 0

    @property
    def out_of_patience(self) -> bool:
        return self._stale >= self._config.finetune.patience

    def resume(self, optimizer: Any, scheduler: LambdaLR) -> tuple[int, float | None]:
        """Load the checkpoint of an interrupted run with the same settings and data.

        Returns the step to go on from and the smoothed training loss there; 0 and None to start anew.
        """
        if not self._checkpoint.is_file():
            return 0, None
        try:
            state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
            fingerprint, num_processes = state["fingerprint"], state.get("num_processes", 1)
        except Exception:  # a foreign or damaged file raises many kinds; training anew loses only time
            self._say(f"{self._checkpoint} cannot be read: training starts anew")
            return 0, None
        if (fingerprint, num_processes) != (self._fingerprint, self._num_processes):
            self._say(f"{self._checkpoint} belongs to other settings or data: training starts anew")
            return 0, None
        set_peft_model_state_dict(self._model, state["adapter"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        if "rng" in state:
            _set_rng_state(state["rng"])
        self._log, self._best, self._stale = json.loads(state["log"]), state["best"], state["stale"]
        self._say(f"resuming at step {state['step']}")
        return int(state["step"]), state.get("train_loss")

    def keep(self, step: int, scores: dict[str, float], train_loss: float, optimizer: Any, scheduler: LambdaLR) -> None:
        """After a validation: log it, keep the adapter if it is the best yet, write the checkpoint."""
        score = scores.get("nDCG@10", -train_loss)
        better = score > self._best
        self._best, self._stale = max(score, self._best), 0 if better else self._stale + 1
        if not self._writes:
            return
        self._log.append(
            {"step": step, "train_loss": train_loss, "learning_rate": scheduler.get_last_lr()[0], **scores}
        )
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items() if name in ("nDCG@10", "log-loss"))
        self._say(f"step {step}: validation {shown or 'has no events'}{' (best so far)' if better else ''}")
        if better:
            self._save(step, scores)
        self.checkpoint(step, train_loss, optimizer, scheduler)

    def checkpoint(self, step: int, train_loss: float, optimizer: Any, scheduler: LambdaLR) -> None:
        """Write what a killed run needs to go on from here as if nothing had happened."""
        if not self._writes:
            return
        with atomic_path(self._checkpoint) as path:
            torch.save(
                {"fingerprint": self._fingerprint, "num_processes": self._num_processes, "step": step,
                 "adapter": get_peft_model_state_dict(self._model), "optimizer": optimizer.state_dict(),
                 "scheduler": scheduler.state_dict(), "rng": _rng_state(), "train_loss": train_loss,
                 "log": json.dumps(self._log), "best": self._best, "stale": self._stale}, path)  # fmt: skip

    def finish(self) -> Path:
        """Remove the checkpoint of a finished run and write the log beside the adapter."""
        if self._writes:
            with atomic_path(self.folder / LOG) as path:
                path.write_text("".join(f"{json.dumps(entry)}\n" for entry in self._log), encoding="utf-8")
            self._checkpoint.unlink(missing_ok=True)
        return self.folder

    def _say(self, text: str) -> None:
        if self._writes:
            say(text)

    def _save(self, step: int, scores: dict[str, float]) -> None:
        card = {**self._card, "step": step, "validation": scores}
        with atomic_path(self.folder) as folder:
            self._model.save_pretrained(str(folder))
            (folder / "README.md").write_text(_model_card(card), encoding="utf-8")
            (folder / ADAPTER_CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")


def _rng_state() -> dict[str, Any]:
    """What dropout draws from: the main process's generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_rng_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _model_card(card: dict[str, Any]) -> str:
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in card["validation"].items())
    return f"""---
base_model: {card["base_model"]}
library_name: peft
tags: [lora, recommendation, whereupon]
---

# A next-item recommender

LoRA adapter for {card["base_model"]}, trained by whereupon to continue a person's history with the title of the next
item, under the constraint of one catalogue. Use it with the base model, the prompts and the
recipe of titles that stand in `whereupon.json`; with others its probabilities mean nothing, and whereupon refuses it.
Items may come and go.

| validation, step {card["step"]} | |
|---|---|
{scores}

Trained with seed {card["seed"]}: learning rate {card["finetune"]["learning_rate"]}, LoRA rank
{card["finetune"]["rank"]}, temperature {card["temperature"]}. It has seen the training split of the data with hash
`{card["data_hash"][:16]}` and knows what is in it; treat it as you would treat that data.
"""
