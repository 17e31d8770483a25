"""Ten titles by beam search of transformers under `prefix_allowed_tokens_fn`: what one would write without whereupon.

The function that names the allowed tokens walks nested dictionaries, the trie of the titles' tokens. Decoding is set
up as rightly as the interface allows: `length_penalty` 0 ranks by the sum of log-probabilities, under which
`early_stopping` False ends as soon as no open beam can still reach the ten best, and no sooner.

transformers takes the softmax over the whole vocabulary and masks afterwards. A beam's score is thus the probability
that the unconstrained model writes this title, forced tokens included, and what it would give to text that is no title
is lost at every step: not the distribution over the catalogue that whereupon ranks by and was trained for. It is left
so, being what the incumbent does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, PreTrainedModel

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
NO_TITLE = -1

Node = dict[int, Any]


@dataclass(frozen=True)
class BeamAnswer:
    """Items best first, int64 [K], NO_TITLE where a sequence is no title of the catalogue."""

    item_idx_K: Int64

    @property
    def num_invalid(self) -> int:
        return int((self.item_idx_K == NO_TITLE).sum())

    @property
    def num_duplicates(self) -> int:
        valid = self.item_idx_K[self.item_idx_K != NO_TITLE]
        return len(valid) - len(np.unique(valid))


class BeamSearch:
    """Beam search over titles, each a list of token ids with its terminator last, in the order of the items."""

    def __init__(self, model: PreTrainedModel, titles: list[list[int]], num_beams: int = 10) -> None:
        self.model, self.root = model, nested(titles)
        self.item_of = {tuple(title): item for item, title in enumerate(titles)}
        self.terminators = sorted({title[-1] for title in titles})
        self.config = GenerationConfig(
            num_beams=num_beams, num_return_sequences=num_beams, do_sample=False, length_penalty=0.0,
            early_stopping=False, max_new_tokens=max(map(len, titles)), eos_token_id=self.terminators,
            pad_token_id=self.terminators[0], use_cache=True,
        )  # fmt: skip
        # What a checkpoint's generation_config.json holds would fill in whatever is not said here.
        model.generation_config = GenerationConfig()

    def answer(self, tokens_L: Int32) -> BeamAnswer:
        """The titles that continue the prompt `tokens_L`."""
        ids = torch.from_numpy(tokens_L.astype(np.int64))[None].to(self.model.device)
        num_read = len(tokens_L)

        def allowed(_batch: int, sequence: torch.Tensor) -> list[int]:
            return self.allowed_after(sequence[num_read:].tolist())

        found: Any = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=self.config, prefix_allowed_tokens_fn=allowed
        )
        return BeamAnswer(np.array([self._item(sequence) for sequence in found[:, num_read:].tolist()], np.int64))

    def allowed_after(self, beginning: list[int]) -> list[int]:
        """The tokens that may follow the beginning of a title.

        Where there is none, as behind a finished title, transformers still wants one: a terminator.
        """
        node = self.root
        for token in beginning:
            node = node.get(token, {})
        return list(node) or self.terminators

    def _item(self, sequence: list[int]) -> int:
        ends = [place for place, token in enumerate(sequence) if token in self.terminators]
        return self.item_of.get(tuple(sequence[: ends[0] + 1]), NO_TITLE) if ends else NO_TITLE


def nested(titles: list[list[int]]) -> Node:
    """The trie as dictionaries of dictionaries: token to what may follow it."""
    root: Node = {}
    for title in titles:
        node = root
        for token in title:
            node = node.setdefault(token, {})
    return root
