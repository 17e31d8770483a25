"""The training of LightGCN, see `light_gcn`.

Shapes: U = users, I = items, V = users and then items, D = hidden size, B = edges of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..arrays import Int64
from ..errors import ModelError
from ..histories import Histories
from .devices import device, own_seed
from .light_gcn import Graph, GraphRanker, GraphSettings, GraphVectors, graph_users
from .sequences import Watched

_START: Final = 0.1  # standard deviation of the vectors before training, as in the authors' code
_DRAWS: Final = 20  # of an item that a user has not chosen


@dataclass(frozen=True)
class Network:
    """Vectors of users and items, float32 [V, D], and the matrix that passes them along the edges, sparse [V, V]."""

    start_VD: Tensor
    passing_VV: Tensor
    layers: int
    num_users: int

    @classmethod
    def of(cls, graph: Graph, settings: GraphSettings) -> Network:
        num_nodes = graph.num_users + graph.num_items
        ends_2P = np.stack([graph.user_P, graph.item_P + graph.num_users])
        ends = torch.from_numpy(np.concatenate([ends_2P, ends_2P[::-1]], axis=1))
        weight = torch.from_numpy(np.tile(graph.normed_P, 2).astype(np.float32))
        passing_VV = torch.sparse_coo_tensor(ends, weight, (num_nodes, num_nodes), check_invariants=False).coalesce()
        start_VD = torch.nn.init.normal_(torch.empty(num_nodes, settings.hidden), std=_START).to(device())
        return cls(start_VD.requires_grad_(), passing_VV.to(device()), settings.layers, graph.num_users)

    def vectors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Users [U, D], what they read of items [I, D], and items [I, D]: means over the layers.

        What a user reads of an item is of the layers below.
        """
        layers = [self.start_VD]
        for _ in range(self.layers):
            layers.append(torch.sparse.mm(self.passing_VV, layers[-1]))
        read_VD, last_VD = torch.stack(layers[:-1]).sum(0) / len(layers), layers[-1] / len(layers)
        vector_VD, read_ID = read_VD + last_VD, read_VD[self.num_users :]
        return vector_VD[: self.num_users], read_ID, vector_VD[self.num_users :]

    @torch.no_grad()
    def learnt(self, graph: Graph) -> GraphVectors:
        """The model that ranks for users with any history, and for those of the graph."""
        _, read_ID, item_ID = self.vectors()
        degree_I = graph.degree_I
        root_I = np.divide(1.0, np.sqrt(degree_I), out=np.zeros_like(degree_I), where=degree_I > 0)
        own_UD = self.start_VD[: self.num_users] / (self.layers + 1)
        read_ID *= torch.from_numpy(root_I[:, None].astype(np.float32)).to(device())
        return GraphVectors(read_ID.cpu().numpy(), item_ID.cpu().numpy(), own_UD.cpu().numpy())


def train(histories: Histories, settings: GraphSettings, seed: int, valid: Watched | None) -> GraphVectors:
    """Train on the graph of the train split, which has an edge.

    On the CPU of one machine the same `seed` gives the same vectors; torch's global generators are left as they were.
    `valid` are the events to stop by; None: train for `settings.epochs_unwatched` epochs. Raises ModelError where the
    training diverges.
    """
    graph, generator = Graph.of(histories, settings.edge_half_life_days), np.random.default_rng(seed)
    user_ids = graph_users(histories)
    with own_seed(seed):
        network = Network.of(graph, settings)
        optimizer = torch.optim.Adam([network.start_VD], settings.learning_rate)
        kept, best, since = network.learnt(graph), -1.0, 0
        for epoch in range(1, (settings.max_epochs if valid else settings.epochs_unwatched) + 1):
            _epoch(network, graph, optimizer, settings, generator, epoch)
            learnt = network.learnt(graph)
            ndcg = 0.0 if valid is None else _ndcg(learnt, user_ids, histories, valid)
            if valid is None or ndcg > best:
                kept, best, since = learnt, ndcg, 0
            elif (since := since + 1) >= settings.patience:
                break
    return kept


def _ndcg(vectors: GraphVectors, user_ids: Sequence[str], histories: Histories, valid: Watched) -> float:
    return valid.ndcg_at_10(GraphRanker(vectors, user_ids, None, 0.0).on(histories, "valid").scores)


def _epoch(
    network: Network, graph: Graph, optimizer: torch.optim.Optimizer, settings: GraphSettings,
    generator: np.random.Generator, epoch: int,
) -> None:  # fmt: skip
    """Every edge once, in random order."""
    order_P = generator.permutation(len(graph.user_P))
    for batch_B in np.split(order_P, np.arange(settings.batch_size, len(order_P), settings.batch_size)):
        loss = _loss(network, graph, batch_B, settings, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not np.isfinite(loss.item()):
            raise ModelError(
                f"The training loss of LightGCN should fall but was {loss.item()} in epoch {epoch}; lower its "
                f"learning_rate of {settings.learning_rate:g}."
            )


def _loss(
    network: Network, graph: Graph, batch_B: Int64, settings: GraphSettings, generator: np.random.Generator
) -> Tensor:
    """BPR: each chosen item against one that the user did not choose, in nats, and the penalty; a scalar.

    What the user reads of the chosen item itself is left out: at that time, it is not in the history. Otherwise each
    item would learn to be like itself.
    """
    user_B, item_B = _on(graph.user_P[batch_B]), _on(graph.item_P[batch_B])
    user_UD, read_ID, item_ID = network.vectors()
    edge_B = torch.from_numpy(graph.normed_P[batch_B].astype(np.float32)).to(device())
    user_BD = user_UD[user_B] - edge_B[:, None] * read_ID[item_B]
    other_B = _on(not_chosen(graph, graph.user_P[batch_B], generator))
    loss = functional.softplus((user_BD * (item_ID[other_B] - item_ID[item_B])).sum(-1)).mean()
    start_ID = network.start_VD[network.num_users :]
    drawn = [network.start_VD[user_B], start_ID[item_B], start_ID[other_B]]
    return loss + settings.penalty * torch.stack([part.square().sum() for part in drawn]).sum() / len(batch_B) / 2


def not_chosen(graph: Graph, user_B: Int64, generator: np.random.Generator) -> Int64:
    """An item drawn at random for each user that has no edge to it: int64 [B]; any item where a user has almost all."""
    key_P = graph.user_P * graph.num_items + graph.item_P  # ascending
    item_B = generator.integers(0, graph.num_items, len(user_B))
    for _ in range(_DRAWS - 1):
        key_B = user_B * graph.num_items + item_B
        at_B = np.minimum(np.searchsorted(key_P, key_B), len(key_P) - 1)
        chosen_X = np.flatnonzero(key_P[at_B] == key_B)
        if not len(chosen_X):
            break
        item_B[chosen_X] = generator.integers(0, graph.num_items, len(chosen_X))
    return item_B


def _on(index: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(index).to(device())
