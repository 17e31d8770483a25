"""What a calibration makes of the model's distribution, question by question, with a prior from counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64
from ..catalogue import Trie
from ..decode import DecodeSettings, ItemPrior, PriorSettings, Reweighting
from ..decode.identity import model_identity
from ..decode.reweighting import Own, told
from ..decode.settings import CalibrationName
from ..errors import ConfigError, DataError
from ..files import read_object, sha256_text
from ..histories import Histories
from .context_prior import ContextPrior, Past, Pasts

if TYPE_CHECKING:
    from .settings import RunConfig

FILE = "calibration.json"


@dataclass(frozen=True)
class Reweighter:
    """What a calibration makes of the model's distribution."""

    name: CalibrationName
    temperature: float
    weight: float
    prior: Prior

    def of(self, past_Q: Sequence[Past]) -> Reweighting:
        """For Q questions, each with the events of its person before the moment of asking."""
        return Reweighting(self.temperature, self.weight, self.prior.of(self.name, past_Q))

    def of_rows(self, row_Q: Int64) -> Reweighting:
        """For the events in rows of the histories, each asked for right before it happened."""
        return Reweighting(self.temperature, self.weight, self.prior.of_rows(self.name, row_Q))

    def on(self, histories: Histories, trie: Trie, settings: DecodeSettings, index_T: Int64) -> Reweighter:
        """The same over another catalogue, of which `index_T` is as in `Prior`."""
        popularity = training_popularity(histories, trie, settings, index_T)
        return replace(self, prior=replace(self.prior, popularity=popularity, index_T=index_T))


@dataclass(frozen=True)
class Prior:
    """What counting says, for every kind of calibration.

    `index_T` int64 [T]: where the items of histories and prompts stand in the trie's catalogue (-1: nowhere), if it is
    another one.
    """

    popularity: ItemPrior
    pasts: Pasts
    context: ContextPrior
    settings: PriorSettings
    index_T: Int64 | None = None

    @classmethod
    def read(cls, histories: Histories, trie: Trie, settings: DecodeSettings, index_T: Int64 | None = None) -> Prior:
        """Count in the histories; popularity is that of training events."""
        popularity = training_popularity(histories, trie, settings, index_T)
        context = ContextPrior.of(histories, settings.prior)
        return cls(popularity, Pasts.of(histories), context, settings.prior, index_T)

    def of(self, name: CalibrationName, past_Q: Sequence[Past]) -> ItemPrior | None:
        """The prior of a calibration for Q questions; None where it has none."""
        if name == "own counts":
            return self._with_own([own_masses(past.item_M, self.settings) for past in past_Q])
        if name == "context":
            return self._with_own([self.context.masses(past) for past in past_Q])
        return self.popularity if name == "popularity" else None

    def of_rows(self, name: CalibrationName, row_Q: Int64) -> ItemPrior | None:
        """For the events in rows of the histories, each asked for right before it happened."""
        return self.of(name, [self.pasts.before(row) for row in row_Q.tolist()])

    def _with_own(self, own: list[Own]) -> ItemPrior:
        return self.popularity.with_own([self._served(item_M, mass_M) for item_M, mass_M in own])

    def _served(self, item_M: Int64, mass_M: Float64) -> tuple[Int64, Float64]:
        """Items as the trie's catalogue counts them, without those that were taken out."""
        if self.index_T is None:
            return item_M, mass_M
        index_M = self.index_T[item_M]
        return index_M[index_M >= 0], mass_M[index_M >= 0]


def training_popularity(
    histories: Histories, trie: Trie, settings: DecodeSettings, index_I: Int64 | None = None
) -> ItemPrior:
    """Each item's share of the training events, smoothed; `index_I`: see `Prior.index_T`.

    Under leave_one_out some of them are later than a predicted event, as are those that the model was trained on.
    """
    trained = histories.item_idx_N[histories.split_N == 0]
    if index_I is not None:
        trained = index_I[trained]
        trained = trained[trained >= 0]
    return popularity_prior(trie, np.bincount(trained, minlength=trie.num_items), settings.prior)


def popularity_prior(trie: Trie, count_N: NDArray[np.generic], settings: PriorSettings) -> ItemPrior:
    """The share of each item (by item index) in training: (count + a) / sum of (count + a), the same for everybody.

    Raises ValueError for counts that are none, or of other items.
    """
    count = np.asarray(count_N, np.float64)
    if count.shape != (trie.num_items,) or not (np.isfinite(count).all() and (count >= 0).all()):
        raise ValueError(f"expected a count of at least 0 for each of {trie.num_items} items, not {told(count)}")
    smoothed = count + settings.popularity_smoothing
    return ItemPrior(trie, smoothed / smoothed.sum())


def own_masses(item_M: Int64, settings: PriorSettings) -> Own:
    """What a person's M past events (their items) add to `popularity_prior`.

    With s = own_smoothing and n events the blend is proportional to (own count + s * share) / (n + s): the posterior
    mean under s events of what is popular. No events, nothing added. For `ItemPrior.with_own`, one pair per question.
    """
    return np.asarray(item_M, np.int64), np.ones(len(item_M)) / settings.own_smoothing


def read_reweighter(
    config: RunConfig, histories: Histories, trie: Trie, card: dict[str, Any], index_I: Int64 | None = None
) -> Reweighter | None:
    """What `decode.calibration` asks for, as `calibrate` fitted it; None for "none".

    `index_I`: see `Prior.index_T`. Counts are those of the histories as they are now; temperature and weight stay what
    they were fitted to be. Raises ConfigError as `read_calibration`.
    """
    name = config.decode.calibration
    if name == "none":
        return None
    fitted = read_calibration(config, card)["fitted"][name]
    prior = Prior.read(histories, trie, decode_of(config), index_I)
    return Reweighter(name, fitted["temperature"], fitted["weight"], prior)


def read_calibration(config: RunConfig, card: dict[str, Any]) -> dict[str, Any]:
    """What `calibrate` wrote. Raises ConfigError where it did not, or for another model, adapter or prior."""
    path = config.run / FILE
    again = f"run `whereupon calibrate` first, or set decode.calibration: none (found {config.decode.calibration!r})."
    try:
        found = read_object(path)
    except DataError:
        raise ConfigError(f"There is no calibration in {path}: {again}") from None
    if found.get("identity") != identity(config, card):
        raise ConfigError(f"The calibration in {path} is that of another model, adapter or prior: {again}")
    return found


def decode_of(config: RunConfig) -> DecodeSettings:
    """Those of `decode`; a prior asks for no clock where `prompts.leave_out` says so of prompts."""
    if "time" not in config.prompts.leave_out:
        return config.decode
    prior = config.decode.prior
    prior = prior.model_copy(update={"context": prior.context.without_clock()})
    return config.decode.model_copy(update={"prior": prior})


def identity(config: RunConfig, card: dict[str, Any]) -> str:
    """Fingerprint of what a calibration was fitted for.

    Data and items are not part of it: new ones call for another calibration no more than for another adapter. What is
    evaluated is fitted on the same data all the same, as both verbs ask for that of the adapter's training.
    """
    parts = [model_identity(config.model, card), config.decode.prior.model_dump(mode="json")]
    return sha256_text(json.dumps(parts, sort_keys=True))
