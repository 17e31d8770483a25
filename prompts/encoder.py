"""From events to token ids: contexts, titles and profiles are tokenised piece by piece, each distinct piece once.

A prompt is *defined* as the concatenation of its pieces' token ids (preamble, profile lines, then context and title of
each event), so that training, evaluation and serving agree token for token, whatever the tokenizer does across pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..catalogue import Catalogue, Encode, Ragged
from ..errors import PromptError
from .context import context_frame
from .profile import profile_frame
from .settings import PromptSettings
from .templates import TemplateSet, load_templates
from .windows import Windows, plan_windows

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class EncodedWindow:
    """One window's text. `tokens_L` int32 [L]; `title_start_V` int64 [V]: where the title of each of its V events
    begins, so the logits that predict event v's first title token stand at `title_start_V[v] - 1`."""

    tokens_L: Int32
    title_start_V: Int64


@dataclass(frozen=True)
class PromptEncoder:
    """Renders and tokenises with one template set, catalogue and tokenizer."""

    settings: PromptSettings
    templates: TemplateSet
    catalogue: Catalogue
    encode: Encode
    location: str
    prefix: tuple[int, ...] = ()

    @classmethod
    def build(
        cls, settings: PromptSettings, catalogue: Catalogue, encode: Encode, location: str, prefix: tuple[int, ...] = ()
    ) -> PromptEncoder:
        """`prefix`: token ids that the model expects first (a BOS token); `location`: see `context_frame`."""
        return cls(settings, load_templates(settings.template), catalogue, encode, location, prefix)

    @property
    def identity(self) -> dict[str, Any]:
        """What an adapter must agree with: template, catalogue and settings decide every token of every prompt."""
        settings = self.settings.model_dump(mode="json", exclude={"template"})
        hashes = {"template_hash": self.templates.fingerprint, "catalogue_hash": self.catalogue.fingerprint}
        return {**hashes, "prompts": settings}

    @cached_property
    def preamble(self) -> Int32:
        texts, _ = self.templates.render("preamble.j2", pl.DataFrame({"_row": [0]}))
        tokens = self.encode([f"{texts[0].rstrip()}\n"])[0] if texts[0].strip() else []
        return np.array([*self.prefix, *tokens], np.int32)

    @cached_property
    def titles(self) -> Ragged:
        """Token ids of every title, by item index."""
        trie = self.catalogue.trie
        return trie.rows.gather(trie.row_of_item_N)

    def text(self, events: pl.DataFrame, num_users: int) -> HistoryText:
        """Render and tokenise the contexts of `events` (sorted by user and time; `user_idx` < `num_users`).

        Raises PromptError where there would be nothing to read before a title.
        """
        offset_U1 = np.searchsorted(events["user_idx"].to_numpy(), np.arange(num_users + 1)).astype(np.int64)
        texts, index = self.templates.render("context.j2", context_frame(events, self.location))
        contexts = Ragged.of(self.encode(texts))
        if not len(self.preamble) and (contexts.length == 0).any():
            raise PromptError(
                f"{self.templates.folder} gives an empty context and an empty preamble; "
                "a model needs at least one token before a title: put text into either."
            )
        return HistoryText(
            self, contexts, index.to_numpy().astype(np.int64), events["item_idx"].to_numpy().astype(np.int64),
            events["local_time"], offset_U1,
        )  # fmt: skip


@dataclass(frozen=True)
class HistoryText:
    """The histories of all users as pieces of text, ready to be joined into windows.

    The last event of a user may be an open question: give it item index -1; it has a context and no title.
    """

    encoder: PromptEncoder
    contexts: Ragged
    context_E: Int64
    item_idx_E: Int64
    local_time: pl.Series
    offset_U1: Int64

    @cached_property
    def windows(self) -> Windows:
        title = np.where(self.item_idx_E >= 0, self.encoder.titles.length[self.item_idx_E], 0)
        longest = int(self.encoder.titles.length.max())
        context = self.contexts.length[self.context_E]
        preamble = len(self.encoder.preamble)
        return plan_windows(context, title, self.offset_U1, longest, preamble, self.encoder.settings)

    @cached_property
    def _pieces(self) -> tuple[Ragged, Int64]:
        """Contexts and titles as one list of pieces, and for each event its pair of pieces."""
        titles = self.encoder.titles
        both = Ragged(
            np.concatenate([self.contexts.tokens, titles.tokens]),
            np.concatenate(
                [self.contexts.ptr, self.contexts.ptr[-1] + titles.ptr[1:], [self.contexts.ptr[-1] + titles.ptr[-1]]]
            ),
        )
        empty = len(self.contexts.ptr) + len(titles.ptr) - 2
        title = np.where(self.item_idx_E >= 0, self.item_idx_E + len(self.contexts.ptr) - 1, empty)
        return both, np.stack([self.context_E, title], axis=1)

    def encode_windows(self, windows: Windows) -> list[EncodedWindow]:
        """Token ids and title positions of each window."""
        both, piece_E2 = self._pieces
        profiles = self.profiles(windows)
        encoded = []
        for w in range(len(windows)):
            body = both.gather(piece_E2[windows.start_W[w] : windows.end_W[w]].ravel())
            head = np.concatenate([self.encoder.preamble, profiles[w]])
            encoded.append(EncodedWindow(np.concatenate([head, body.tokens]), body.ptr[1:-1:2] + len(head)))
        return encoded

    def profiles(self, windows: Windows) -> list[Int32]:
        """The tokens of each window's profile: whole lines, the most important first, within the profile's budget."""
        encoder = self.encoder
        empty = np.empty(0, np.int32)
        lines = [empty] * len(windows)
        late = np.flatnonzero((windows.start_W > windows.first_W) & (encoder.settings.profile_tokens > 0))
        if not len(late):
            return lines
        frame = profile_frame(
            self.item_idx_E, self.local_time, windows.first_W[late], windows.start_W[late],
            encoder.settings.profile_order == "recent",
        )  # fmt: skip
        texts, index = encoder.templates.render("profile.j2", frame)
        heads, item = Ragged.of(encoder.encode(texts)), frame["item_idx"].to_numpy().astype(np.int64)
        head = index.to_numpy().astype(np.int64)
        window = frame["window"].to_numpy()
        cost = heads.length[head] + encoder.titles.length[item]
        begins = np.searchsorted(window, np.arange(len(late) + 1))
        for i, w in enumerate(late):
            rows = np.arange(begins[i], begins[i + 1])
            rows = rows[np.cumsum(cost[rows]) <= encoder.settings.profile_tokens]
            pieces = [p for row in rows for p in (
                heads.tokens[heads.ptr[head[row]] : heads.ptr[head[row] + 1]],
                encoder.titles.tokens[encoder.titles.ptr[item[row]] : encoder.titles.ptr[item[row] + 1]],
            )]  # fmt: skip
            lines[w] = np.concatenate([empty, *pieces])
        return lines
