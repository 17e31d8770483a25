"""The catalogue distribution in torch: logits only at branching nodes, only for their edges.

Shape legend: X scored positions, H hidden size, V vocabulary, U distinct edge tokens, E edges of the X nodes end to
end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..catalogue import Trie


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
    hidden_XH: Tensor, node_X: Tensor, trie: TrieTensors, weight_VH: Tensor, bias_V: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """float32 [E] log-probabilities of the nodes' edges, end to end, and int64 [X] where each node's edges begin.

    The model's logits are restricted to the node's edges, divided by `temperature` and renormalised. Differentiable in
    `hidden_XH`. The projection is computed for the U tokens that occur at all, not for the vocabulary.
    """
    begin_X = trie.child_ptr_B1[node_X]
    count_X = trie.child_ptr_B1[node_X + 1] - begin_X
    end_X = count_X.cumsum(0)
    first_X = end_X - count_X
    row_E = torch.repeat_interleave(torch.arange(len(node_X), device=node_X.device), count_X)
    edge_E = torch.arange(len(row_E), device=node_X.device) + (begin_X - first_X)[row_E]
    token_U, column_E = torch.unique(trie.child_token_C[edge_E], return_inverse=True)
    with torch.autocast(hidden_XH.device.type, enabled=False):
        logits_XU = hidden_XH.float() @ weight_VH[token_U].float().T
        if bias_V is not None:
            logits_XU = logits_XU + bias_V[token_U].float()
    logits_E = logits_XU[row_E, column_E] / temperature
    top_X = torch.full((len(node_X),), -torch.inf, device=logits_E.device)
    top_X = top_X.scatter_reduce(0, row_E, logits_E.detach(), "amax")
    sum_X = torch.zeros_like(top_X).index_add(0, row_E, (logits_E - top_X[row_E]).exp())
    return logits_E - (top_X + sum_X.log())[row_E], first_X
