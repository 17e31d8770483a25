"""`whereupon finetune --from`: an earlier adapter goes on learning from newer events, with older windows mixed in.

Replay of older examples keeps what was learnt before (experience replay, arXiv 1811.11682).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from ..arrays import Int64
from ..console import say
from ..decode.adapter_card import check_card, read_card
from ..decode.adapters import ADAPTERS
from ..errors import ConfigError, DataError, ModelError
from ..histories import Histories
from .settings import AFTERWARDS, FinetuneSettings

if TYPE_CHECKING:
    from ..config import Config

# What an adapter's weights only make sense with.
_SHAPE: Final = ("adapter", "rank", "alpha", "target_modules", "modules_to_save")
TRAINED_UNTIL: Final = "trained_until"


@dataclass(frozen=True)
class Start:
    """The adapter that a training starts from: its folder and its card."""

    folder: Path
    card: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Of its weights."""
        return str(self.card["adapter_hash"])

    @property
    def temperature(self) -> float:
        """What its logits are divided by."""
        return float(self.card["temperature"])

    @property
    def trained_until(self) -> str:
        """The time of the last event it was trained on, ISO 8601 in UTC."""
        return str(self.card[TRAINED_UNTIL])

    def load_into(self, model: PeftModel) -> None:
        """Give a fresh adapter of the same shape these weights."""
        set_peft_model_state_dict(model, load_file(self.folder / "adapter_model.safetensors"))

    def old_windows(self, histories: Histories, end_W: Int64) -> NDArray[np.bool_]:
        """bool [W]: windows without any event that is newer than the adapter; window w ends before the training event
        `end_W[w]`.

        Raises DataError where all are old.
        """
        time_N = histories.events.filter(pl.col("split") == "train")["time"]
        since = pl.Series([self.trained_until]).str.to_datetime(time_unit="us", time_zone="UTC")[0]
        old_W: NDArray[np.bool_] = ~(time_N > since).to_numpy()[end_W - 1]
        if old_W.all():
            raise DataError(
                f"There are no training events after {self.trained_until}, up to which the adapter in {self.folder} "
                "was trained: run `whereupon prepare` with newer events first."
            )
        return old_W


def check_start(settings: FinetuneSettings, start: str | None) -> None:
    """Raise ConfigError for an objective that begins with an adapter where there is none."""
    if settings.objective in AFTERWARDS and not start:
        raise ConfigError(
            f"finetune.objective is {settings.objective}, which goes on from a trained adapter and what it ranks "
            "highest: run `whereupon finetune CONFIG --from 0001`."
        )


def start_from(config: Config, name: str, identity: dict[str, Any], histories: Histories) -> Start:
    """The adapter `name`: a version of the run, such as 0002, or a folder.

    Raises ModelError where there is none, where it belongs to another base model or other prompts, has another shape
    than `finetune` needs, or may have seen the validation events.
    """
    version = config.run / ADAPTERS / name
    folder = version if version.is_dir() else Path(name)
    card = read_card(folder)
    check_card(card, folder, identity)
    if TRAINED_UNTIL not in card:
        raise ModelError(
            f"The adapter in {folder} does not say up to which event it was trained, so newer events cannot be "
            "distinguished from older ones: train a new one with `whereupon finetune` without --from."
        )
    trained = card["finetune"] | {"temperature": card["temperature"]}
    wanted = config.finetune.model_dump(mode="json") | {"temperature": config.temperature}
    fixed = () if config.finetune.temperature == "learnt" else ("temperature",)  # which goes on from where it is
    for key in (*_SHAPE, *fixed):
        if trained[key] != wanted[key]:
            raise ModelError(
                f"The adapter in {folder} was trained with finetune.{key} {trained[key]} but this run has "
                f"{wanted[key]}: set finetune.{key} to {trained[key]}, or train without --from."
            )
    start = Start(folder, card)
    _refuse_leakage(start, config, histories)
    return start


def last_training_time(histories: Histories) -> str:
    """Of the training events: when the last one was, ISO 8601 in UTC."""
    last = histories.events.filter(pl.col("split") == "train")["time"].max()
    return str(last.isoformat())  # type: ignore[union-attr]


def replayed(old_W: NDArray[np.bool_], settings: FinetuneSettings, generator: np.random.Generator) -> Int64:
    """Every window that is new, and a random choice of old ones that is `replay_share` of the whole, if there are so
    many; int64, ascending."""
    new, old = np.flatnonzero(~old_W), np.flatnonzero(old_W)
    wanted = round(len(new) * settings.replay_share / (1 - settings.replay_share))
    chosen = generator.choice(old, min(wanted, len(old)), replace=False)
    return np.sort(np.concatenate([new, chosen])).astype(np.int64)


def _refuse_leakage(start: Start, config: Config, histories: Histories) -> None:
    """Raises ModelError where validation events are not newer than all that the adapter was trained on.

    Only a split at a time promises that; with others it is said that it was not checked.
    """
    if config.histories.split.protocol != "global_time":
        say(f"histories.split.protocol is {config.histories.split.protocol}: it was not checked whether the adapter in "
            f"{start.folder} has seen validation events", "yellow")  # fmt: skip
        return
    first = histories.events.filter(pl.col("split") == "valid")["time"].min()
    since = pl.Series([start.trained_until]).str.to_datetime(time_unit="us", time_zone="UTC")[0]
    if first is not None and first <= since:
        raise ModelError(
            f"The adapter in {start.folder} was trained on events up to {start.trained_until} but validation begins at "
            f"{first.isoformat()}, so it may have seen validation events: "  # type: ignore[union-attr]
            "prepare newer events, or train without --from."
        )
