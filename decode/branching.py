"""The catalogue distribution in torch: logits only at branching nodes, only for their edges.

Shape legend: X scored positions, H hidden size, V vocabulary, U distinct edge tokens, J edges of the X nodes end to
end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..catalogue import Trie
from .output_layer import OutputLayer

WIDE: Final = 1024
"""A node with more edges than this is scored by one matrix product."""
_DENSE_LOGITS: Final = 16_000_000  # held at once, float32


@dataclass(frozen=True)
class TrieTensors:
    """The trie's edge arrays as int64 tensors on one device."""

    child_ptr_B1: Tensor
    child_token_C: Tensor

    @classmethod
    def of(cls, trie: Trie, device: torch.device) -> TrieTensors:
        ptr = torch.from_numpy(trie.child_ptr_B1.astype(np.int64)).to(device)
        return cls(ptr, torch.from_numpy(trie.child_token_C.astype(np.int64)).to(device))


def edge_log_probs(
    hidden_XH: Tensor, node_X: Tensor, trie: TrieTensors, output: OutputLayer, temperature: float
) -> tuple[Tensor, Tensor]:
    """float32 [J] log-probabilities of the nodes' edges, end to end, and int64 [X] where each node's edges begin.

    The model's logits are restricted to the node's edges, divided by `temperature` and renormalised. Differentiable in
    `hidden_XH`. The projection is computed for the U tokens that occur at all, not for the vocabulary.
    """
    begin_X = trie.child_ptr_B1[node_X]
    count_X = trie.child_ptr_B1[node_X + 1] - begin_X
    first_X = count_X.cumsum(0) - count_X
    row_J = torch.repeat_interleave(torch.arange(len(node_X), device=node_X.device), count_X)
    edge_J = torch.arange(len(row_J), device=node_X.device) + (begin_X - first_X)[row_J]
    return log_softmax(edge_logits(hidden_XH, edge_J, row_J, trie, output) / temperature, row_J), first_X


def taken_log_probs(
    hidden_XH: Tensor, node_X: Tensor, edge_X: Tensor, trie: TrieTensors, output: OutputLayer, temperature: float
) -> Tensor:
    """float32 [X]: the log-probability of one edge of each node, `edge_X` int64, counted within the node.

    The same as that edge of `edge_log_probs`. Nodes with more than `WIDE` edges, such as the root of a large catalogue,
    are scored node by node: one matrix product for all positions at the node, in blocks whose logits are computed again
    for the gradient. So no index of every position and edge is made, and memory does not grow with their product.
    """
    is_wide_X = trie.child_ptr_B1[node_X + 1] - trie.child_ptr_B1[node_X] > WIDE
    narrow_Y = torch.nonzero(~is_wide_X)[:, 0]
    node_Y = node_X[narrow_Y]
    log_prob_J, first_Y = edge_log_probs(hidden_XH[narrow_Y], node_Y, trie, output, temperature)
    taken_Y = log_prob_J[first_Y + edge_X[narrow_Y]]
    if len(narrow_Y) == len(node_X):
        return taken_Y
    found_X = torch.zeros(len(node_X), device=node_X.device).index_copy(0, narrow_Y, taken_Y)
    for node in torch.unique(node_X[is_wide_X]).tolist():
        token_C = trie.child_token_C[trie.child_ptr_B1[node] : trie.child_ptr_B1[node + 1]]
        chosen = output.rows(token_C)
        for at_Y in torch.nonzero(node_X == node)[:, 0].split(max(1, _DENSE_LOGITS // len(token_C))):
            arguments = hidden_XH[at_Y], edge_X[at_Y], chosen, temperature
            found_X = found_X.index_copy(0, at_Y, checkpoint(_dense_log_probs, *arguments, use_reentrant=False))
    return found_X


def _dense_log_probs(hidden_YH: Tensor, edge_Y: Tensor, output: OutputLayer, temperature: float) -> Tensor:
    """float32 [Y]: the log-probability of one of a node's edges at each position; `output` is of the edges' tokens."""
    logits_YC = output.logits(hidden_YH) / temperature
    return logits_YC.gather(1, edge_Y[:, None])[:, 0] - logits_YC.logsumexp(1)


def edge_logits(hidden_XH: Tensor, edge_J: Tensor, row_J: Tensor, trie: TrieTensors, output: OutputLayer) -> Tensor:
    """float32 [J]: the model's logits of edges (int64 [J]), each at the position `row_J` (int64 [J], below X)."""
    token_U, column_J = torch.unique(trie.child_token_C[edge_J], return_inverse=True)
    return output.logits(hidden_XH, token_U)[row_J, column_J]


def log_softmax(score_J: Tensor, row_J: Tensor) -> Tensor:
    """float32 [J]: scores shifted such that the exponentials of each row (`row_J`, ascending from 0) sum to 1."""
    num_rows = int(row_J[-1]) + 1 if len(row_J) else 0
    top_X = torch.full((num_rows,), -torch.inf, device=score_J.device)
    top_X = top_X.scatter_reduce(0, row_J, score_J.detach(), "amax")
    sum_X = torch.zeros_like(top_X).index_add(0, row_J, (score_J - top_X[row_J]).exp())
    return score_J - (top_X + sum_X.log())[row_J]
