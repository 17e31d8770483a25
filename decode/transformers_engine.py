"""The in-process engine: any causal model of transformers, reading the history once.

All branches of all questions are laid out as one row of new tokens behind the text. An attention mask lets each see the
text up to its question and its own ancestors: the KV cache is shared, nothing is copied per branch, and one round of
the search is one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..catalogue import Trie
from ..errors import ModelError
from .branching import TrieTensors, edge_log_probs
from .protocol import FROM_PROMPT, Int32, Int64, Scored

# Settings that change logits after the output projection; the catalogue distribution would silently differ.
UNSUPPORTED = ("final_logit_softcapping", "logits_scaling", "logit_scale")


class TransformersEngine:
    """Scores the titles of one trie with one model; `temperature` divides the logits, as it did in training."""

    def __init__(self, model: PreTrainedModel, trie: Trie, temperature: float = 1.0) -> None:
        self.model, self.trie, self.temperature = model.eval(), trie, temperature
        self.backbone, self.weight_VH, self.bias_V = output_layers(model)
        self.device = self.weight_VH.device
        self.tensors = TrieTensors.of(trie, self.device)

    @torch.inference_mode()
    def read(self, tokens_L: Int32, position_Q: Int64) -> TransformersReading:
        """See `Engine.read`. One forward pass over `tokens_L` (int32 [L], L >= 1)."""
        cache = DynamicCache()
        ids = torch.from_numpy(tokens_L.astype(np.int64))[None].to(self.device)
        hidden_LH = self.backbone(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[0]
        return TransformersReading(self, cache, hidden_LH, position_Q)

    @torch.inference_mode()
    def log_probs_of(self, reading: TransformersReading, position_P: Int64, node_P: Int64, edge_P: Int64) -> Tensor:
        """float32 [P]: log-probability of edge `edge_P` of node `node_P` after the text's token at `position_P`.

        Scores titles that stand in the text itself, from the pass that read it.
        """
        node = torch.from_numpy(node_P.astype(np.int64)).to(self.device)
        log_prob_E, first_P = self._edges(reading.hidden_LH[torch.from_numpy(position_P).to(self.device)], node)
        offset_P = torch.from_numpy(edge_P.astype(np.int64)).to(self.device) - self.tensors.child_ptr_B1[node]
        return log_prob_E[first_P + offset_P]

    def _edges(self, hidden_XH: Tensor, node_X: Tensor) -> tuple[Tensor, Tensor]:
        return edge_log_probs(hidden_XH, node_X, self.tensors, self.weight_VH, self.bias_V, self.temperature)


def output_layers(model: PreTrainedModel) -> tuple[Any, Tensor, Tensor | None]:
    """The backbone (text to hidden states), and weight and bias of the output projection.

    Raises ModelError for a model whose logits are more than that projection.
    """
    changed = [name for name in UNSUPPORTED if getattr(model.config, name, None) not in (None, 1, 1.0)]
    head = model.get_output_embeddings()
    if changed or head is None:
        what = f"rescales its logits ({', '.join(changed)})" if changed else "has no output embeddings"
        raise ModelError(
            f"The model {model.config.name_or_path} {what}; expected a causal model with a plain output layer."
        )
    return model.base_model, head.weight.detach(), None if getattr(head, "bias", None) is None else head.bias.detach()


@dataclass
class TransformersReading:
    """A text in the KV cache, and behind it the tokens of all branches scored so far.

    `_seen_SK` bool [S, K]: for each handle, which of the K branch tokens its node descends from (itself included);
    `_depth_S` its depth in tokens, `_query_S` its question.
    """

    engine: TransformersEngine
    cache: DynamicCache
    hidden_LH: Tensor
    position_Q: Int64

    def __post_init__(self) -> None:
        self._seen_SK: NDArray[np.bool_] = np.zeros((0, 0), bool)
        self._depth_S: Int64 = np.zeros(0, np.int64)

    @property
    def num_queries(self) -> int:
        return len(self.position_Q)

    def ask(self, position_Q: Int64) -> TransformersReading:
        """The same text with other questions; branches of earlier questions are forgotten."""
        self.cache.crop(len(self.hidden_LH) - self.cache.get_seq_length())
        return TransformersReading(self.engine, self.cache, self.hidden_LH, position_Q)

    @torch.inference_mode()
    def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        """See `Reading.score`; one forward pass, none if no token is forced or chosen since the prompt."""
        trie, device = self.engine.trie, self.engine.device
        above_X = np.where(parent_X == FROM_PROMPT, 0, np.append(self._depth_S, 0)[parent_X])
        count_X = trie.depth_B[node_X] - above_X
        if count_X.any():
            assert count_X.all(), "only the topmost node can need no token, and it is scored alone"
            last_X = self._extend(query_X, node_X, parent_X, above_X, count_X)
        else:
            last_X = self.hidden_LH[torch.from_numpy(self.position_Q[query_X]).to(device)]
            self._remember(np.zeros((len(node_X), 0), bool), parent_X, trie.depth_B[node_X])
        node = torch.from_numpy(node_X.astype(np.int64)).to(device)
        log_prob_E, _ = self.engine._edges(last_X, node)
        state_X = np.arange(len(self._depth_S) - len(node_X), len(self._depth_S))
        return Scored(log_prob_E.cpu().numpy(), state_X)

    def _extend(self, query_X: Int64, node_X: Int64, parent_X: Int64, above_X: Int64, count_X: Int64) -> Tensor:
        """Run the tokens from the parents down to the nodes; hidden state [X, H] of each node's last token."""
        trie = self.engine.trie
        owner_T = np.repeat(np.arange(len(node_X)), count_X)
        within_T = np.arange(len(owner_T)) - np.repeat(np.cumsum(count_X) - count_X, count_X)
        depth_T = above_X[owner_T] + within_T
        tokens_T = trie.tokens_NT[trie.row_lo_B[node_X[owner_T]], depth_T]
        position_T = self.position_Q[query_X[owner_T]] + 1 + depth_T
        parent_seen_XK = np.concatenate([self._seen_SK, np.zeros((1, self._seen_SK.shape[1]), bool)])[parent_X]
        same_TT = (owner_T[:, None] == owner_T) & (within_T[:, None] >= within_T)
        text_TL = np.arange(len(self.hidden_LH)) <= self.position_Q[query_X[owner_T]][:, None]
        mask = np.concatenate([text_TL, parent_seen_XK[owner_T], same_TT], axis=1)
        hidden_TH = self._forward(tokens_T, position_T, mask)
        self._remember(np.arange(len(node_X))[:, None] == owner_T, parent_X, trie.depth_B[node_X])
        return hidden_TH[torch.from_numpy(np.cumsum(count_X) - 1).to(hidden_TH.device)]

    def _forward(self, tokens_T: Int32, position_T: Int64, mask: NDArray[np.bool_]) -> Tensor:
        device = self.engine.device
        allowed = torch.from_numpy(mask)[None, None].to(device)
        bias = torch.zeros(allowed.shape, dtype=self.hidden_LH.dtype, device=device)
        bias.masked_fill_(~allowed, torch.finfo(bias.dtype).min)
        out = self.engine.backbone(
            input_ids=torch.from_numpy(tokens_T.astype(np.int64))[None].to(device),
            position_ids=torch.from_numpy(position_T)[None].to(device),
            attention_mask=bias, past_key_values=self.cache, use_cache=True,
        )  # fmt: skip
        hidden: Tensor = out.last_hidden_state[0]
        return hidden

    def _remember(self, own_XT: NDArray[np.bool_], parent_X: Int64, depth_X: Int32) -> None:
        old, width = self._seen_SK, self._seen_SK.shape[1]
        parents = np.concatenate([old, np.zeros((1, width), bool)])[parent_X]
        grown = np.zeros((len(old) + len(parent_X), width + own_XT.shape[1]), bool)
        grown[: len(old), :width] = old
        grown[len(old) :, :width], grown[len(old) :, width:] = parents, own_XT
        self._seen_SK, self._depth_S = grown, np.concatenate([self._depth_S, depth_X.astype(np.int64)])
