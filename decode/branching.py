"""The catalogue distribution in torch: logits only at branching nodes, only for their edges.

Shape legend: X scored positions, H hidden size, V vocabulary, U distinct edge tokens, J edges of the X nodes end to
end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..catalogue import Trie
from .output_layer import OutputLayer


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
    token_U, column_J = torch.unique(trie.child_token_C[edge_J], return_inverse=True)
    logit_J = output.logits(hidden_XH, token_U)[row_J, column_J]
    return log_softmax(logit_J / temperature, row_J, len(node_X)), first_X


def log_softmax(score_J: Tensor, row_J: Tensor, num_rows: int) -> Tensor:
    """float32 [J]: scores shifted such that the exponentials of each row (`row_J`, below `num_rows`) sum to 1."""
    top_X = torch.full((num_rows,), -torch.inf, device=score_J.device)
    top_X = top_X.scatter_reduce(0, row_J, score_J.detach(), "amax")
    sum_X = torch.zeros_like(top_X).index_add(0, row_J, (score_J - top_X[row_J]).exp())
    return score_J - (top_X + sum_X.log())[row_J]
