"""Small causal networks over item ids, and their training.

The hidden state of each event of a window follows from it and what stands before it. Scores are inner products with the
items' own input embeddings (tied, as in both papers' better variants); a softmax over the whole catalogue makes them
probabilities. Training minimises the cross-entropy at every step of every window: with this loss SASRec is a strong
opponent (Klenitskiy and Vasilev, "Turning Dross Into Gold Loss: is BERT4Rec really better than SASRec?", RecSys 2023).
It stops when nDCG@10 on the validation events has not risen for some epochs, and goes back to the best epoch.

Shapes: W = windows, L = events of a window, D = hidden size, X = any number of hidden states or steps, I = items,
N = events, Q = queries.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..arrays import Int64
from ..errors import ModelError
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import num_previous
from .devices import device, own_seed
from .protocol import Arrays, Dense
from .sequences import NUM_GAPS, SequenceSettings, Transitions, Watched, Windows, time_features, windows_before

_BETAS: Final = (0.9, 0.98)  # of Adam, as in SASRec's own code
_LARGEST_GRADIENT: Final = 5.0  # norm; a recurrent network's would explode now and then
_EVENTS_PER_PASS: Final = 32_768  # how many events are read at once when ranking


@dataclass(frozen=True)
class Inputs:
    """What a network reads of W windows; all int64.

    `time_WL3` has hour, day and gap of each event, `next_WL3` those of the event that follows, which is predicted;
    `place_WL` counts the events of the window behind each event: 0 for the last, and in the padding.
    """

    item_WL: Tensor
    time_WL3: Tensor
    next_WL3: Tensor
    place_WL: Tensor


class _TimeEmbedding(nn.Module):
    """Hour of the day, day of the week and time since the previous event, each an embedding, added up."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, hidden) for size in (24, 7, NUM_GAPS))

    def forward(self, time_WL3: Tensor) -> Tensor:
        parts = [embedding(time_WL3[..., i]) for i, embedding in enumerate(self.embeddings)]
        return torch.stack(parts).sum(0)


class Network(nn.Module):
    """What both networks share: embeddings of items, and scores from hidden states.

    `known_I` bool says which items training events have. Others are read as zero: their embedding was never trained as
    an input, and would be noise.
    """

    known_I: Tensor

    def __init__(self, known_I: Tensor, hidden: int) -> None:
        super().__init__()
        self.items = nn.Embedding(len(known_I), hidden)
        self.register_buffer("known_I", known_I.float())

    def read(self, item_WL: Tensor) -> Tensor:
        """Embedding of each event's item: float32 [W, L, D]."""
        read_WLD: Tensor = self.items(item_WL) * self.known_I[item_WL].unsqueeze(-1)
        return read_WLD

    def scores(self, hidden_XD: Tensor) -> Tensor:
        """Logits of all items: float32 [X, I]."""
        return hidden_XD @ self.items.weight.T


class SASRec(Network):
    """Self-attention over the events so far: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.

    Places are counted from the last event backwards, as in the paper, whose windows are filled from the right: counted
    from the first, those of histories longer than any in training would never have been trained.

    With `timed` each event is read with its own time and that of the predicted one, so that attention can
    look for events like the one to come.
    """

    def __init__(
        self, known_I: Tensor, length: int, hidden: int, layers: int, heads: int, dropout: float, timed: bool
    ) -> None:  # fmt: skip
        super().__init__(known_I, hidden)
        self.positions = nn.Embedding(length, hidden)
        self.own_moment = _TimeEmbedding(hidden) if timed else None
        self.asked_moment = _TimeEmbedding(hidden) if timed else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        _start_small(self, hidden)

    def forward(self, inputs: Inputs) -> Tensor:
        """Hidden states: float32 [W, L, D]."""
        hidden_WLD = self.read(inputs.item_WL) + self.positions(inputs.place_WL)
        if self.own_moment is not None and self.asked_moment is not None:
            hidden_WLD = hidden_WLD + self.own_moment(inputs.time_WL3) + self.asked_moment(inputs.next_WL3)
        hidden_WLD = self.dropout(hidden_WLD)
        for block in self.blocks:
            hidden_WLD = block(hidden_WLD)
        normed_WLD: Tensor = self.norm(hidden_WLD)
        return normed_WLD


class _Block(nn.Module):
    """Causal self-attention and two pointwise layers, each normed before and added to what it read."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.attention_norm, self.pointwise_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.project, self.join = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.pointwise = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_WLD: Tensor) -> Tensor:
        shape = (*hidden_WLD.shape[:2], self.heads, -1)
        parts = self.project(self.attention_norm(hidden_WLD)).chunk(3, dim=-1)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in parts)
        rate = self.rate if self.training else 0.0
        seen = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        hidden_WLD = hidden_WLD + self.dropout(self.join(seen.transpose(1, 2).reshape(hidden_WLD.shape)))
        added_WLD: Tensor = self.dropout(self.pointwise(self.pointwise_norm(hidden_WLD)))
        return hidden_WLD + added_WLD


class Recurrent(Network):
    """Recurrent cells over the events so far. With `timed` each event is read with the times that `SASRec` reads.

    GRU4Rec has gated recurrent units: Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks",
    ICLR 2016; tied embeddings and softmax after Hidasi and Karatzoglou, CIKM 2018. LSTM has those of Hochreiter and
    Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, with the same embeddings and loss.
    """

    def __init__(
        self, cells: type[nn.GRU | nn.LSTM], known_I: Tensor, hidden: int, layers: int, dropout: float, timed: bool
    ) -> None:  # fmt: skip
        super().__init__(known_I, hidden)
        self.own_moment = _TimeEmbedding(hidden) if timed else None
        self.asked_moment = _TimeEmbedding(hidden) if timed else None
        self.dropout = nn.Dropout(dropout)
        self.cells = cells(hidden, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        _start_small(self, hidden)

    def forward(self, inputs: Inputs) -> Tensor:
        """Hidden states: float32 [W, L, D]."""
        read_WLD = self.read(inputs.item_WL)
        if self.own_moment is not None and self.asked_moment is not None:
            read_WLD = read_WLD + self.own_moment(inputs.time_WL3) + self.asked_moment(inputs.next_WL3)
        hidden_WLD: Tensor = self.dropout(self.cells(self.dropout(read_WLD))[0])
        return hidden_WLD


def _start_small(network: Network, hidden: int) -> None:
    """Items of about unit length, so that tied scores start out near uniform; positions and times at zero, so that one
    that never occurs in training says nothing."""
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=hidden**-0.5 if module is network.items else 0.0)


@dataclass(frozen=True)
class Reader:
    """A network, and the histories that it reads; `time_N3` int64 has hour, day and gap of each event."""

    histories: Histories
    network: Network
    length: int
    time_N3: Tensor

    def of(self, histories: Histories) -> Reader:
        """The same network, reading other histories of the same catalogue."""
        return replace(self, histories=histories, time_N3=torch.from_numpy(time_features(histories)))

    @property
    def place(self) -> torch.device:
        """The device that the network is on."""
        return self.network.items.weight.device

    @torch.inference_mode()
    def log_probs(self, row_Q: Int64) -> NDArray[np.float32]:
        """Log-probability of every item after the last events before each row, in nats: float32 [Q, I].

        Where there is none, all are equally likely.
        """
        with torch.autocast(self.place.type, enabled=False):  # a language model may be at work around it
            return self._log_probs(row_Q)

    def _log_probs(self, row_Q: Int64) -> NDArray[np.float32]:
        self.network.eval()
        hidden_QD = torch.zeros(len(row_Q), self.network.items.embedding_dim, device=self.place)
        at_X = np.flatnonzero(num_previous(self.histories)[row_Q])
        windows = windows_before(self.histories, row_Q[at_X], self.length)
        step = max(1, _EVENTS_PER_PASS // self.length)
        for start in range(0, len(at_X), step):
            part = np.arange(start, min(start + step, len(at_X)))
            hidden_QD[at_X[part]] = self._last_states(windows.take(part))
        log_prob_QI: NDArray[np.float32] = torch.log_softmax(self.network.scores(hidden_QD), -1).cpu().numpy()
        return log_prob_QI

    def loss(self, windows: Windows) -> Tensor:
        """Mean cross-entropy of all steps of some windows, in nats: a scalar."""
        real_WL = windows.real_WL
        hidden_XD = self.network(self._inputs(windows))[torch.from_numpy(real_WL).to(self.place)]
        item_X = torch.from_numpy(self.histories.item_idx_N[windows.next_WL[real_WL]].astype(np.int64)).to(self.place)
        return functional.cross_entropy(self.network.scores(hidden_XD), item_X)

    def _last_states(self, windows: Windows) -> Tensor:
        hidden_WLD: Tensor = self.network(self._inputs(windows))
        return hidden_WLD[torch.arange(len(hidden_WLD)), torch.from_numpy(windows.length_W - 1)]

    def _inputs(self, windows: Windows) -> Inputs:
        item_WL = torch.from_numpy(self.histories.item_idx_N[windows.row_WL].astype(np.int64))
        row_WL, next_WL = torch.from_numpy(windows.row_WL), torch.from_numpy(windows.next_WL)
        place_WL = np.maximum(windows.length_W[:, None] - 1 - np.arange(windows.row_WL.shape[1]), 0)
        read = item_WL, self.time_N3[row_WL], self.time_N3[next_WL], torch.from_numpy(place_WL)
        return Inputs(*(tensor.to(self.place) for tensor in read))


@dataclass(frozen=True)
class Trained:
    """A trained network with the weights of the epoch that was kept, the number of which counts from 1.

    `ndcg_by_epoch` is nDCG@10 on the validation events after each epoch, empty where there were none; `loss_by_epoch`
    the mean training loss of each, in nats, dropout included.
    """

    reader: Reader
    epoch: int
    ndcg_by_epoch: list[float] = field(default_factory=list)
    loss_by_epoch: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class SequenceRanker:
    """A trained network; scores are log-probabilities over the full catalogue."""

    reader: Reader

    @classmethod
    def restored(cls, settings: SequenceSettings, arrays: Arrays, histories: Histories) -> SequenceRanker:
        """Of what `arrays` gave, and the histories that it was trained on."""
        network = _build(settings, np.zeros(histories.items.height, bool))
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
        return cls(Reader(histories, network, settings.length, torch.from_numpy(time_features(histories))))

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        return Dense(self.reader.of(histories).log_probs, is_log_prob=True)

    def arrays(self) -> Arrays:
        """The network's weights and buffers by their names."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.reader.network.state_dict().items()}


def train(histories: Histories, settings: SequenceSettings, seed: int, valid: Watched | None) -> Trained:
    """Train a network on the steps of the train split, in which some user has two events.

    On the CPU of one machine the same `seed` gives the same weights; torch's global generators are left as they were.
    `valid` are the events to stop by; None: train for `settings.epochs_unwatched` epochs. Raises ModelError where the
    training diverges.
    """
    transitions, generator = Transitions.of(histories), np.random.default_rng(seed)
    with own_seed(seed):
        network = _build(settings, transitions.known(histories))
        reader = Reader(histories, network, settings.length, torch.from_numpy(time_features(histories)))
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, _BETAS, weight_decay=settings.weight_decay
        )
        num_epochs = settings.max_epochs if valid else settings.epochs_unwatched
        losses = _epochs(reader, optimizer, transitions, settings, generator, num_epochs)
        return _keep_best(reader, losses, settings.patience, valid)


def _build(settings: SequenceSettings, known_I: NDArray[np.bool_]) -> Network:
    known = torch.from_numpy(known_I)
    if settings.network == "SASRec":
        sasrec = SASRec(
            known, settings.length, settings.hidden, settings.layers, settings.heads, settings.dropout, settings.timed
        )
        return sasrec.to(device())
    cells = nn.GRU if settings.network == "GRU4Rec" else nn.LSTM
    network = Recurrent(cells, known, settings.hidden, settings.layers, settings.dropout, settings.timed)
    return network.to(device())


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


def _keep_best(reader: Reader, losses: Iterator[float], patience: int, valid: Watched | None) -> Trained:
    """Let the epochs run until there was no better one for `patience` epochs, and go back to the best."""
    best, kept, state = -1.0, 0, {}
    ndcg_by_epoch: list[float] = []
    loss_by_epoch: list[float] = []
    for loss in losses:
        loss_by_epoch.append(loss)
        if valid is None:
            continue
        ndcg_by_epoch.append(valid.ndcg_at_10(reader.log_probs))
        if ndcg_by_epoch[-1] > best:
            best, kept, state = ndcg_by_epoch[-1], len(ndcg_by_epoch), copy.deepcopy(reader.network.state_dict())
        elif len(ndcg_by_epoch) - kept >= patience:
            break
    if state:
        reader.network.load_state_dict(state)
    return Trained(reader, kept or len(loss_by_epoch), ndcg_by_epoch, loss_by_epoch)
