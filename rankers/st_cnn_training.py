"""The network of ST-CNN, its training, and the ranker; see `st_cnn` for the shapes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Float64, Int64
from ..errors import ModelError
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from .devices import device, own_seed
from .popular import popular_shares
from .protocol import Arrays, Dense
from .st_cnn import HOUR_S, Happened, ItemMap, MapSettings, happened, learnt_from

_FEWEST: Final = 40  # hours, below which none is held out
_HOURS_PER_PASS: Final = 64
_RARE: Final = 12.0  # nats: a slot of this share and rarer ones are read as nothing


class MapNetwork(nn.Module):
    """Convolutions over the frames and the usual shares; they give what is added to the logarithm of these shares.

    The last layer starts at zero, and so an untrained network gives the usual shares.
    """

    base_X: Tensor
    taken_X: Tensor

    def __init__(self, base_X: Float64, num_features: int, items: ItemMap, settings: MapSettings) -> None:
        super().__init__()
        self.shape = (items.num_groups, items.cells, items.cells)
        self.register_buffer("base_X", torch.from_numpy(base_X.astype(np.float32)), persistent=False)
        self.register_buffer("taken_X", torch.from_numpy(np.isfinite(base_X)), persistent=False)
        channels = (len(settings.frames) + 1) * items.num_groups
        sizes = [channels, *[settings.hidden] * settings.layers]
        self.maps = nn.ModuleList(nn.Conv2d(one, two, 3, padding=1) for one, two in pairwise(sizes))
        self.hour = nn.Linear(num_features, settings.hidden)
        self.change = nn.Conv2d(settings.hidden, items.num_groups, 1)
        self.trust = nn.Parameter(torch.ones(1))
        for parameter in self.change.parameters():
            nn.init.zeros_(parameter)

    def forward(self, count_HFX: Tensor, feature_HY: Tensor) -> Tensor:
        """Logarithms of the slots' shares in the demand of the hours: [H, X]."""
        num_hours = len(count_HFX)
        usual_X = torch.where(self.taken_X, self.base_X, -_RARE)
        usual = (usual_X.clamp(min=-_RARE) / _RARE + 1).expand(num_hours, 1, -1)
        read = torch.cat([count_HFX, usual], 1).reshape(num_hours, -1, *self.shape[1:])
        for at, layer in enumerate(self.maps):
            read = layer(read)
            if at == 0:
                read = read + self.hour(feature_HY)[:, :, None, None]
            read = torch.relu(read)
        change_HX = self.change(read).reshape(num_hours, -1)
        logit_HX = (usual_X * self.trust + change_HX).masked_fill(~self.taken_X, -torch.inf)
        return torch.log_softmax(logit_HX, -1)


@dataclass(frozen=True)
class _Hours:
    """What is read of hours, and how many events each slot had in them."""

    past: Happened
    items: ItemMap
    settings: MapSettings
    scale_2Y: Float64

    def inputs(self, hour_H: Int64, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """Frames [H, F, X] and features [H, Y] of some hours."""
        counts = self.past.counts(hour_H, self.items, self.settings.frames)
        read = counts, self.past.features(hour_H, self.scale_2Y)
        first, second = (torch.from_numpy(array).to(device(), kind) for array in read)
        return first, second

    def loss(self, network: MapNetwork, hour_H: Int64) -> tuple[Tensor, float]:
        """Sum over the events of some hours of the negative log-share of their slots, in nats; how many events."""
        log_HX = network(*self.inputs(hour_H, torch.float32))
        log_count_HX = self.past.counts(hour_H, self.items, [(0, 0)])[:, 0]
        count_HX = torch.from_numpy(np.expm1(log_count_HX)).to(log_HX)
        return -(count_HX * log_HX.masked_fill(~network.taken_X, 0.0)).sum(), float(count_HX.sum())


def _set_up(histories: Histories, split: EvaluatedSplit, settings: MapSettings) -> tuple[_Hours, MapNetwork]:
    """What is learnt from, and an untrained network."""
    items, past = ItemMap.of(histories, split, settings), learnt_from(histories, split)
    hours = _Hours(past, items, settings, past.scale())
    num_features = past.features(np.zeros(1, np.int64), hours.scale_2Y).shape[1]
    base_X = items.base(popular_shares(histories, split))
    return hours, MapNetwork(base_X, num_features, items, settings).to(device())


def train(histories: Histories, split: EvaluatedSplit, settings: MapSettings, seed: int) -> MapNetwork:
    """Train on the events of splits before `split`, hour by hour, and stop by the last tenth of these hours.

    On the CPU of one machine the same `seed` gives the same weights; torch's global generators are left as they were.
    Raises ModelError where the training diverges.
    """
    with own_seed(seed):
        hours, network = _set_up(histories, split, settings)
        hour_H = np.unique(hours.past.hour_M[hours.items.slot_I[hours.past.item_M] >= 0])
        num_held = len(hour_H) // 10 if len(hour_H) >= _FEWEST else 0
        hour_H, held_H = hour_H[: len(hour_H) - num_held], hour_H[len(hour_H) - num_held :]
        usual_X = network.base_X
        if num_held:  # the usual shares must not know the hours that training stops by
            network.base_X = _base(hours, int(held_H[0]))
        optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        generator = np.random.default_rng(seed)
        kept, best, since = copy.deepcopy(network.state_dict()), _held_out(network, hours, held_H), 0
        for epoch in range(1, (settings.max_epochs if num_held else settings.epochs_unwatched) + 1):
            _epoch(network, hours, optimizer, generator.permutation(hour_H), epoch)
            loss = _held_out(network, hours, held_H)
            if loss < best or not num_held:
                kept, best, since = copy.deepcopy(network.state_dict()), loss, 0
            elif (since := since + 1) >= settings.patience:
                break
        network.load_state_dict(kept)
        network.base_X = usual_X
    return network


def _base(hours: _Hours, before: int) -> Tensor:
    """The usual shares by the events before an hour, each item counted once more than it was: float32 [X]."""
    item_M = hours.past.item_M[hours.past.hour_M < before]
    count_I = np.bincount(item_M, minlength=len(hours.items.slot_I)) + 1.0
    return torch.from_numpy(hours.items.base(count_I / count_I.sum()).astype(np.float32)).to(device())


def _epoch(
    network: MapNetwork, hours: _Hours, optimizer: torch.optim.Optimizer, hour_H: Int64, epoch: int
) -> None:  # fmt: skip
    """Every hour once, in this order."""
    size = hours.settings.batch_size
    for start in range(0, len(hour_H), size):
        total, num_events = hours.loss(network, hour_H[start : start + size])
        if not np.isfinite(total.item()):
            raise ModelError(
                f"The training loss of ST-CNN should fall but was {total.item()} in epoch {epoch}; lower its "
                f"learning_rate of {hours.settings.learning_rate:g}."
            )
        optimizer.zero_grad()
        (total / num_events).backward()
        optimizer.step()


@torch.no_grad()
def _held_out(network: MapNetwork, hours: _Hours, held_H: Int64) -> float:
    """Mean negative log-share, in nats; 0 without an hour."""
    parts = [
        hours.loss(network, held_H[at : at + _HOURS_PER_PASS]) for at in range(0, len(held_H), _HOURS_PER_PASS)
    ]  # fmt: skip
    return sum(total.item() for total, _ in parts) / max(sum(num for _, num in parts), 1.0)


def restored(arrays: Arrays, known: Histories, split: EvaluatedSplit, settings: MapSettings) -> MapNetwork:
    """A network of what `MapRanker.arrays` gave, and the histories that it was fitted on."""
    with own_seed(0):
        _, network = _set_up(known, split, settings)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return network


@dataclass(frozen=True)
class MapRanker:
    """Scores by the logarithm of the share that the map of the hour gives to each item."""

    network: MapNetwork
    items: ItemMap
    settings: MapSettings
    scale_2Y: Float64

    @classmethod
    def of(
        cls, network: MapNetwork, histories: Histories, split: EvaluatedSplit, settings: MapSettings
    ) -> MapRanker:  # fmt: skip
        """Of a network and what it was fitted on. In float64, in which an hour's map is the same in any batch."""
        scale_2Y = learnt_from(histories, split).scale()
        return cls(network.double().eval(), ItemMap.of(histories, split, settings), settings, scale_2Y)

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """See `Ranker.on`."""
        known = known or histories
        hours = _Hours(happened(known), self.items, self.settings, self.scale_2Y)
        share_I, hour_N = popular_shares(known, split), histories.time_s_N // HOUR_S

        def scores(row_Q: Int64) -> Float64:
            hour_H, at_Q = np.unique(hour_N[row_Q], return_inverse=True)
            return self.items.log_probs(self.maps(hours, hour_H), share_I)[at_Q]

        def order(row_E: Int64) -> Int64:
            """Questions of one hour together: a chunk of them takes one map for each hour."""
            return np.argsort(hour_N[row_E], kind="stable")

        return Dense(scores, is_log_prob=True, order=order)

    @torch.inference_mode()
    def maps(self, hours: _Hours, hour_H: Int64) -> Float64:
        """Logarithms of the slots' shares: float64 [H, X]."""
        parts = [hour_H[at : at + _HOURS_PER_PASS] for at in range(0, len(hour_H), _HOURS_PER_PASS)]
        with torch.autocast(device().type, enabled=False):  # a language model may be at work around it
            maps = [self.network(*hours.inputs(part, torch.float64)).cpu().numpy() for part in parts]
        return np.concatenate(maps)

    def arrays(self) -> Arrays:
        """The network's weights by their names."""
        state = self.network.state_dict()
        return {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in state.items()}
