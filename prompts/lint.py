"""`whereupon prompt lint`: what is wrong with a template before anything is trained on it.

Errors are what no prompt should have: a variable that does not exist, the outcome of the predicted event, an
event that does not fit, text that a tokenizer takes for a control token. Warnings are what somebody should look at.

Shapes: N = events.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from ..errors import PromptError
from .context import OUTCOME, context_frame
from .encoder import HistoryText, PromptEncoder
from .features import FEATURES
from .kinds import COORDINATES
from .profile import profile_frame
from .similar import SIMILAR_VARIABLES

# Line ends, other control characters, and those that turn the direction of reading or are invisible.
CONTROL: Final = r"[\p{Cc}\p{Zl}\p{Zp}\u{200B}\u{202A}-\u{202E}\u{2066}-\u{2069}\u{FEFF}]"
GIVES_AWAY: Final = 0.95  # share of the events whose item is the usual one of a column's value
_FEW_EVENTS: Final = 5
_ENDS_IN_A_WORD: Final = re.compile(r"[\w)\]\"']$")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where."""

    level: Literal["error", "warning"]
    rule: str
    says: str


def lint(
    encoder: PromptEncoder, events: pl.DataFrame, num_users: int, control_tokens: Collection[str]
) -> list[Finding]:
    """All findings, errors first; `events` sorted by user and time.

    `control_tokens`: texts that the tokenizer takes for one special token wherever they stand.
    """
    found = list(_variables(encoder, events))
    found += _injected(encoder, events, control_tokens)
    if not any(one.level == "error" and one.rule in ("undefined", "leak") for one in found):
        found += _given_away(encoder, events)
        try:
            text = encoder.text(events, num_users)
            found += [*_terminators(encoder, events), *_budget(text)]
        except PromptError as error:
            found.append(Finding("error", "rendering", str(error)))
    return sorted(found, key=lambda one: one.level)


def _variables(encoder: PromptEncoder, events: pl.DataFrame) -> Iterator[Finding]:
    """Variables that do not exist, or that are the outcome of the predicted event."""
    templates = encoder.templates
    outcome = set(OUTCOME) | ({*COORDINATES} if encoder.location == "outcome" else set())
    known = {
        "preamble.j2": set[str](), "context.j2": {*context_frame(events[:0], encoder.location).columns, *FEATURES},
        "profile.j2": {*_profile_columns(events)}, "similar.j2": {*SIMILAR_VARIABLES},
    }  # fmt: skip
    for file in templates.files:
        for name in templates.variables(file):
            if name in known[file]:
                continue
            if file == "context.j2" and name in outcome:
                says = f"{file} uses '{name}', which is the outcome of the predicted event; leave it out"
                yield Finding("error", "leak", says)
            else:
                expected = ", ".join(sorted(known[file])) or "no variables"
                yield Finding("error", "undefined", f"{file} uses '{name}'; expected one of: {expected}")


def _profile_columns(events: pl.DataFrame) -> list[str]:
    none = events["item_idx"][:0].to_numpy()
    return [name for name in profile_frame(none, events["local_time"][:0], none, none).columns if name != "item_idx"]


def _given_away(encoder: PromptEncoder, events: pl.DataFrame) -> Iterator[Finding]:
    """Context columns of the data that all but name the chosen item."""
    used = set(encoder.templates.variables("context.j2"))
    for name in (column for column in events.columns if column in used and column not in OUTCOME):
        counts = events.group_by(name, "item_idx").len().drop_nulls()
        by_value = counts.group_by(name).agg(pl.col("len").sum().alias("all"), pl.col("len").max().alias("most"))
        repeated = by_value.filter(pl.col("all") > 1)
        share = int(repeated["most"].sum()) / int(repeated["all"].sum()) if repeated.height > 1 else 0.0
        if share >= GIVES_AWAY:
            yield Finding(
                "warning", "leak",
                f"the column '{name}' gives the chosen item away in {share:.0%} of the events; is it known before?",
            )  # fmt: skip


def _terminators(encoder: PromptEncoder, events: pl.DataFrame) -> Iterator[Finding]:
    """Lines in which it is not clear where the context ends and the title begins."""
    texts, _ = encoder.context_texts(events)
    open_ended = [text for text in texts if _ENDS_IN_A_WORD.search(text)]
    if open_ended:
        yield Finding(
            "warning", "terminator",
            f"{len(open_ended):,} of {len(texts):,} distinct lines end in a word before the title, such as "
            f"{open_ended[0][-40:]!r}; end context.j2 with a colon",
        )  # fmt: skip
    titles = set(encoder.catalogue.titles)
    heads = {(head, rest) for title in titles for head, rest in _splits(title) if rest in titles}
    ends = tuple({f" {head}" for head, _ in heads})
    if ends and (ambiguous := next((text for text in texts if f" {text}".endswith(ends)), None)):
        head, rest = next((head, rest) for head, rest in sorted(heads) if f" {ambiguous}".endswith(f" {head}"))
        yield Finding(
            "error", "terminator",
            f"the line {ambiguous!r} before the title {rest!r} reads like the title '{head} {rest}'",
        )  # fmt: skip


def _splits(title: str) -> Iterator[tuple[str, str]]:
    words = title.split(" ")
    return ((" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words)))


def _budget(text: HistoryText) -> Iterator[Finding]:
    """Prompts that hold too little. Raises PromptError where an event does not fit at all."""
    encoder, settings = text.encoder, text.encoder.settings
    windows = text.windows
    mean = float((windows.end_W - windows.start_W).mean()) if len(windows) else 0.0
    turned_over = bool((windows.start_W > windows.first_W).any())
    if turned_over and mean < _FEW_EVENTS:
        yield Finding(
            "warning", "budget",
            f"a prompt of {settings.budget_tokens} tokens holds {mean:.1f} events on average; raise "
            "prompts.budget_tokens, or shorten titles or template",
        )  # fmt: skip
    share = len(encoder.preamble) / settings.budget_tokens
    if share > 1 / 4:
        says = f"the preamble takes {share:.0%} of prompts.budget_tokens; shorten it"
        yield Finding("warning", "budget", says)


def _injected(encoder: PromptEncoder, events: pl.DataFrame, control_tokens: Collection[str]) -> Iterator[Finding]:
    """Titles, and texts that templates may name, that would end a line or begin another turn."""
    used = set(encoder.templates.variables("context.j2"))
    texts = {"title": encoder.catalogue.titles}
    texts |= {name: events[name] for name in events.columns if name in used and events.schema[name] == pl.String}
    if encoder.features.names_I is not None and "here" in used:
        texts[encoder.settings.place_column] = encoder.features.names_I.cast(pl.String)
    for name, values in texts.items():
        distinct = values.drop_nulls().unique(maintain_order=True)
        tokens = [token for token in control_tokens if token.strip()]
        for what, bad in (
            ("a control character", distinct.str.contains(CONTROL)),
            ("a control token of the tokenizer", pl.select(pl.lit(distinct).str.contains_any(tokens)).to_series()
             if tokens else pl.Series([False] * len(distinct), dtype=pl.Boolean)),
        ):  # fmt: skip
            if num := int(bad.sum()):
                example = distinct.filter(bad)[0]
                yield Finding("error", "injection", f"{num:,} values of {name} hold {what}, such as {example[:60]!r}")
