"""The prompts of bench/serve.py: test events of nyc-checkins, of as many different people as there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whereupon.config import Config
from whereupon.decode.models import build_encoder, load_tokenizer
from whereupon.decode.windows import windows_with_targets
from whereupon.eval import evaluated_events
from whereupon.histories import read_histories
from whereupon.prompts import HistoryText

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """The event `row` and the prompt whose next tokens are its title."""

    row: int
    tokens: list[int]


@dataclass(frozen=True)
class Task:
    """Questions, and what may answer them: titles with token ids (the terminator last) and ids, by item index."""

    questions: list[Question]
    titles: list[str]
    title_tokens: list[list[int]]
    item_ids: list[str]


def read_task(config: Config, num_questions: int) -> Task:
    """The first questions in a seeded order, in which no user comes twice before all came once."""
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    row_E = np.random.default_rng(config.seed).permutation(evaluated_events(histories, "test"))
    row_E = everybody_first(row_E, histories.user_idx_N[row_E])[:num_questions]
    text, trie = encoder.text(histories.events, len(histories.user_ids)), encoder.catalogue.trie
    return Task(
        [Question(row, prompt(text, row)) for row in row_E.tolist()],
        histories.items["title"].to_list(),
        [trie.title_tokens(item).tolist() for item in range(trie.num_items)],
        histories.items["item_id"].to_list(),
    )


def prompt(text: HistoryText, row: int) -> list[int]:
    """What a server renders when the title of the event `row` is predicted: a window that ends there."""
    (window,) = text.encode_windows(windows_with_targets(text.windows, np.arange(len(text.item_idx_N)) == row))
    return window.tokens_L[: window.title_start_V[-1]].tolist()


def everybody_first(row_E: Int64, user_E: NDArray[np.integer]) -> Int64:
    """int64 [E]: the rows sorted by how often their user came before, else in their order."""
    seen: dict[int, int] = {}
    turn_E = []
    for user in user_E.tolist():
        turn_E.append(seen.get(user, 0))
        seen[user] = turn_E[-1] + 1
    return row_E[np.argsort(turn_E, kind="stable")]
