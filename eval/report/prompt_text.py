"""What the model read before some events: the text of the very tokens, or of the templates without a tokenizer.

Nothing is fetched: a base model that is not on this machine has no tokenizer here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from ...arrays import Int64
from ...catalogue import Catalogue, Encode
from ...errors import CatalogueError, ModelError, PromptError
from ...histories import Histories
from ...prompts import PromptEncoder, PromptSettings
from .runs import Ranked, recorded

if TYPE_CHECKING:
    from ...decode.tokenizer import Tokenizer

__all__ = ["Prompt", "Prompts", "prompts_of"]


TAIL_LINES = 12
NO_BUDGET = 10**9
FETCHED = "smollm2-135m"  # the one base model with a name of its own; others are folders or hub ids


@dataclass(frozen=True)
class Prompt:
    """The last lines of a prompt, up to the open question; `num_lines` are not shown, `num_tokens` 0 is unknown."""

    tail: str
    num_lines: int
    num_tokens: int


@dataclass(frozen=True)
class Prompts:
    """One prompt for each row, and how they were made, as a sentence; none where there is no template."""

    prompts: Sequence[Prompt]
    note: str


def prompts_of(ranker: Ranked, histories: Histories, row_Q: Int64) -> Prompts:
    """The prompts of the events `row_Q` as the ranker had them, by the settings in its facts.

    Other rankers read no prompts: theirs are those that the run's model would read by its last evaluation's settings.
    """
    own = ranker.facts.get("settings") or {}
    config = own if "prompts" in own else recorded(ranker.run).get("evaluate", {}).get("config")
    if not config:
        return Prompts([], "With what settings prompts were made is not recorded, so none are shown.")
    try:
        settings = PromptSettings.model_validate(config.get("prompts", {}))
    except ValidationError:
        return Prompts([], "The run's prompt settings are those of another version, so no prompts are shown.")
    model = config.get("model", {})
    base = str(model.get("base", FETCHED))
    name, told = Path(base).name, f"template {settings.template!r}"
    tokenizer = _tokenizer(base, model.get("revision"))
    try:
        if tokenizer:
            prompts = _rendered(settings, tokenizer, tokenizer.decode, tokenizer.prefix, histories, row_Q)
            budget = f"at most {settings.budget_tokens:,} tokens with the answer"
            read = "read" if ranker.kind == "model" else "would read"
            return Prompts(prompts, f"Prompts are those that {name} {read}, token for token: {told}, {budget}.")
        whole = settings.model_copy(update={"budget_tokens": NO_BUDGET, "align_tokens": 1})
        prompts = _rendered(whole, _characters, lambda ids: "".join(map(chr, ids)), (), histories, row_Q)
        note = f"The tokenizer of {name} is not on this machine: prompts are the whole history as the {told} tells it"
        return Prompts([replace(one, num_tokens=0) for one in prompts], f"{note}, without the token budget.")
    except (PromptError, CatalogueError) as error:
        return Prompts([], f"No prompts are shown: {error}")


def _tokenizer(base: str, revision: str | None) -> Tokenizer | None:
    """The base model's tokenizer if it is on this machine, and the packages to read it."""
    try:
        is_kept = base == FETCHED or Path(base).is_absolute()
        if not is_kept and not _is_cached(base, revision):
            return None  # before transformers is loaded, which takes seconds
        from transformers import AutoTokenizer

        from ...decode.base_models import resolve_base_model
        from ...decode.tokenizer import Tokenizer

        where: str | Path = resolve_base_model(base) if is_kept else base
        read: Any = AutoTokenizer.from_pretrained(where, revision=revision or "main", local_files_only=True)
        return Tokenizer(read)
    except (ImportError, ModelError, OSError, ValueError):  # transformers has a mind of its own as to which
        return None


def _is_cached(hub_id: str, revision: str | None) -> bool:
    """Whether the hub's own cache has a model's tokenizer. Raises ValueError for what can be no id."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "tokenizer_config.json", revision=revision), str)


def _characters(texts: Sequence[str]) -> list[list[int]]:
    """A tokenizer for want of another: every character is a token."""
    return [[ord(character) for character in text] for text in texts]


def _rendered(
    settings: PromptSettings, encode: Encode, decode: Callable[[Sequence[int]], str], prefix: tuple[int, ...],
    histories: Histories, row_Q: Int64,
) -> list[Prompt]:  # fmt: skip
    catalogue = Catalogue.build(histories.items, encode)
    encoder = PromptEncoder.build(settings, catalogue, encode, histories.location, prefix)
    row_X = _rows_of_users(histories, row_Q)
    text = encoder.text(histories.events[row_X], len(histories.user_ids))
    windows, prompts = text.windows, []
    for event in np.searchsorted(row_X, row_Q).tolist():
        one = windows.select((windows.target_W <= event) & (event < windows.end_W))
        window = text.encode_windows(one, one.target_W)[0]  # filled up as in the evaluation
        end = int(window.title_start_V[event - int(one.start_W[0])])
        lines = decode(window.tokens_L[:end].tolist()).split("\n")
        prompts.append(Prompt("\n".join(lines[-TAIL_LINES:]), max(0, len(lines) - TAIL_LINES), end))
    return prompts


def _rows_of_users(histories: Histories, row_Q: Int64) -> Int64:
    """All rows of the users of these rows, ascending."""
    users = np.unique(histories.user_idx_E[row_Q])
    ranges = [np.arange(histories.offset_U1[u], histories.offset_U1[u + 1]) for u in users.tolist()]
    return np.concatenate(ranges).astype(np.int64) if ranges else np.empty(0, np.int64)
