"""From events to token ids: contexts, titles and profiles are tokenised piece by piece, each distinct piece once.

A prompt is *defined* as the concatenation of its pieces' token ids (preamble, lines of what others did, profile lines,
then context and title of each event), so that training, evaluation and serving agree token for token, whatever the
tokenizer does across pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
import polars as pl

from ..arrays import Int32, Int64
from ..catalogue import TERMINATOR, Catalogue, Encode, Ragged
from ..errors import PromptError
from ..files import sha256_text
from .context import HOUR_KNOWN, context_frame, hours_unknown
from .features import Features
from .kinds import CONTEXT_KINDS, ContextKind, leave_out, leave_out_of_profile, tidy
from .profile import profile_frame
from .settings import PromptSettings
from .similar import Others, UserEvents, last_items, similar_frame
from .templates import SIMILAR, TemplateSet, load_templates
from .windows import Windows, plan_windows

_FEW_LINES: Final = 2000
_REMEMBERED: Final = 50_000  # lines of few, about 20 MB
_LEAST_TOKENS: Final = 8  # of a line of what others did: more lines than would fit need not be looked for


@dataclass(frozen=True)
class EncodedWindow:
    """One window's text. `tokens_L` int32 [L]; `title_start_V` int64 [V]: where the title of each of its V events
    begins, so the logits that predict event v's first title token stand at `title_start_V[v] - 1`;
    `num_profile_tokens` of the tokens are those of its profile, which stands right before the events, and
    `num_similar_tokens` those of what others did, right before the profile."""

    tokens_L: Int32
    title_start_V: Int64
    num_profile_tokens: int = 0
    num_similar_tokens: int = 0


@dataclass(frozen=True)
class PromptEncoder:
    """Renders and tokenises with one template set, catalogue and tokenizer.

    `chat` puts a user's message into the chat format of the model, up to where its answer begins.
    `added_titles`: token ids of titles that prompts may name beside the catalogue's; item indices go on behind its.
    `others`: what all users did next; None without `similar_tokens`.
    """

    settings: PromptSettings
    templates: TemplateSet
    catalogue: Catalogue
    encode: Encode
    location: str
    prefix: tuple[int, ...] = ()
    chat: Callable[[str], str] | None = None
    added_titles: Ragged = field(default_factory=lambda: Ragged.of([]))
    others: Others | None = None

    @classmethod
    def build(
        cls, settings: PromptSettings, catalogue: Catalogue, encode: Encode, location: str,
        prefix: tuple[int, ...] = (), chat: Callable[[str], str] | None = None,
    ) -> PromptEncoder:  # fmt: skip
        """`prefix`: token ids that the model expects first (a BOS token); `location`: see `context_frame`.

        Raises PromptError for a template set or a `place_column` that is not there.
        """
        encoder = cls(settings, load_templates(settings.template), catalogue, encode, location, prefix, chat)
        _ = encoder.features  # a column that items lack is noticed here
        if settings.similar_tokens and SIMILAR not in encoder.templates.files:
            what = (
                f"The template set {encoder.templates.folder} has no {SIMILAR}, and prompts.similar_tokens is above 0"
            )
            raise PromptError(f"{what}; write it (copy one of a shipped set), or set similar_tokens to 0.")
        return encoder

    def with_others(self, events: pl.DataFrame) -> PromptEncoder:
        """The same; with `similar_tokens`, what others did is taken from the training events among `events`."""
        if not self.settings.similar_tokens:
            return self
        return replace(self, others=Others.of(events, self.settings.similar_hours))

    def without(self, kinds: Collection[ContextKind]) -> PromptEncoder:
        """The same, leaving more kinds of context out: of another identity, as no adapter was trained for it."""
        left = tuple(kind for kind in CONTEXT_KINDS if kind in {*kinds, *self.settings.leave_out})
        return replace(self, settings=self.settings.model_copy(update={"leave_out": left}))

    @property
    def identity(self) -> dict[str, Any]:
        """What an adapter must agree with: template, catalogue and settings decide every token of every prompt."""
        return identity_of(self.settings, self.templates, self.catalogue.fingerprint)

    @cached_property
    def features(self) -> Features:
        """The further variables that the lines of events name."""
        return features_of(self.settings, self.templates, self.catalogue.items)

    @cached_property
    def preamble_text(self) -> str:
        """The lines that every prompt begins with; may be none. Those of a chat end where the model's answer begins.

        Raises PromptError where the template is a chat and the tokenizer has no chat format.
        """
        texts, _ = self.templates.render("preamble.j2", pl.DataFrame({"_row": [0]}))
        if not self.templates.pack.chat:
            return f"{texts[0].rstrip()}\n" if texts[0].strip() else ""
        if self.chat is None:
            raise PromptError(
                f"The template set {self.templates.folder.name} is a chat, and this tokenizer has no chat template; "
                "choose another prompts.template, or a model.base that was trained for chats."
            )
        said = self.chat(texts[0].strip())
        return said if said.endswith("\n") else f"{said}\n"

    @cached_property
    def preamble(self) -> Int32:
        """Token ids that every prompt begins with; a chat format that has the model's first tokens has them once."""
        tokens = self.encode([self.preamble_text])[0] if self.preamble_text else []
        prefix = [] if tuple(tokens[: len(self.prefix)]) == self.prefix else [*self.prefix]
        return np.array([*prefix, *tokens], np.int32)

    @cached_property
    def filler(self) -> int:
        """The token that prompts are filled up with: an empty line says nothing."""
        return self.encode([TERMINATOR])[0][-1]

    @cached_property
    def titles(self) -> Ragged:
        """Token ids of every title, by item index."""
        trie = self.catalogue.trie
        return Ragged.join([trie.rows.gather(trie.row_of_item_I), self.added_titles])

    @cached_property
    def longest_title(self) -> int:
        """Tokens of the catalogue's longest title: what a prompt reserves for its answer."""
        return int(self.catalogue.trie.length_I.max())

    def context(self, events: pl.DataFrame) -> pl.DataFrame:
        """What the template says of each event, see `context_frame`; empty where `prompts.leave_out` says so."""
        kinds, columns = self.settings.leave_out, self.settings.column_kinds
        if kinds:
            return leave_out(context_frame(events, self.location, self.features), events, kinds, columns)
        return context_frame(events, self.location, self.features, self.templates.variables("context.j2"))

    def _encoded(self, texts: list[str]) -> Ragged:
        """The tokens of lines; those of few lines are remembered, as later prompts of a user have the same."""
        if len(texts) > _FEW_LINES:
            return Ragged.of(self.encode(texts))
        known = self._known
        found = [known.get(text) for text in texts]
        new = [at for at, tokens in enumerate(found) if tokens is None]
        if len(known) + len(new) > _REMEMBERED:
            known.clear()
        made = Ragged.of(self.encode([texts[at] for at in new]) if new else [])
        for at, (start, end) in zip(new, pairwise(made.ptr.tolist()), strict=True):
            known[texts[at]] = found[at] = made.tokens[start:end]
        return Ragged.of_arrays([tokens for tokens in found if tokens is not None])

    @cached_property
    def _known(self) -> dict[str, Int32]:
        return {}

    def _render(self, file: str, frame: pl.DataFrame, has_gaps: bool) -> tuple[list[str], pl.Series]:
        texts, index = self.templates.render(file, frame)
        return [tidy(text) for text in texts] if has_gaps or self.settings.leave_out else texts, index

    def context_texts(self, events: pl.DataFrame) -> tuple[list[str], pl.Series]:
        """The distinct texts before titles, and for each event the index of its text."""
        return self._render("context.j2", self.context(events), hours_unknown(events))

    def contexts_without(
        self, events: pl.DataFrame, row_S: Sequence[int], kinds_S: Sequence[Collection[ContextKind]]
    ) -> list[Int32]:
        """Token ids, int32, of the contexts of some rows of `events`, each without further kinds of context.

        The same as from `without` for each of the choices, but computed and rendered all at once.
        """
        frame, settings = context_frame(events, self.location, self.features), self.settings
        named = self.templates.variables("context.j2")
        if "new_day" not in named:  # which depends on others
            frame = frame.select([name for name in frame.columns if name in named] or frame.columns)
        left_S = [frozenset({*kinds, *settings.leave_out}) for kinds in kinds_S]
        left = {kinds: leave_out(frame, events, kinds, settings.column_kinds) for kinds in set(left_S) if kinds}
        rows = pl.concat([left.get(kinds, frame)[row] for row, kinds in zip(row_S, left_S, strict=True)])
        texts, index = self.templates.render("context.j2", rows)
        has_gaps = hours_unknown(events)
        texts = [
            tidy(texts[at]) if kinds or has_gaps else texts[at]
            for at, kinds in zip(index.to_list(), left_S, strict=True)
        ]
        return [np.array(tokens, np.int32) for tokens in self.encode(texts)]

    def text(self, events: pl.DataFrame, num_users: int) -> HistoryText:
        """Render and tokenise the contexts of `events` (sorted by user and time; `user_idx` < `num_users`).

        Raises PromptError where there would be nothing to read before a title.
        """
        offset_U1 = np.searchsorted(events["user_idx"].to_numpy(), np.arange(num_users + 1)).astype(np.int64)
        texts, index = self.context_texts(events)
        contexts = self._encoded(texts)
        if not len(self.preamble) and (contexts.length == 0).any():
            raise PromptError(
                f"{self.templates.folder} gives an empty context and an empty preamble; "
                "a model needs at least one token before a title: put text into either."
            )
        return HistoryText(
            self, contexts, index.to_numpy().astype(np.int64), events["item_idx"].to_numpy().astype(np.int64),
            events["local_time"], offset_U1, events[HOUR_KNOWN] if hours_unknown(events) else None,
            self._user_events(events, offset_U1),
        )  # fmt: skip

    def _user_events(self, events: pl.DataFrame, offset_U1: Int64) -> UserEvents | None:
        if not self.settings.similar_tokens:
            return None
        if self.others is None:
            raise ValueError("prompts with similar_tokens need `with_others`")
        return self.others.user_events(events, offset_U1)


def identity_of(settings: PromptSettings, templates: TemplateSet, catalogue_hash: str) -> dict[str, Any]:
    """See `PromptEncoder.identity`; needs no tokenizer."""
    template_hash = templates.fingerprint
    if settings.similar_tokens:
        template_hash = sha256_text(template_hash + templates.similar_fingerprint)
    hashes = {"template_hash": template_hash, "catalogue_hash": catalogue_hash}
    unset = {"align_tokens"} if settings.align_tokens == 1 else set()  # older adapters know nothing of them
    unset |= set() if settings.similar_tokens else {"similar_tokens", "similar_every", "similar_hours"}
    unset |= set() if settings.leave_out else {"leave_out", "column_kinds"}
    unset |= {name for name in ("place_column", "holiday_country") if not getattr(settings, name)}
    return {**hashes, "prompts": settings.model_dump(mode="json", exclude={"template", *unset})}


def features_of(settings: PromptSettings, templates: TemplateSet, items: pl.DataFrame) -> Features:
    """The further variables that templates name. Raises PromptError for a `place_column` that `items` lack."""
    column = settings.place_column
    if column and column not in items.columns:
        known = ", ".join(name for name in items.columns if name not in ("item_id", "title")) or "none"
        raise PromptError(f"prompts.place_column names {column!r}, which is no column of the items; they have {known}.")
    names_I = items[column] if column else None
    return Features.of(templates.variables("context.j2"), settings.holiday_country, names_I)


@dataclass(frozen=True)
class HistoryText:
    """The histories of all users as pieces of text, ready to be joined into windows.

    The last event of a user may be an open question: give it item index -1; it has a context and no title.
    """

    encoder: PromptEncoder
    contexts: Ragged
    context_N: Int64
    item_idx_N: Int64
    local_time: pl.Series
    offset_U1: Int64
    hour_known: pl.Series | None = None
    user_events: UserEvents | None = None

    @cached_property
    def windows(self) -> Windows:
        title = np.where(self.item_idx_N >= 0, self.encoder.titles.length[self.item_idx_N], 0)
        context = self.contexts.length[self.context_N]
        encoder = self.encoder
        fixed = len(encoder.preamble) + encoder.settings.align_tokens - 1
        return plan_windows(context, title, self.offset_U1, encoder.longest_title, fixed, encoder.settings)

    @cached_property
    def _pieces(self) -> tuple[Ragged, Int64]:
        """Contexts and the titles that occur as one list of pieces, and for each event its pair of pieces."""
        is_shown_N = self.item_idx_N >= 0
        items, title_idx = np.unique(self.item_idx_N[is_shown_N], return_inverse=True)
        both = Ragged.join([self.contexts, self.encoder.titles.gather(items), Ragged.of([[]])])
        title_N = np.full(len(self.item_idx_N), len(both) - 1)
        title_N[is_shown_N] = title_idx + len(self.contexts)
        return both, np.stack([self.context_N, title_N], axis=1)

    def encode_windows(self, windows: Windows, aligned_W: Int64 | None = None) -> list[EncodedWindow]:
        """Token ids and title positions of each window.

        Each is filled up behind the preamble so that the question of one event (row `aligned_W`) ends on a multiple of
        `align_tokens`. By default that is its last one: a served prompt always ends so. Training windows end anywhere,
        so that a model gets to know all fillings.
        """
        both, piece_N2 = self._pieces
        profiles, similar = self.profiles(windows), self.similar(windows)
        encoder, encoded = self.encoder, []
        for w in range(len(windows)):
            body = both.gather(piece_N2[windows.start_W[w] : windows.end_W[w]].ravel())
            query_V = body.ptr[1:-1:2] + len(encoder.preamble) + len(similar[w]) + len(profiles[w])
            aligned = -1 if aligned_W is None else aligned_W[w] - windows.start_W[w]
            fill = np.full(-query_V[aligned] % encoder.settings.align_tokens, encoder.filler, np.int32)
            tokens_L = np.concatenate([encoder.preamble, fill, similar[w], profiles[w], body.tokens])
            encoded.append(EncodedWindow(tokens_L, query_V + len(fill), len(profiles[w]), len(similar[w])))
        return encoded

    def similar(self, windows: Windows) -> list[Int32]:
        """The tokens of what others did after the items of each window: whole lines, within their budget.

        What is known right before a window's first new event, as one block of text serves all of its events.
        """
        encoder, settings = self.encoder, self.encoder.settings
        if self.user_events is None or encoder.others is None or not len(windows):
            return [np.empty(0, np.int32)] * len(windows)
        says_when = {"days", "daypart"} & {*encoder.templates.variables(SIMILAR)} and "time" not in settings.leave_out
        lines = encoder.others.lines(
            self.user_events, windows.user_W, windows.first_W, windows.target_W,
            settings.similar_tokens // _LEAST_TOKENS, any_time=not says_when,
        )  # fmt: skip
        frame = similar_frame(lines, encoder.catalogue.titles)
        window_X = lines["window"].to_numpy()
        texts = encoder._render(SIMILAR, frame, False)
        return self._whole_lines(texts, last_items(lines), window_X, len(windows), settings.similar_tokens)

    def profiles(self, windows: Windows) -> list[Int32]:
        """The tokens of each window's profile: whole lines, the most important first, within the profile's budget."""
        encoder = self.encoder
        empty = np.empty(0, np.int32)
        lines = [empty] * len(windows)
        late = np.flatnonzero((windows.start_W > windows.first_W) & (encoder.settings.profile_tokens > 0))
        if not len(late):
            return lines
        frame = profile_frame(
            self.item_idx_N, self.local_time, windows.first_W[late], windows.start_W[late],
            encoder.settings.profile_order == "recent", self.hour_known,
        )  # fmt: skip
        frame = leave_out_of_profile(frame, encoder.settings.leave_out)
        texts = encoder._render("profile.j2", frame, self.hour_known is not None)
        item, window = frame["item_idx"].to_numpy().astype(np.int64), frame["window"].to_numpy()
        for w, line in zip(
            late, self._whole_lines(texts, item, window, len(late), encoder.settings.profile_tokens), strict=True
        ):
            lines[w] = line
        return lines

    def _whole_lines(
        self, texts: tuple[list[str], pl.Series], item_X: Int64, window_X: Int64, num_windows: int, budget: int
    ) -> list[Int32]:
        """The tokens of each window's lines, of which each is a text and an item's title; the first that fit."""
        heads, head_X = self.encoder._encoded(texts[0]), texts[1].to_numpy().astype(np.int64)
        cost_X = heads.length[head_X] + self.encoder.titles.length[item_X]
        begins = np.searchsorted(window_X, np.arange(num_windows + 1))
        both, lines = Ragged.join([heads.gather(head_X), self.encoder.titles.gather(item_X)]), []
        for w in range(num_windows):
            rows = np.arange(begins[w], begins[w + 1])
            rows = rows[np.cumsum(cost_X[rows]) <= budget]
            lines.append(both.gather(np.stack([rows, rows + len(item_X)], axis=1).ravel()).tokens)
        return lines
