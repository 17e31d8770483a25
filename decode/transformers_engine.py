"""The in-process engine: any causal model of transformers, reading the history once.

All branches of all questions are laid out as one row of new tokens behind the text. An attention mask lets each see the
text up to its question and its own ancestors: the KV cache is shared, nothing is copied per branch, and one round of
the search is one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..arrays import Float32, Int32, Int64
from ..catalogue import Trie
from ..errors import ModelError, NonFiniteError, first_line
from .branching import TrieTensors, edge_log_probs
from .protocol import FROM_PROMPT, Scored

# Settings that change logits after the output projection; the catalogue distribution would silently differ.
UNSUPPORTED = (
    "final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier", "output_multiplier",
)  # fmt: skip
# Settings that bound how far back a token sees; the branches' mask knows nothing of them.
WINDOWS = ("max_position_embeddings", "sliding_window", "attention_chunk_size")
# Kinds of layers with a running state: a mask cannot keep the tokens of one branch out of another's.
RECURRENT = {"linear_attention", "conv", "hybrid", "hybrid_sliding"}


class TransformersEngine:
    """Scores the titles of one trie with one model; `temperature` divides the logits, as it did in training.

    Raises ModelError for a model that cannot be searched: see `output_layers` and `check_branches`.
    """

    def __init__(self, model: PreTrainedModel, trie: Trie, temperature: float = 1.0) -> None:
        self.model, self.trie, self.temperature = model.eval(), trie, temperature
        self.backbone, self.weight_VH, self.bias_V = output_layers(model)
        self.device = self.weight_VH.device
        self.tensors = TrieTensors.of(trie, self.device)
        self.max_tokens = longest_text(model)
        self.deepest = int(trie.depth_B.max(initial=0))
        check_branches(self)

    @torch.inference_mode()
    def read(self, tokens_L: Int32, position_Q: Int64) -> TransformersReading:
        """See `Engine.read`. One forward pass over `tokens_L` (int32 [L], L >= 1).

        Raises ModelError for a text, or a text and title, longer than the model can see.
        """
        self.check_length(max(len(tokens_L), int(position_Q.max(initial=0)) + 1 + self.deepest))
        cache = DynamicCache()
        ids = torch.from_numpy(tokens_L.astype(np.int64))[None].to(self.device)
        hidden_LH = self.backbone(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[0]
        return TransformersReading(self, cache, hidden_LH, position_Q)

    def check_length(self, need: int) -> None:
        """Raise ModelError where a text and a title of `need` tokens are longer than the model can see."""
        if self.max_tokens is not None and need > self.max_tokens:
            raise ModelError(
                f"The model {self.model.config.name_or_path} sees at most {self.max_tokens} tokens but prompt and "
                f"title have {need}: set prompts.budget_tokens to at most {self.max_tokens}."
            )

    @torch.inference_mode()
    def edge_log_probs_at(self, reading: TransformersReading, position_P: Int64, node_P: Int64) -> Float32:
        """float32 [J]: log-probabilities of the edges of nodes `node_P`, end to end, after the text up to `position_P`.

        Scores titles that stand in the text itself, from the pass that read it.
        """
        hidden_PH = reading.hidden_LH[torch.from_numpy(position_P).to(self.device)]
        log_prob_J, _ = self.edges(hidden_PH, torch.from_numpy(node_P.astype(np.int64)).to(self.device))
        found: Float32 = log_prob_J.cpu().numpy()
        return found

    def edges(self, hidden_XH: Tensor, node_X: Tensor) -> tuple[Tensor, Tensor]:
        """See `edge_log_probs`. Raises NonFiniteError for scores that are no numbers: no ranking could be trusted."""
        head = self.tensors, self.weight_VH, self.bias_V, self.temperature
        log_prob_J, first_X = edge_log_probs(hidden_XH, node_X, *head)
        if not log_prob_J.isfinite().all():
            raise NonFiniteError(
                f"The model {self.model.config.name_or_path} gives scores that are no numbers: its weights or its "
                "adapter are damaged; fetch the model or run `whereupon finetune` again."
            )
        return log_prob_J, first_X


def longest_text(model: PreTrainedModel) -> int | None:
    """How many tokens the model sees at once; None where nothing bounds them."""
    bounds = [getattr(model.config.get_text_config(), name, None) for name in WINDOWS]
    return min((bound for bound in bounds if bound), default=None)


def output_layers(model: PreTrainedModel) -> tuple[Any, Tensor, Tensor | None]:
    """The backbone (text to hidden states), and weight and bias of the output projection.

    Raises ModelError for a model whose logits are more than that projection, or that has no such backbone.
    """
    config = model.config.get_text_config()
    changed = [name for name in UNSUPPORTED if getattr(config, name, None) not in (None, 1, 1.0)]
    recurrent = RECURRENT.intersection(getattr(config, "layer_types", None) or ())
    head = model.get_output_embeddings()
    what = ""
    if changed:
        what = f"rescales its logits ({', '.join(changed)})"
    elif recurrent:
        what = f"has layers with a running state ({', '.join(sorted(recurrent))}), which cannot follow several branches"
    elif head is None:
        what = "has no output embeddings"
    elif model.base_model is model:
        what = f"does not give its hidden states apart from its output layer ({type(model).__name__})"
    if what:
        raise ModelError(
            f"The model {model.config.name_or_path} {what}; expected a causal transformer of attention layers with a "
            "plain output layer: choose another model.base."
        )
    bias = getattr(head, "bias", None)
    return model.base_model, head.weight.detach(), None if bias is None else bias.detach()


def check_branches(engine: TransformersEngine) -> None:
    """Raise ModelError unless a branch behind a text gets the logits that the model itself gives to text and branch.

    Holds off models with another output layer than it seems, without a KV cache, or that ignore mask or positions; the
    distribution over the catalogue would be silently wrong. Two passes over a dozen tokens.
    """
    name, highest = engine.model.config.name_or_path, int(engine.trie.token_P.max())
    if highest >= len(engine.weight_VH):
        raise ModelError(
            f"The titles have token ids up to {highest} but the model {name} knows only {len(engine.weight_VH)}; "
            "expected a tokenizer that belongs to the model."
        )
    try:
        found_TV, expected_TV = _probe(engine)
    except Exception as error:  # what a model of another kind raises is anything, IndexError and KeyError included
        kind = "" if isinstance(error, ModelError) else f"{type(error).__name__}: "
        raise ModelError(
            f"The model {name} cannot continue a text along several branches ({kind}{first_line(error)}); expected a "
            "causal transformer with a KV cache: choose another model.base."
        ) from error
    # Damaged weights pass here, as no number compares with NaN: `edges` has a sentence of their own.
    off = float((found_TV - expected_TV).abs().max() / expected_TV.abs().max())
    if off > (0.01 if engine.weight_VH.dtype == torch.float32 else 0.1):
        raise ModelError(
            f"The model {name} gives other logits to a branch than to a text (off by {off:.0%}); expected a causal "
            "transformer whose output layer is a plain projection and which heeds attention masks and positions."
        )


@torch.inference_mode()
def _probe(engine: TransformersEngine) -> tuple[Tensor, Tensor]:
    """float32 [T, V] logits after each of T tokens behind a text: as the second of two branches, and by the model."""
    trie = engine.trie
    text, branch = (trie.row_tokens(row)[:4] for row in (0, trie.num_items - 1))
    num = len(branch)
    beside = np.resize(text, num)  # the tokens of a branch that must not be seen
    owner_T, within_T = np.repeat([0, 1], num), np.tile(np.arange(num), 2)
    same_TT = (owner_T[:, None] == owner_T) & (within_T[:, None] >= within_T)
    mask = np.concatenate([np.ones((2 * num, len(text)), bool), same_TT], axis=1)
    reading = engine.read(text, np.array([len(text) - 1]))
    if reading.cache.get_seq_length() != len(text):
        raise ModelError("it keeps no keys and values")
    hidden_TH = reading.forward(np.concatenate([beside, branch]), len(text) + within_T, mask)[num:]
    found_TV = torch.nn.functional.linear(hidden_TH, engine.weight_VH, engine.bias_V).float()
    ids = torch.from_numpy(np.concatenate([text, branch]).astype(np.int64))[None].to(engine.device)
    return found_TV, engine.model(input_ids=ids).logits[0, -num:].float()


@dataclass
class TransformersReading:
    """A text in the KV cache, and behind it the tokens of all branches scored so far.

    `_seen_SK` bool [S, K]: for each handle, which of the K branch tokens its node descends from (itself included);
    `_depth_S` its depth in tokens. Where questions have tokens of their own behind the text (`continued`), the first Q
    handles are those, and `own_QH` holds the hidden state of the last token of each.
    """

    engine: TransformersEngine
    cache: DynamicCache
    hidden_LH: Tensor
    position_Q: Int64
    own_QH: Tensor | None = None

    def __post_init__(self) -> None:
        self._seen_SK: NDArray[np.bool_] = np.zeros((0, 0), bool)
        self._depth_S: Int64 = np.zeros(0, np.int64)
        self._text_end_Q = self.position_Q

    @property
    def num_queries(self) -> int:
        return len(self.position_Q)

    def ask(self, position_Q: Int64) -> TransformersReading:
        """The same text with other questions; this reading's branches are forgotten, and it can score no more."""
        self.cache.crop(len(self.hidden_LH) - self.cache.get_seq_length())
        return TransformersReading(self.engine, self.cache, self.hidden_LH, position_Q)

    @torch.inference_mode()
    def continued(self, position_Q: Int64, own_Q: Sequence[Int32]) -> TransformersReading:
        """The same text with other questions, of which question q sees the text up to `position_Q[q]` and then its own
        tokens `own_Q[q]` (int32, any number). All of them run in one forward pass; see `ask` for this reading.

        Raises ModelError for more tokens than the model can see.
        """
        if extra := self.cache.get_seq_length() - len(self.hidden_LH):
            self.cache.crop(-extra)
        length_Q = np.array([len(own) for own in own_Q], np.int64)
        self.engine.check_length(int((position_Q + 1 + length_Q).max(initial=0)) + self.engine.deepest)
        owner_T = np.repeat(np.arange(len(own_Q)), length_Q)
        within_T = np.arange(len(owner_T)) - np.repeat(np.cumsum(length_Q) - length_Q, length_Q)
        last_QH = self.hidden_LH[torch.from_numpy(position_Q).to(self.hidden_LH.device)]
        if len(owner_T):
            text_TL = np.arange(len(self.hidden_LH)) <= position_Q[owner_T][:, None]
            same_TT = (owner_T[:, None] == owner_T) & (within_T[:, None] >= within_T)
            mask = np.concatenate([text_TL, same_TT], axis=1)
            hidden_TH = self.forward(np.concatenate(own_Q), position_Q[owner_T] + 1 + within_T, mask)
            has_own = np.flatnonzero(length_Q)
            last_QH[torch.from_numpy(has_own)] = hidden_TH[torch.from_numpy(np.cumsum(length_Q)[has_own] - 1)]
        reading = TransformersReading(self.engine, self.cache, self.hidden_LH, position_Q + length_Q, last_QH)
        reading._remember(
            np.arange(len(own_Q))[:, None] == owner_T, np.full(len(own_Q), FROM_PROMPT), np.zeros(len(own_Q), np.int32)
        )
        # The text that a question sees ends before its own tokens, whose positions it counts on from.
        reading._text_end_Q = position_Q
        return reading

    @torch.inference_mode()
    def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        """See `Reading.score`; one forward pass, none if no token is forced or chosen since the prompt."""
        trie, device = self.engine.trie, self.engine.device
        if self.own_QH is not None:
            parent_X = np.where(parent_X == FROM_PROMPT, query_X, parent_X)
        above_X = np.where(parent_X == FROM_PROMPT, 0, np.append(self._depth_S, 0)[parent_X])
        count_X = trie.depth_B[node_X].astype(np.int64) - above_X
        if count_X.any():
            assert count_X.all(), "only the topmost node can need no token, and it is scored alone"
            last_X = self._extend(query_X, node_X, parent_X, above_X, count_X)
        else:
            at_prompt_QH = self.own_QH
            if at_prompt_QH is None:
                at_prompt_QH = self.hidden_LH[torch.from_numpy(self.position_Q).to(device)]
            last_X = at_prompt_QH[torch.from_numpy(query_X).to(device)]
            self._remember(np.zeros((len(node_X), 0), bool), parent_X, trie.depth_B[node_X])
        node = torch.from_numpy(node_X.astype(np.int64)).to(device)
        log_prob_J, _ = self.engine.edges(last_X, node)
        state_X = np.arange(len(self._depth_S) - len(node_X), len(self._depth_S))
        return Scored(log_prob_J.cpu().numpy(), state_X)

    def _extend(self, query_X: Int64, node_X: Int64, parent_X: Int64, above_X: Int64, count_X: Int64) -> Tensor:
        """Run the tokens from the parents down to the nodes; hidden state [X, H] of each node's last token."""
        trie = self.engine.trie
        held = len(self.hidden_LH) + self._seen_SK.shape[1]
        assert self.cache.get_seq_length() == held, "a reading is over once another question was asked of it"
        owner_T = np.repeat(np.arange(len(node_X)), count_X)
        within_T = np.arange(len(owner_T)) - np.repeat(np.cumsum(count_X) - count_X, count_X)
        depth_T = above_X[owner_T] + within_T
        tokens_T = trie.tokens_at(trie.row_lo_B[node_X[owner_T]], depth_T)
        position_T = self.position_Q[query_X[owner_T]] + 1 + depth_T
        parent_seen_XK = np.concatenate([self._seen_SK, np.zeros((1, self._seen_SK.shape[1]), bool)])[parent_X]
        same_TT = (owner_T[:, None] == owner_T) & (within_T[:, None] >= within_T)
        text_TL = np.arange(len(self.hidden_LH)) <= self._text_end_Q[query_X[owner_T]][:, None]
        mask = np.concatenate([text_TL, parent_seen_XK[owner_T], same_TT], axis=1)
        hidden_TH = self.forward(tokens_T, position_T, mask)
        self._remember(np.arange(len(node_X))[:, None] == owner_T, parent_X, trie.depth_B[node_X])
        return hidden_TH[torch.from_numpy(np.cumsum(count_X) - 1).to(hidden_TH.device)]

    def forward(self, tokens_T: Int32, position_T: Int64, mask: NDArray[np.bool_]) -> Tensor:
        """Hidden states [T, H] of new tokens behind the text, at positions `position_T`; `mask` bool [T, L + K + T]
        says what each sees of text, branch tokens before and new tokens. The cache keeps them."""
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
