"""Training of a sequential network: softmax cross-entropy over the whole catalogue, at every step of every window.

With this loss SASRec is a strong opponent: Klenitskiy and Vasilev, "Turning Dross Into Gold Loss: is BERT4Rec really
better than SASRec?", RecSys 2023. Training stops when nDCG@10 on the validation events has not risen for some epochs,
and the weights of the best epoch are what stays.

Shapes: N = events, Q = queries, X = steps of a batch, I = items; others as in `sequences_windows`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..arrays import Int64
from ..errors import ModelError
from ..histories import Histories
from ..histories.questions import Task
from .dense import rank_dense
from .sequences_networks import GRU4Rec, Inputs, Network, SASRec
from .sequences_windows import Transitions, Windows, moments, windows_before

if TYPE_CHECKING:
    from .sequences import SequenceSettings

__all__ = ["Reader", "Trained", "train"]


_BETAS: Final = (0.9, 0.98)  # of Adam, as in SASRec's own code
_LARGEST_GRADIENT: Final = 5.0  # norm; a recurrent network's would explode now and then
_EVENTS_PER_PASS: Final = 32_768  # how many events are read at once when ranking


@dataclass(frozen=True)
class Reader:
    """A network and what it reads.

    Attributes:
        histories: whose events are read.
        network: see `sequences_networks`.
        length: how many events it sees at most.
        moment_N3: int64, hour, day and gap of each event.
    """

    histories: Histories
    network: Network
    length: int
    moment_N3: Tensor

    def of(self, histories: Histories) -> Reader:
        """The same network, reading other histories of the same catalogue."""
        return replace(self, histories=histories, moment_N3=torch.from_numpy(moments(histories)))

    @torch.inference_mode()
    def log_probs(self, row_Q: Int64) -> NDArray[np.float32]:
        """Log-probability of every item after the last events before each row, in nats: float32 [Q, I]."""
        self.network.eval()
        windows = windows_before(self.histories, row_Q, self.length)
        step = max(1, _EVENTS_PER_PASS // self.length)
        passes = np.split(np.arange(len(row_Q)), np.arange(step, len(row_Q), step))
        hidden_QD = torch.cat([self._last_states(windows.take(part)) for part in passes])
        log_prob_QI: NDArray[np.float32] = torch.log_softmax(self.network.scores(hidden_QD), -1).numpy()
        return log_prob_QI

    def loss(self, windows: Windows) -> Tensor:
        """Mean cross-entropy of all steps of some windows, in nats: a scalar."""
        real_WL = windows.real_WL
        hidden_XD = self.network(self._inputs(windows))[torch.from_numpy(real_WL)]
        item_X = torch.from_numpy(self.histories.item_idx_E[windows.asked_WL[real_WL]].astype(np.int64))
        return functional.cross_entropy(self.network.scores(hidden_XD), item_X)

    def _last_states(self, windows: Windows) -> Tensor:
        hidden_WLD: Tensor = self.network(self._inputs(windows))
        return hidden_WLD[torch.arange(len(hidden_WLD)), torch.from_numpy(windows.length_W - 1)]

    def _inputs(self, windows: Windows) -> Inputs:
        item_WL = torch.from_numpy(self.histories.item_idx_E[windows.row_WL].astype(np.int64))
        row_WL, asked_WL = torch.from_numpy(windows.row_WL), torch.from_numpy(windows.asked_WL)
        place_WL = np.maximum(windows.length_W[:, None] - 1 - np.arange(windows.row_WL.shape[1]), 0)
        return Inputs(item_WL, self.moment_N3[row_WL], self.moment_N3[asked_WL], torch.from_numpy(place_WL))


@dataclass(frozen=True)
class Trained:
    """A trained network, and how its training went.

    Attributes:
        reader: with the weights of the epoch that was kept.
        epoch: its number, from 1.
        ndcg_by_epoch: nDCG@10 on the validation events after each epoch; empty where there were none.
        loss_by_epoch: mean training loss of each epoch, in nats, dropout included.
    """

    reader: Reader
    epoch: int
    ndcg_by_epoch: list[float] = field(default_factory=list)
    loss_by_epoch: list[float] = field(default_factory=list)


def train(histories: Histories, settings: SequenceSettings, seed: int, valid: Task | None) -> Trained:
    """Train a network on the steps of the train split.

    Args:
        histories: some user has two training events.
        settings: of network and training.
        seed: of the first weights, the cuts and order of windows, and dropout. On one machine and with one number of
            threads the same seed gives the same weights; torch's global generator is left as it was.
        valid: the events to stop by; None: train for `settings.epochs_unwatched` epochs.

    Raises:
        ModelError: the training diverged.
    """
    transitions, generator = Transitions.of(histories), np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _build(settings, transitions.known(histories))
        reader = Reader(histories, network, settings.length, torch.from_numpy(moments(histories)))
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, _BETAS, weight_decay=settings.weight_decay
        )
        num_epochs = settings.max_epochs if valid else settings.epochs_unwatched
        losses = _epochs(reader, optimizer, transitions, settings, generator, num_epochs)
        return _keep_best(reader, losses, settings.patience, valid)


def _build(settings: SequenceSettings, known_I: NDArray[np.bool_]) -> Network:
    known = torch.from_numpy(known_I)
    if settings.network == "GRU4Rec":
        return GRU4Rec(known, settings.hidden, settings.layers, settings.dropout)
    return SASRec(
        known, settings.length, settings.hidden, settings.layers, settings.heads, settings.dropout, settings.timed
    )


def _epochs(
    reader: Reader, optimizer: torch.optim.Optimizer, transitions: Transitions, settings: SequenceSettings,
    generator: np.random.Generator, num_epochs: int,
) -> Iterator[float]:  # fmt: skip
    """Train for one epoch after the other; the mean loss of each."""
    for epoch in range(1, num_epochs + 1):
        reader.network.train()
        windows = transitions.windows(settings.length, generator)
        order_W = generator.permutation(len(windows.length_W))
        total = 0.0
        for chosen in np.split(order_W, np.arange(settings.batch_size, len(order_W), settings.batch_size)):
            batch = windows.take(chosen)
            loss = reader.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reader.network.parameters(), _LARGEST_GRADIENT)
            optimizer.step()
            total += loss.item() * int(batch.length_W.sum())
        if not np.isfinite(total):
            raise ModelError(
                f"The training loss of {settings.network} should fall but was {total} in epoch {epoch}; lower its "
                f"learning_rate of {settings.learning_rate:g}."
            )
        yield total / int(windows.length_W.sum())


def _keep_best(reader: Reader, losses: Iterator[float], patience: int, valid: Task | None) -> Trained:
    """Let the epochs run until there was no better one for `patience` epochs, and go back to the best."""
    best, kept, state = -1.0, 0, {}
    ndcg_by_epoch: list[float] = []
    loss_by_epoch: list[float] = []
    for loss in losses:
        loss_by_epoch.append(loss)
        if valid is None:
            continue
        ndcg_by_epoch.append(_ndcg_at_10(rank_dense(valid, reader.log_probs, k=10).rank_E))
        if ndcg_by_epoch[-1] > best:
            best, kept, state = ndcg_by_epoch[-1], len(ndcg_by_epoch), copy.deepcopy(reader.network.state_dict())
        elif len(ndcg_by_epoch) - kept >= patience:
            break
    if state:
        reader.network.load_state_dict(state)
    return Trained(reader, kept or len(loss_by_epoch), ndcg_by_epoch, loss_by_epoch)


def _ndcg_at_10(rank_E: Int64) -> float:
    """nDCG@10 with one relevant item an event; `rank_E` int64 from 1, 0 for an item that is not among the ranked."""
    return float(np.where((rank_E > 0) & (rank_E <= 10), 1 / np.log2(np.maximum(rank_E, 1) + 1), 0.0).mean())
