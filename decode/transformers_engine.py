"""The in-process engine: any causal model of transformers, reading the history once.

All branches of all questions are one row of new tokens behind the text. An attention mask lets each see the text up to
its question, and its own ancestors. The KV cache is shared, and nothing is copied per branch. One round of the search
is one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..arrays import Float32, Int32, Int64
from ..catalogue import Trie
from ..errors import ModelError, NonFiniteError, first_line
from .architecture import SLIDING, check_architecture, has_layer_types, longest_text, short_window, sliding_window
from .branching import TrieTensors, edge_log_probs
from .output_layer import UNSUPPORTED, OutputLayer, output_layer_of
from .protocol import FROM_PROMPT, Scored
from .text_tree import TextTree

_TOKENS_AT_ONCE: Final = 1024
"""Of the branches of texts: what bounds the memory of a mask, tokens by tokens."""


class TransformersEngine:
    """Scores the titles of one trie with one model; `temperature` divides the logits, as it did in training.

    Raises ModelError for a model that cannot be searched: see `split_model` and `check_branches`.
    """

    def __init__(self, model: PreTrainedModel, trie: Trie, temperature: float = 1.0) -> None:
        self.model, self.trie, self.temperature = model.eval(), trie, temperature
        self.backbone, self.output = split_model(model)
        self.device = self.output.weight_VH.device
        self.tensors = TrieTensors.of(trie, self.device)
        self.max_tokens = longest_text(model.config)
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
        return TransformersReading(self, cache, tokens_L, hidden_LH, position_Q)

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
        """See `edge_log_probs`. Raises NonFiniteError for scores that are NaN or infinite."""
        log_prob_J, first_X = edge_log_probs(hidden_XH, node_X, self.tensors, self.output, self.temperature)
        if not log_prob_J.isfinite().all():
            raise NonFiniteError(
                f"The model {self.model.config.name_or_path} gives scores that are NaN or infinite: its weights or its "
                "adapter are damaged; fetch the model or run `whereupon finetune` again."
            )
        return log_prob_J, first_X


def split_model(model: PreTrainedModel) -> tuple[Any, OutputLayer]:
    """The backbone (text to hidden states), and the output layer (hidden states to logits).

    Raises ModelError for a model whose logits are computed in another way, that has no such backbone, or that
    `check_architecture` refuses.
    """
    config, name = model.config.get_text_config(), str(model.config.name_or_path)
    check_architecture(model.config, name)
    changed = [setting for setting in UNSUPPORTED if getattr(config, setting, None) not in (None, 1, 1.0)]
    head = model.get_output_embeddings()
    what = ""
    if changed:
        what = f"changes its logits in a way that is not known here ({', '.join(changed)})"
    elif head is None:
        what = "has no output embeddings"
    elif model.base_model is model:
        what = f"does not give its hidden states apart from its output layer ({type(model).__name__})"
    if what:
        raise ModelError(
            f"The model {name} {what}; expected a causal transformer of attention layers with an output layer of its "
            "own: choose another model.base."
        )
    return model.base_model, output_layer_of(head, config)


def check_branches(engine: TransformersEngine) -> None:
    """Raise ModelError unless a branch behind a text gets the logits that the model itself gives to text and branch.

    Refuses models with another output layer than it seems, without a KV cache, or that ignore mask or positions; the
    distribution over the catalogue would be silently wrong. Two passes over a dozen tokens, in which a sliding window
    is two tokens long, so that what it hides is compared too.
    """
    name, highest = engine.model.config.name_or_path, int(engine.trie.token_P.max())
    num_known, dtype = len(engine.output.weight_VH), engine.output.weight_VH.dtype
    if highest >= num_known:
        raise ModelError(
            f"The titles have token ids up to {highest} but the model {name} knows only {num_known}; "
            "expected a tokenizer that belongs to the model."
        )
    try:
        with short_window(engine.model.config, 2):
            found_TV, expected_TV = _probe(engine)
    except Exception as error:  # what a model of another kind raises is anything, IndexError and KeyError included
        kind = "" if isinstance(error, ModelError) else f"{type(error).__name__}: "
        raise ModelError(
            f"The model {name} cannot continue a text along several branches ({kind}{first_line(error)}); expected a "
            "causal transformer with a KV cache: choose another model.base."
        ) from error
    # Damaged weights pass here, as no number compares with NaN: `edges` has a sentence of their own.
    off = float((found_TV - expected_TV).abs().max() / expected_TV.abs().max())
    if off > (0.001 if dtype == torch.float32 else 0.1):
        raise ModelError(
            f"The model {name} gives other logits to a branch than to a text (off by {off:.0%}); expected a causal "
            "transformer whose logits are a projection, scaled or capped, and that follows masks and positions."
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
    found_TV = engine.output.logits(hidden_TH)
    ids = torch.from_numpy(np.concatenate([text, branch]).astype(np.int64))[None].to(engine.device)
    return found_TV, engine.model(input_ids=ids).logits[0, -num:].float()


@dataclass
class TransformersReading:
    """A text in the KV cache, and behind it the tokens of all branches scored so far.

    `_seen_SK` bool [S, K]: for each handle, which of the K branch tokens its node descends from (itself included);
    `_depth_S` its depth in tokens. Where questions have texts of their own (`of_texts`), the first Q handles are those,
    and `own_QH` holds the hidden state of the last token of each.
    """

    engine: TransformersEngine
    cache: DynamicCache
    tokens_L: Int32
    hidden_LH: Tensor
    position_Q: Int64
    own_QH: Tensor | None = None

    def __post_init__(self) -> None:
        self._seen_SK: NDArray[np.bool_] = np.zeros((0, 0), bool)
        self._depth_S: Int64 = np.zeros(0, np.int64)
        self._text_end_Q = self.position_Q
        self._position_K: Int64 = np.zeros(0, np.int64)  # of the branch tokens in the cache

    @property
    def num_queries(self) -> int:
        return len(self.position_Q)

    def ask(self, position_Q: Int64) -> TransformersReading:
        """The same text with other questions; this reading's branches are forgotten, and it can score no more."""
        self.cache.crop(len(self.hidden_LH) - self.cache.get_seq_length())
        return TransformersReading(self.engine, self.cache, self.tokens_L, self.hidden_LH, position_Q)

    @torch.inference_mode()
    def of_texts(self, texts: Sequence[Int32]) -> TransformersReading:
        """Other texts (int32 [1 or more]), each with a question at its end; see `ask` for this reading.

        What they have in common with this text or with each other is read once, see `TextTree`. Raises ModelError for
        more tokens than the model can see.
        """
        length_Q = np.array([len(text) for text in texts], np.int64)
        self.engine.check_length(int(length_Q.max()) + self.engine.deepest)
        if extra := self.cache.get_seq_length() - len(self.hidden_LH):
            self.cache.crop(-extra)
        self._position_K = np.zeros(0, np.int64)
        tree = TextTree.of(self.tokens_L, texts)
        last_QH = self.hidden_LH[torch.from_numpy(tree.trunk_Q - 1).to(self.hidden_LH.device)]
        own_Q = np.array([own[-1] if len(own) else -1 for own in tree.own_Q])
        if len(tree.token_T):
            hidden_TH, has_own = self._read_tree(tree), np.flatnonzero(own_Q >= 0)
            last_QH[torch.from_numpy(has_own)] = hidden_TH[torch.from_numpy(own_Q[has_own])]
        reading = TransformersReading(
            self.engine, self.cache, self.tokens_L, self.hidden_LH, length_Q - 1, last_QH
        )  # fmt: skip
        reading._remember(tree.seen_QT, np.full(len(texts), FROM_PROMPT), np.zeros(len(texts), np.int32))
        # What a question sees of this text ends where its own begins; its positions count on from there.
        reading._text_end_Q, reading._position_K = tree.trunk_Q - 1, self._position_K
        return reading

    def _read_tree(self, tree: TextTree) -> Tensor:
        """Hidden states [T, H] of a tree's tokens, a number of them at a time."""
        text_L, hidden = np.arange(len(self.hidden_LH)), []
        for first in range(0, len(tree.token_T), _TOKENS_AT_ONCE):
            end = min(first + _TOKENS_AT_ONCE, len(tree.token_T))
            seen_L = text_L < tree.trunk_T[first:end, None]
            mask = np.concatenate([seen_L, tree.seen_TT[first:end, :end]], axis=1)
            hidden.append(self.forward(tree.token_T[first:end], tree.position_T[first:end], mask))
        return torch.cat(hidden)

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
        assert self.cache.get_seq_length() == held, "a reading is over once another question was read by it"
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
        out = self.engine.backbone(
            input_ids=torch.from_numpy(tokens_T.astype(np.int64))[None].to(device),
            position_ids=torch.from_numpy(position_T)[None].to(device),
            attention_mask=self._masks(position_T, mask), past_key_values=self.cache, use_cache=True,
        )  # fmt: skip
        hidden: Tensor = out.last_hidden_state[0]
        return hidden

    def _masks(self, position_T: Int64, mask: NDArray[np.bool_]) -> Tensor | dict[str, Tensor]:
        """What is added to attention scores, float [1, 1, T, L + K + T]; one for each kind of layer.

        A sliding window counts positions, not places in the cache: behind the text lie the tokens of all branches.
        """
        config = self.engine.model.config
        self._position_K = np.concatenate([self._position_K, position_T])
        window, slid = sliding_window(config), mask
        if window:
            before = np.concatenate([np.arange(len(self.hidden_LH)), self._position_K])
            slid = mask & (position_T[:, None] - before < window)
        if not has_layer_types(config):
            return self._bias(slid)
        full = self._bias(mask)
        return {"full_attention": full, SLIDING: self._bias(slid) if window else full}

    def _bias(self, mask: NDArray[np.bool_]) -> Tensor:
        allowed = torch.from_numpy(mask)[None, None].to(self.engine.device)
        bias = torch.zeros(allowed.shape, dtype=self.hidden_LH.dtype, device=self.engine.device)
        return bias.masked_fill_(~allowed, torch.finfo(bias.dtype).min)

    def _remember(self, own_XT: NDArray[np.bool_], parent_X: Int64, depth_X: Int32) -> None:
        old, width = self._seen_SK, self._seen_SK.shape[1]
        parents = np.concatenate([old, np.zeros((1, width), bool)])[parent_X]
        grown = np.zeros((len(old) + len(parent_X), width + own_XT.shape[1]), bool)
        grown[: len(old), :width] = old
        grown[len(old) :, :width], grown[len(old) :, width:] = parents, own_XT
        self._seen_SK, self._depth_S = grown, np.concatenate([self._depth_S, depth_X.astype(np.int64)])
