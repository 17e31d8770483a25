"""What training leaves behind: a version of the run's adapter, with its best weights so far, a card and a log."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from peft import PeftModel

from ..console import say
from ..decode.adapter_card import ADAPTER_CARD, read_card
from ..decode.adapters import ADAPTERS, CHECKPOINT, adapter_versions, current_name, use_adapter
from ..decode.identity import ADAPTER_FILES
from ..errors import ModelError
from ..files import atomic_path, sha256_text, versions, write_json
from .checkpoint import Standing, read_checkpoint, restore, rng_states, write_checkpoint

if TYPE_CHECKING:
    from ..config import Config

LOG, METRIC = "log.jsonl", "nDCG@10"


class Keeper:
    """Keeps the best adapter of one training in a version folder of its own, and a checkpoint in it until it ends.

    All processes hold one, with the same `standing`; only the main process writes.
    """

    def __init__(
        self, config: Config, model: PeftModel, accelerator: Accelerator, belongs_to: dict[str, Any], validated_on: str
    ) -> None:
        """`belongs_to`: what a run must agree on with the adapter; `validated_on`: hash of the validation events."""
        self._config, self._model, self._accelerator, self._belongs_to = config, model, accelerator, belongs_to
        self._card = {**belongs_to, "temperature": config.finetune.temperature, "seed": config.seed,
                      "finetune": config.finetune.model_dump(mode="json"), "validated_on": validated_on,
                      "versions": versions()}  # fmt: skip
        self._fingerprint = sha256_text(json.dumps({**self._card, "versions": None}, sort_keys=True))
        self._writes = accelerator.is_main_process
        self.standing = Standing()
        self.folder = config.run / ADAPTERS / "0001"

    @property
    def out_of_patience(self) -> bool:
        return self.standing.stale >= self._config.finetune.patience

    def resume(self, optimizer: Any) -> int:
        """Find this training's version folder, and load the checkpoint in it, if any.

        Returns by how many processes the checkpoint was written; their number now to start anew.
        """
        found = adapter_versions(self._config.run)
        taken = [
            int(one.name) for one in found if any((one.folder / name).is_file() for name in (ADAPTER_CARD, CHECKPOINT))
        ]
        self.folder = self._config.run / ADAPTERS / f"{max([0, *taken]) + 1:04}"
        num_processes: int = self._accelerator.num_processes
        for checkpoint in [one.folder / CHECKPOINT for one in reversed(found) if (one.folder / CHECKPOINT).is_file()]:
            state = read_checkpoint(checkpoint)
            if state is not None and state["fingerprint"] == self._fingerprint:
                self.folder, num_processes = checkpoint.parent, len(state["rngs"])
                self.standing = restore(state, self._model, optimizer, self._accelerator.process_index)
                self._say(f"adapter {self.folder.name}: resuming at step {self.standing.step}")
                break
            why = "cannot be read" if state is None else "belongs to other settings or data"
            self._say(f"{checkpoint} {why}: it stays as it is")
        self._accelerator.wait_for_everyone()  # nobody writes before all have looked
        if self._writes:
            for leftover in self.folder.glob(".*"):  # of a writer that was killed
                shutil.rmtree(leftover, ignore_errors=True)
        return num_processes

    def keep(self, scores: dict[str, float], learning_rate: float, optimizer: Any) -> None:
        """After a validation at `standing.step`: log it, keep the adapter if it is the best yet, write a checkpoint."""
        now = self.standing
        assert now.train_loss is not None
        score = scores.get(METRIC, -now.train_loss)
        better = score > now.best
        now.validated, now.best, now.stale = now.step, max(score, now.best), 0 if better else now.stale + 1
        now.log.append({"step": now.step, "train_loss": now.train_loss, "learning_rate": learning_rate, **scores})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items() if name in (METRIC, "log-loss"))
        self._say(f"step {now.step}: validation {shown or 'has no events'}{' (best so far)' if better else ''}")
        if self._writes:
            with atomic_path(self.folder / LOG) as path:
                path.write_text("".join(f"{json.dumps(entry)}\n" for entry in now.log), encoding="utf-8")
            if better:
                self._save(scores)
        self.checkpoint(optimizer)

    def checkpoint(self, optimizer: Any) -> None:
        """Write what a killed training needs to go on from here. All processes must call it at once."""
        rngs = rng_states()
        if self._writes:
            write_checkpoint(self.folder / CHECKPOINT, self._fingerprint, self.standing, self._model, optimizer, rngs)

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
        fits = {key: other.get(key) for key in self._belongs_to} == self._belongs_to
        if not other or not fits or before == name:
            was = f"; {before} was trained for other data, prompts or another base model" if other and not fits else ""
            use_adapter(run, name)
            self._say(f"adapter {name} is in use now{was}")
        elif score is None or best is None or other.get("validated_on") != card["validated_on"]:
            self._say(f"adapter {before} stays in use: {name} was not validated on the same events, so nothing says "
                      f"which one is better; `whereupon adapters CONFIG --use {name}` takes the new one")  # fmt: skip
        elif score < best:
            self._say(f"adapter {before} stays in use: its validation {METRIC} is {best:.4f}, that of {name} is "
                      f"{score:.4f}; `whereupon adapters CONFIG --use {name}` takes the new one")  # fmt: skip
        else:
            use_adapter(run, name)
            self._say(f"adapter {name} is in use now: its validation {METRIC} is {score:.4f}, that of {before} is "
                      f"{best:.4f}")  # fmt: skip

    def _say(self, text: str) -> None:
        if self._writes:
            say(text)

    def _save(self, scores: dict[str, float]) -> None:
        """Replace the best adapter so far, file by file: beside it lies the checkpoint, which must never be away."""
        card = {**self._card, "complete": False, "step": self.standing.step, "validation": scores}
        (self.folder / ADAPTER_CARD).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix=".best.", dir=self.folder) as scratch:
            self._model.save_pretrained(scratch)
            for name in ADAPTER_FILES:
                with atomic_path(self.folder / name) as path:
                    shutil.move(Path(scratch) / name, path)
        with atomic_path(self.folder / "README.md") as path:
            path.write_text(_model_card(card), encoding="utf-8")
        write_json(self.folder / ADAPTER_CARD, card)


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
