"""The edges among which each decision of a batch is taken, and what a decision costs in nats.

All indices are computed on the CPU while a batch is read, so that a GPU is never waited for.

Shape legend: P decisions of a batch, Y some of them, J edges of their nodes end to end, U distinct tokens on edges, C
edges of one wide node, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..arrays import Float32, Int64, ragged
from ..catalogue import Trie
from ..decode.branching import log_softmax
from ..decode.output_layer import OutputLayer
from .tensors import OfTensors

WIDE: Final = 1024
"""A node with more edges than this is scored by one matrix product."""
_DENSE_LOGITS: Final = 16_000_000  # held at once, float32


@dataclass(frozen=True)
class WideNode(OfTensors):
    """The decisions at a node of many edges: `at_Y` int64, which of the P; `taken_Y` int64, the edge that was taken,
    counted within the node; `token_C` int64, the tokens of its edges."""

    at_Y: Tensor
    taken_Y: Tensor
    token_C: Tensor


@dataclass(frozen=True)
class Branches(OfTensors):
    """The edges of P decisions.

    `at_Y` int64: which of the P are at narrow nodes, in their order. Their edges, end to end: `row_J` int64, the
    decision (below Y, ascending); `column_J` int64, the place of the edge's token in `token_U` (int64, distinct);
    `log_mass_J` float32, the logarithm of the prior's mass below the edge (None without a prior). `taken_Y` int64 is
    where in J the edge is that was taken. `wide`: all other decisions.
    """

    at_Y: Tensor
    row_J: Tensor
    column_J: Tensor
    token_U: Tensor
    taken_Y: Tensor
    log_mass_J: Tensor | None = None
    wide: tuple[WideNode, ...] = ()


def branches_of(trie: Trie, node_P: Int64, edge_P: Int64) -> Branches:
    """Of decisions at the nodes `node_P` that took the edges `edge_P` (int64), without a prior."""
    begin_P = trie.child_ptr_B1[node_P]
    count_P = trie.child_ptr_B1[node_P + 1] - begin_P
    at_Y, wide_P = np.flatnonzero(count_P <= WIDE), count_P > WIDE
    row_J, edge_J = ragged(begin_P[at_Y], count_P[at_Y])
    taken_Y = np.cumsum(count_P[at_Y]) - count_P[at_Y] + edge_P[at_Y] - begin_P[at_Y]
    nodes = []
    for node in np.unique(node_P[wide_P]).tolist():
        here_Y, edges = np.flatnonzero(node_P == node), slice(*trie.child_ptr_B1[node : node + 2].tolist())
        token_C = trie.child_token_C[edges].astype(np.int64)
        nodes.append(WideNode(*map(torch.from_numpy, (here_Y, edge_P[here_Y] - edges.start, token_C))))
    return _branches(trie, at_Y, edge_J, row_J, taken_Y, None, tuple(nodes))


def branches_on_top(trie: Trie, edge_J: Int64, row_J: Int64, taken_P: Int64, log_mass_J: Float32) -> Branches:
    """Of decisions among the edges to which a prior gives mass; edges are numbered as in the trie."""
    return _branches(trie, np.arange(len(taken_P)), edge_J, row_J, taken_P, log_mass_J, ())


def _branches(
    trie: Trie, at_Y: Int64, edge_J: Int64, row_J: Int64, taken_Y: Int64, log_mass_J: Float32 | None,
    wide: tuple[WideNode, ...],
) -> Branches:  # fmt: skip
    token_J = trie.child_token_C[edge_J]
    is_there_V: NDArray[np.bool_] = np.zeros(int(token_J.max(initial=0)) + 1, bool)
    is_there_V[token_J] = True
    column_J = (np.cumsum(is_there_V) - 1)[token_J]
    return Branches(
        torch.from_numpy(at_Y.astype(np.int64)),
        torch.from_numpy(row_J),
        torch.from_numpy(column_J),
        torch.from_numpy(np.flatnonzero(is_there_V)),
        torch.from_numpy(taken_Y),
        None if log_mass_J is None else torch.from_numpy(log_mass_J),
        wide,
    )


@dataclass(frozen=True)
class States:
    """What a model says at the decisions: hidden states, the output layer, and what divides the logits."""

    hidden_PH: Tensor
    output: OutputLayer
    temperature: float | Tensor


def nats_of(own: States, branches: Branches, teacher: States | None = None, share: float = 0.0) -> Tensor:
    """float32 [P]: -log p of the edge that each decision took, differentiable in `own`.

    Masked softmax loss: arXiv 2504.04178. Its authors' code takes the mean over tokens, times the temperature; here the
    sum over a title is its -log p. Only the decisions and the tokens on their edges are projected. On top of a prior,
    the logarithm of its mass below each edge is added to the logits (a product of experts; residual fitting: arXiv
    1908.10763), so that the gradient is about what the prior does not know.

    With a `teacher`, that `share` of the value is the Kullback-Leibler divergence of the two distributions over the
    node's edges (knowledge distillation, arXiv 1503.02531).

    At wide nodes, such as the root of a large catalogue, one matrix product scores all positions, in blocks whose
    logits are computed again for the gradient. So no index of every position and edge is made, and memory does not
    grow with their product.
    """
    nats_Y = _narrow_nats(own, branches, teacher, share)
    if not branches.wide:
        return nats_Y
    num = len(branches.at_Y) + sum(len(node.at_Y) for node in branches.wide)
    found_P = torch.zeros(num, device=nats_Y.device).index_copy(0, branches.at_Y, nats_Y)
    for node in branches.wide:
        chosen = [(of, of.output.rows(node.token_C)) for of in (own, teacher) if of is not None]
        size = max(1, _DENSE_LOGITS // len(node.token_C))
        for at_Y, taken_Y in zip(node.at_Y.split(size), node.taken_Y.split(size), strict=True):
            states = [States(of.hidden_PH[at_Y], rows, of.temperature) for of, rows in chosen]
            nats_Y = checkpoint(_dense_nats, taken_Y, share, *states, use_reentrant=False)
            found_P = found_P.index_copy(0, at_Y, nats_Y)
    return found_P


def _narrow_nats(own: States, branches: Branches, teacher: States | None, share: float) -> Tensor:
    log_prob_J = _edge_log_probs(own, branches)
    nats_Y = -log_prob_J[branches.taken_Y]
    if teacher is None:
        return nats_Y
    taught_J = _edge_log_probs(teacher, branches)
    apart_J = taught_J.exp() * (taught_J - log_prob_J)
    return (1 - share) * nats_Y + share * torch.zeros_like(nats_Y).index_add(0, branches.row_J, apart_J)


def _edge_log_probs(of: States, branches: Branches) -> Tensor:
    """float32 [J]: log-probabilities of the edges at narrow nodes."""
    logits_YU = of.output.logits(of.hidden_PH[branches.at_Y], branches.token_U)
    score_J = logits_YU[branches.row_J, branches.column_J] / of.temperature
    if branches.log_mass_J is not None:
        score_J = score_J + branches.log_mass_J
    return log_softmax(score_J, branches.row_J, len(branches.at_Y))


def _dense_nats(taken_Y: Tensor, share: float, own: States, teacher: States | None = None) -> Tensor:
    """float32 [Y]: as `nats_of`, at some positions of one node; the output layers are of its edges' tokens."""
    log_prob_YC = (own.output.logits(own.hidden_PH) / own.temperature).log_softmax(1)
    nats_Y = -log_prob_YC.gather(1, taken_Y[:, None])[:, 0]
    if teacher is None:
        return nats_Y
    taught_YC = (teacher.output.logits(teacher.hidden_PH) / teacher.temperature).log_softmax(1)
    return (1 - share) * nats_Y + share * (taught_YC.exp() * (taught_YC - log_prob_YC)).sum(1)
