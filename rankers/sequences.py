"""Sequential models over item ids: SASRec, SASRec that knows the time, and GRU4Rec.

They are trained on the train split alone and stop by the validation split (`sequences_training`); for each predicted
event they read the same user's last events of any split. That takes torch: without it these families are left out.

A family's settings are the fields of `SequenceSettings`; its grid names those that differ from the defaults.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import DataError
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import Task, WithRepeats, read_task
from .dense import rank_dense
from .protocol import UnfitDataError
from .rankings import Rankings
from .sequences_windows import Transitions

if TYPE_CHECKING:
    from .sequences_training import Trained

__all__ = ["FAMILIES", "SequenceFamily", "SequenceRanker", "SequenceSettings"]

_STOPPED_BY: Final = 4_000  # validation events at most after each epoch; beyond that they would cost more than training
_STOPPING_SEED: Final = 0  # which of them: the same ones for every seed of the training


@dataclass(frozen=True)
class SequenceSettings:
    """A network and its training.

    Attributes:
        network: which one.
        timed: SASRec only: read hour, day of the week and time since the previous event, of each event and of the one
            that is asked for.
        hidden: size of embeddings and hidden states.
        layers, heads: blocks of self-attention and their heads; for GRU4Rec recurrent layers, heads without effect.
        dropout: share of hidden units dropped while training.
        learning_rate, weight_decay: of AdamW.
        length: how many events the network sees at most.
        batch_size: windows of up to `length` events in a batch.
        max_epochs, patience: training ends after so many epochs, or when so many in a row brought nothing better.
        epochs_unwatched: how many epochs where there is no validation event to stop by.
    """

    network: Literal["SASRec", "GRU4Rec"] = "SASRec"
    timed: bool = False
    hidden: int = 64
    layers: int = 2
    heads: int = 1
    dropout: float = 0.3
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    length: int = 50
    batch_size: int = 32
    max_epochs: int = 100
    patience: int = 10
    epochs_unwatched: int = 30


@dataclass(frozen=True)
class SequenceRanker:
    """Trains when it is first asked, since the events to stop by depend on whether repeats are candidates.

    `histories` are those to train on and to stop by; what it reads before it answers is that of the task.
    """

    histories: Histories
    settings: SequenceSettings
    seed: int
    _trained: dict[str, Trained] = field(default_factory=dict, repr=False)

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`; scores are log-probabilities over the full catalogue.

        Raises:
            ModelError: the training diverged.
        """
        return rank_dense(task, self.trained(task).reader.of(task.histories).log_probs, k, log_probs=True)

    def trained(self, task: Task) -> Trained:
        """The network for the protocol of a task, trained once."""
        from .sequences_training import train

        repeats = task.candidates.repeats
        if repeats not in self._trained:
            valid = _validation(self.histories, task.candidates)
            self._trained[repeats] = train(self.histories, self.settings, self.seed, valid)
        return self._trained[repeats]


@dataclass(frozen=True)
class SequenceFamily:
    """One kind of network and the settings to be tried."""

    name: str
    fixed: Mapping[str, Any]
    tried: Sequence[Mapping[str, Any]]

    def grid(self) -> Sequence[Mapping[str, Any]]:
        """See `Family.grid`."""
        return [{**self.fixed, **one} for one in self.tried]

    def ranker(
        self, histories: Histories, split: EvaluatedSplit, settings: Mapping[str, Any], seed: int
    ) -> SequenceRanker:  # fmt: skip
        """See `Family.ranker`; whatever the split, trained on train and stopped by valid.

        Raises:
            UnfitDataError: torch is not installed, or no user has two training events.
        """
        if importlib.util.find_spec("torch") is None:
            raise UnfitDataError(
                f"{self.name} needs torch, which is not installed; install whereupon[train], or leave it out."
            )
        if not len(Transitions.of(histories).count_U):
            raise UnfitDataError(
                f"{self.name} should learn from users with two training events but found none; "
                "raise histories.split.train and run `whereupon prepare` again."
            )
        return SequenceRanker(histories, SequenceSettings(**settings), seed)


def _validation(histories: Histories, protocol: WithRepeats) -> Task | None:
    try:
        return read_task(histories, "valid", protocol, limit=_STOPPED_BY, seed=_STOPPING_SEED)
    except DataError:
        return None


_TRIED: Final = tuple({"hidden": hidden, "dropout": dropout} for hidden in (64, 128) for dropout in (0.2, 0.5))

FAMILIES: Final = (
    SequenceFamily("GRU4Rec", {"network": "GRU4Rec"}, _TRIED),
    SequenceFamily("SASRec", {"network": "SASRec"}, _TRIED),
    SequenceFamily("SASRec + time", {"network": "SASRec", "timed": True}, _TRIED),
)
