"""A model's tokenizer, for texts that are pieces of a longer one."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..catalogue import TERMINATOR
from ..errors import ModelError
from ..files import sha256_text

# What may stand before a piece, most natural first. "" is for tokenizers that treat the start of a text like any other
# place; SentencePiece ones put a space there, which would be one too many before a title and a wrong one before a line.
ANCHORS = ("", TERMINATOR, ":", "a")


class Tokenizer:
    """Text to token ids without special tokens, and the ids that the model expects first.

    Texts are pieces: the ids of several, joined, are decoded to the texts joined, spaces and line ends included.
    Where the tokenizer treats the start of a text in a way of its own, each piece is therefore tokenised behind an
    anchor, whose ids are cut off again. Raises ModelError for a tokenizer that drops spaces or line ends nevertheless.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._anchors = self._find_anchors()
        plain, full = self._plain(["a"])[0], tokenizer("a").input_ids
        # What is added behind a text (an EOS token, say) would end it before the title, so it is left out.
        begins = [i for i in range(len(full)) if full[i : i + len(plain)] == plain]
        self.prefix: tuple[int, ...] = tuple(full[: begins[0]]) if begins else ()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text. Raises ModelError for one whose first characters merge with whatever is before it."""
        found: list[list[int]] = [[]] * len(texts)
        left = list(range(len(texts)))
        for anchor, ids in self._anchors:
            merged = []
            for place, tokens in zip(left, self._plain([anchor + texts[place] for place in left]), strict=True):
                if tokens[: len(ids)] == ids:
                    found[place] = tokens[len(ids) :]
                else:
                    merged.append(place)
            left = merged
        if left:
            raise ModelError(
                f"The tokenizer of {self._name} merges the beginning of {texts[left[0]][:40]!r} with the "
                "text before it; expected one that keeps the pieces of a prompt apart: choose another model.base."
            )
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids as it stands behind other text; special tokens are shown."""
        _, anchor_ids = self._anchors[0]
        return self._decoded([*anchor_ids, *ids]).removeprefix(self._decoded(anchor_ids))

    @property
    def chat(self) -> Callable[[str], str] | None:
        """Puts a user's message into the model's chat format, up to where its answer begins; None if it has none."""
        if not getattr(self.tokenizer, "chat_template", None):
            return None

        def said(message: str) -> str:
            turns = [{"role": "user", "content": message}]
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

        return said

    @property
    def control_tokens(self) -> list[str]:
        """Texts that are one token wherever they stand, among them those that end a text or begin a turn."""
        return sorted({*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()})

    @property
    def fingerprint(self) -> str:
        """sha256 of the tokenizer's serialisation, which says what token ids mean."""
        if self._backend is None:
            return sha256_text(json.dumps([type(self.tokenizer).__name__, sorted(self.tokenizer.get_vocab().items())]))
        self._plain(["a"])  # lets go of padding and truncation, which would be serialised too
        return sha256_text(self._backend.to_str())

    @property
    def _name(self) -> str:
        return self.tokenizer.name_or_path or "the model"

    def _find_anchors(self) -> list[tuple[str, list[int]]]:
        """The anchors, with their ids, behind which pieces stay what they are."""
        known = (x for x in string.ascii_letters if self._decoded(self._plain([x])[0]).strip() == x)
        letter = next(known, "a")
        pieces = [letter, f" {letter}{TERMINATOR}", letter, f" {letter}", TERMINATOR]
        found = []
        for anchor in ANCHORS:
            ids, *parts = self._plain([anchor, *(anchor + piece for piece in pieces)])
            joined = [*ids, *(token for part in parts for token in part[len(ids) :])]
            if self._decoded(joined) == self._decoded(ids) + "".join(pieces):
                found.append((anchor, ids))
        if not found:
            raise ModelError(
                f"The tokenizer of {self._name} does not give back the spaces and line ends of a text; expected one "
                "that does, as those of causal language models do: choose another model.base."
            )
        return found

    def _plain(self, texts: list[str]) -> list[list[int]]:
        if self._backend is None:
            ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
            return ids
        # What transformers does too, but without making dictionaries of masks and offsets for every text.
        self._backend.no_padding()
        self._backend.no_truncation()
        return [one.ids for one in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
