"""The catalogue loss: the negative log-probability of each title under the distribution that serving ranks by."""

from __future__ import annotations

from typing import Any

from peft import PeftModel
from torch import Tensor, nn

from ..decode.branching import TrieTensors, edge_log_probs
from ..decode.transformers_engine import output_layers
from .lessons import Batch


def catalogue_loss(
    hidden_RLH: Tensor, batch: Batch, trie: TrieTensors, weight_VH: Tensor, bias_V: Tensor | None, temperature: float
) -> Tensor:
    """Mean over titles of -log p(title), nats; trie-masked cross-entropy summed over each title's branching nodes.

    Masked softmax loss: arXiv 2504.04178. Only the P branching positions and the tokens on their edges are projected.
    """
    if not len(batch.position_P):
        return hidden_RLH.sum() * 0.0
    hidden_PH = hidden_RLH.flatten(0, 1)[batch.position_P]
    log_prob_E, first_P = edge_log_probs(hidden_PH, batch.node_P, trie, weight_VH, bias_V, temperature)
    chosen_P = first_P + batch.edge_P - trie.child_ptr_B1[batch.node_P]
    return -log_prob_E[chosen_P].sum() / batch.num_titles


class CatalogueModel(nn.Module):
    """A PEFT model whose forward pass is the catalogue loss, so that wrappers for many devices see one module."""

    def __init__(self, model: PeftModel, trie: TrieTensors, temperature: float) -> None:
        super().__init__()
        self.model, self.trie, self.temperature = model, trie, temperature

    def forward(self, batch: Batch) -> Tensor:
        base: Any = self.model.get_base_model()
        backbone, weight_VH, bias_V = output_layers(base)
        hidden: Any = backbone(input_ids=batch.tokens_RL, use_cache=False).last_hidden_state
        return catalogue_loss(hidden, batch, self.trie, weight_VH, bias_V, self.temperature)
