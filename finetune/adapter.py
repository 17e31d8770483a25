"""What training leaves behind: a version of the run's adapter, with its best weights so far, a card and a log.

Until it ends there is a checkpoint too, by which a killed training goes on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from ..console import say
from ..decode.adapter_card import ADAPTER_CARD, MUST_AGREE, read_card
from ..decode.adapters import ADAPTERS, CHECKPOINT, adapter_versions, current_name, use_adapter
from ..decode.base_models import described
from ..decode.identity import ADAPTER_FILES
from ..errors import ModelError
from ..files import atomic_path, sha256_text, versions, write_json
from .settings import AROUND_TRAINING
from .sharding import spread_like, spread_optimizer, whole, whole_where_spread

if TYPE_CHECKING:
    from ..config import Config
    from .model import CatalogueModel

LOG, METRIC = "log.jsonl", "nDCG@10"
KINDS = {"lora": "LoRA", "dora": "DoRA", "rslora": "rsLoRA"}


@contextlib.contextmanager
def only_training(run: Path, writes: bool) -> Iterator[None]:
    """One training of a run at a time: two would write into one version folder. A lock ends with its process.

    Raises:
        ModelError: another training of the run is under way.
    """
    (run / ADAPTERS).mkdir(parents=True, exist_ok=True)
    with (run / ADAPTERS / ".training").open("ab") as lock:
        try:
            if writes:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(f"Another training of {run} is under way: wait for it, or stop it.") from None
        yield


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


class CheckpointManager:
    """Keeps the best adapter of one training in a version folder of its own, and a checkpoint in it until it ends.

    All processes hold one, with the same `standing`; only the main process writes.
    """

    def __init__(
        self,
        config: Config,
        module: CatalogueModel,
        accelerator: Accelerator,
        belongs_to: dict[str, Any],
        notes: dict[str, Any],
    ) -> None:
        """`belongs_to`: what a run must agree on with the adapter; `notes`: what else its card says: the hash of the
        validation events, the last training event, and the adapter that it started from."""
        self._config, self._module, self._accelerator, self._belongs_to = config, module, accelerator, belongs_to
        self._model = module.model
        self._card = {**belongs_to, "temperature": config.temperature, "seed": config.seed,
                      "finetune": config.finetune.model_dump(mode="json"), **notes,
                      "versions": versions()}  # fmt: skip
        named = (
            "base_model",
            "base_revision",
            "versions",
        )  # notes: what a model is called, and with what it is trained
        named_parts = {key: value for key, value in self._card.items() if key not in named}
        named_parts["finetune"] = config.finetune.model_dump(mode="json", exclude=set(AROUND_TRAINING))
        self._fingerprint = sha256_text(json.dumps(named_parts, sort_keys=True))
        self._writes = accelerator.is_main_process
        self.standing = Standing()
        self.folder = config.run / ADAPTERS / "0001"

    @property
    def starts_from_another(self) -> bool:
        """Whether the weights at the first step are those of an earlier adapter."""
        return self._card["started_from"] is not None

    @property
    def out_of_patience(self) -> bool:
        return self.standing.stale >= self._config.finetune.patience

    def resume(self, optimizer: Any) -> int:
        """Find this training's version folder, and load the checkpoint in it, if any.

        Returns by how many processes the checkpoint was written; their number now to start anew.
        """
        found = [version.folder for version in adapter_versions(self._config.run)]
        unfinished = [folder / CHECKPOINT for folder in reversed(found) if (folder / CHECKPOINT).is_file()]
        taken = [int(folder.name) for folder in found if (folder / ADAPTER_CARD).is_file()]
        taken += [int(checkpoint.parent.name) for checkpoint in unfinished]
        self.folder = self._config.run / ADAPTERS / f"{max([0, *taken]) + 1:04}"
        num_processes: int = self._accelerator.num_processes
        for checkpoint in unfinished:
            state = _read_checkpoint(checkpoint)
            if state is not None and state["fingerprint"] == self._fingerprint:
                self.folder, num_processes = checkpoint.parent, len(state["rngs"])
                self._restore(state, optimizer)
                self._say(f"adapter {self.folder.name}: resuming at step {self.standing.step}")
                break
            why = "cannot be read" if state is None else "belongs to other settings or data"
            self._say(f"{checkpoint} {why}: it stays as it is")
        self._accelerator.wait_for_everyone()  # no process writes before all have looked
        if self._writes:
            for leftover in self.folder.glob(".*"):  # of a writer that was killed
                shutil.rmtree(leftover, ignore_errors=True)
        return num_processes

    def keep(self, scores: dict[str, float], learning_rate: float, optimizer: Any) -> None:
        """After a validation at `standing.step`: log it, keep the adapter if it is the best yet, write a checkpoint."""
        now = self.standing
        score = scores.get(METRIC, -(now.train_loss or 0.0))
        better = score > now.best
        now.validated, now.best, now.stale = now.step, max(score, now.best), 0 if better else now.stale + 1
        now.log.append({"step": now.step, "train_loss": now.train_loss, "learning_rate": learning_rate, **scores})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items() if name in (METRIC, "log-loss"))
        log_temperature = self._log_temperature()
        if log_temperature is not None:  # it belongs to the weights that are kept
            self._card["temperature"] = now.log[-1]["temperature"] = math.exp(log_temperature)
            shown += f", temperature {self._card['temperature']:.3f}"
        self._say(f"step {now.step}: validation {shown or 'has no events'}{' (best so far)' if better else ''}")
        if self._writes:
            with atomic_path(self.folder / LOG) as path:
                path.write_text("".join(f"{json.dumps(entry)}\n" for entry in now.log), encoding="utf-8")
        learnt = whole_where_spread(self._model) if better else None
        if self._writes and better:
            self._save(scores, learnt)
        self.checkpoint(optimizer)

    def _log_temperature(self) -> float | None:
        """The learnt one; None where it is fixed. All processes must call it at once."""
        learnt = self._module.log_temperature
        return None if learnt is None else float(whole(learnt.detach()))

    def checkpoint(self, optimizer: Any) -> None:
        """Write what a killed training needs to go on from here. All processes must call it at once."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        # What dropout draws from, process by process: a checkpoint thereby knows their number.
        rngs = gather_object([{"cpu": torch.get_rng_state(), "cuda": cuda}])
        adapter, learnt = whole(get_peft_model_state_dict(self._model)), whole(optimizer.state_dict())
        log_temperature = self._log_temperature()
        if self._writes:
            state = {"fingerprint": self._fingerprint, "standing": asdict(self.standing), "adapter": adapter,
                     "optimizer": learnt, "rngs": rngs, "log_temperature": log_temperature}  # fmt: skip
            with atomic_path(self.folder / CHECKPOINT) as path:
                torch.save(state, path)

    def _restore(self, state: dict[str, Any], optimizer: Any) -> None:
        there = get_peft_model_state_dict(self._model)
        set_peft_model_state_dict(self._model, {k: spread_like(v, there[k]) for k, v in state["adapter"].items()})
        if (learnt := self._module.log_temperature) is not None:
            with torch.no_grad():
                learnt.copy_(spread_like(torch.full((1,), state["log_temperature"], device=learnt.device), learnt))
        optimizer.load_state_dict(spread_optimizer(state["optimizer"], optimizer))
        self.standing = Standing(**state["standing"])
        if self._accelerator.process_index < len(state["rngs"]):  # a process that was not there keeps its own
            rng = state["rngs"][self._accelerator.process_index]
            torch.set_rng_state(rng["cpu"])
            if rng["cuda"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(rng["cuda"])

    def finish(self) -> Path:
        """Call the adapter complete, use it unless the one in use is better, and remove the checkpoint."""
        if self._writes:
            card = read_card(self.folder) | {"complete": True}
            write_json(self.folder / ADAPTER_CARD, card)
            self._choose(card)
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        self._accelerator.wait_for_everyone()
        return self.folder

    def _choose(self, card: dict[str, Any]) -> None:
        """A better adapter is never replaced by a worse one; what does not fit this run any more always is."""
        name, run = self.folder.name, self._config.run
        before, other = current_name(run), {}
        if before is not None:
            try:
                other = read_card(run / ADAPTERS / before)
            except ModelError as error:
                self._say(f"{error} It is replaced.")
        score, best = (one.get("validation", {}).get(METRIC) for one in (card, other))
        fits = all(other.get(key) == self._belongs_to.get(key) for key in (*MUST_AGREE, "data_hash", "priors"))
        better, why = True, ""
        if not other or before == name:
            pass
        elif not fits:
            why = f"; {before} was trained for other data, prompts or another base model, or on top of other rankers"
        elif score is None or best is None or other.get("validated_on") != card["validated_on"]:
            better, why = False, f": {name} was not validated on the same events, so neither is known to be better"
        else:
            better, why = score >= best, f": validation {METRIC} of {name} is {score:.4f}, of {before} {best:.4f}"
        if better:
            use_adapter(run, name)
            self._say(f"adapter {name} is in use now{why}")
        else:
            self._say(f"adapter {before} stays in use{why}; `whereupon adapters CONFIG --use {name}` takes the new one")

    def _say(self, text: str) -> None:
        if self._writes:
            say(text)

    def _save(self, scores: dict[str, float], learnt: dict[str, Any] | None) -> None:
        """Replace the best adapter so far, file by file: beside it lies the checkpoint, which must never be away."""
        card = {**self._card, "complete": False, "step": self.standing.step, "validation": scores}
        (self.folder / ADAPTER_CARD).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix=".best.", dir=self.folder) as scratch:
            self._model.save_pretrained(scratch, state_dict=learnt)  # None: peft takes what is there
            for name in ADAPTER_FILES:
                with atomic_path(self.folder / name) as path:
                    shutil.move(Path(scratch) / name, path)
        with atomic_path(self.folder / "README.md") as path:
            path.write_text(_model_card(card), encoding="utf-8")
        write_json(self.folder / ADAPTER_CARD, card)


def _read_checkpoint(file: Path) -> dict[str, Any] | None:
    """What `CheckpointManager.checkpoint` wrote; None for a foreign or damaged file."""
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        Standing(**state["standing"])
        return state if {"fingerprint", "adapter", "optimizer", "rngs"} <= state.keys() else None
    except Exception:  # torch raises many kinds; training anew loses only time
        return None


def _model_card(card: dict[str, Any]) -> str:
    few = "" if card["quantize"] == "none" else f" in {card['quantize']} (bitsandbytes), and for that alone"
    learnt = ", which was learnt with it" if card["finetune"]["temperature"] == "learnt" else ""
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in card["validation"].items())
    return f"""---
base_model: {card["base_model"]}
library_name: peft
tags: [{card["finetune"]["adapter"]}, recommendation, whereupon]
---

# A next-item recommender

{KINDS[card["finetune"]["adapter"]]} adapter for {described(card["base_model"])}{few}, trained by whereupon
to continue a person's history with the title of the next item. Use it with the base model, prompts and recipe of titles
that stand in `whereupon.json`; whereupon refuses others. Its logits are divided by {card["temperature"]:.4g}{learnt}.

| validation, step {card["step"]} | |
|---|---|
{scores}

It has seen the training split of the data with hash `{card["data_hash"][:16]}` and knows what is in it; treat it as you
would treat that data.
"""
