"""What a calibration makes of the model's distribution, question by question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..catalogue import Trie
from ..decode import DecodeSettings, ItemPrior, Reweighting, own_masses, popularity_prior
from ..decode.settings import CalibrationName
from ..errors import ConfigError, DataError
from ..files import read_json, sha256_text
from ..histories import Histories

if TYPE_CHECKING:
    from ..config import Config

FILE = "calibration.json"
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Reweighter:
    """What a calibration makes of the model's distribution; `prior` None is a temperature alone."""

    name: CalibrationName
    temperature: float
    weight: float
    prior: ItemPrior | None
    settings: DecodeSettings

    def of(self, past_Q: Sequence[Int64]) -> Reweighting:
        """For Q questions, each with the items (int64) of its person's events before the moment of asking."""
        return Reweighting(self.temperature, self.weight, prior_of(self.name, self.prior, self.settings, past_Q))


def prior_of(
    name: CalibrationName, popularity: ItemPrior | None, settings: DecodeSettings, past_Q: Sequence[Int64]
) -> ItemPrior | None:
    """The prior of a calibration for Q questions, given the items of the events before each."""
    if name == "own counts" and popularity is not None:
        return popularity.with_own([own_masses(past, settings.prior) for past in past_Q])
    return popularity if name == "popularity" else None


def training_popularity(
    histories: Histories, trie: Trie, settings: DecodeSettings, index_I: Int64 | None = None
) -> ItemPrior:
    """Each item's share of the training events, smoothed; `index_I`: see `read_reweighter`."""
    trained = histories.item_idx_E[histories.split_E == 0]
    if index_I is not None:
        trained = index_I[trained]
        trained = trained[trained >= 0]
    return popularity_prior(trie, np.bincount(trained, minlength=trie.num_items), settings.prior)


def read_reweighter(
    config: Config, histories: Histories, trie: Trie, card: dict[str, Any], index_I: Int64 | None = None
) -> Reweighter | None:
    """What `decode.calibration` asks for, as `calibrate` fitted it; None for "none".

    `index_I`: where the items of the histories stand in the trie's catalogue (-1: nowhere), if it is another one.

    Raises ConfigError where it was not fitted, or for another adapter, history or prior.
    """
    name = config.decode.calibration
    if name == "none":
        return None
    path = config.run / FILE
    again = f"run `whereupon calibrate` first, or set decode.calibration: none (found {name!r})."
    try:
        found = read_json(path)
    except DataError:
        raise ConfigError(f"There is no calibration in {path}: {again}") from None
    if found.get("identity") != identity(config, histories, card):
        raise ConfigError(f"The calibration in {path} is that of another adapter, history or prior: {again}")
    fitted = found["fitted"][name]
    prior = None if name == "temperature" else training_popularity(histories, trie, config.decode, index_I)
    return Reweighter(name, fitted["temperature"], fitted["weight"], prior, config.decode)


def identity(config: Config, histories: Histories, card: dict[str, Any]) -> str:
    """Fingerprint of what a calibration was fitted for."""
    parts = [card, histories.data_hash, config.decode.prior.model_dump(mode="json"), config.model.dtype]
    return sha256_text(json.dumps(parts, sort_keys=True))
