"""Ten events in full, drawn by seed and never picked: what was asked, what came, what each side had said.

Drawn within strata of the contender's rank, so that hits, near hits and misses are all there; counts say how common
each is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...prompts import context_frame
from .prompt_text import Prompt, prompts_of
from .runs import Dataset, Ranked

__all__ = ["STRATA", "Example", "Examples", "Guess", "examples"]

NUM_EXAMPLES = 10
LISTED = 10
STRATA = (("first", "ranked first", 4), ("among", "ranked 2 to 10", 3), ("missed", "not among the first 10", 3))
"""Short name, words, and how many of each are wanted."""


@dataclass(frozen=True)
class Guess:
    """One item of a list. `value` is its probability or score; `share` of the list's largest probability, for a bar."""

    place: int
    title: str
    value: float
    share: float
    is_true: bool


@dataclass(frozen=True)
class Said:
    """What one ranker said: its first items and where the true one stood (0: not among those known)."""

    ranker: Ranked
    guesses: Sequence[Guess]
    rank: int
    probability: float | None
    is_probability: bool


@dataclass(frozen=True)
class Example:
    """One event; `prompt` is None where none can be made."""

    stratum: str
    words: str
    user_id: str
    when: str
    weather: str
    title: str
    num_past: int
    num_visits: int
    contender: Said
    opponent: Said | None
    prompt: Prompt | None


@dataclass(frozen=True)
class Examples:
    """`counts` says how many events each stratum has in all."""

    examples: Sequence[Example]
    counts: dict[str, int]
    note: str
    seed: int


def examples(dataset: Dataset, seed: int) -> Examples:
    """Ten events, or all where there are fewer; strata that are short of events leave their places to the others."""
    rank_E = dataset.contender.rankings.rank_E
    stratum_E = np.where(rank_E == 1, 0, np.where((rank_E >= 2) & (rank_E <= LISTED), 1, 2))
    position_Q = _drawn(stratum_E, seed)
    row_Q = dataset.row_E[position_Q]
    order = np.argsort(row_Q)  # prompts are made in the order of rows
    made = prompts_of(dataset.contender, dataset.histories, row_Q[order])
    prompt_Q: list[Prompt | None] = [None] * len(row_Q)
    for place, prompt in zip(order.tolist(), made.prompts, strict=False):
        prompt_Q[place] = prompt
    found = [_example(dataset, int(p), int(stratum_E[p]), prompt_Q[q]) for q, p in enumerate(position_Q.tolist())]
    counts = {words: int((stratum_E == code).sum()) for code, (_, words, _) in enumerate(STRATA)}
    return Examples(found, counts, made.note, seed)


def _drawn(stratum_E: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions of the events, by stratum and then in time's order of rows: int64 [Q]."""
    shuffled = np.random.default_rng(seed).permutation(len(stratum_E))
    wanted: list[int] = []
    for code, (_, _, number) in enumerate(STRATA):
        wanted += shuffled[stratum_E[shuffled] == code][:number].tolist()
    left = [position for position in shuffled.tolist() if position not in set(wanted)]
    wanted += left[: NUM_EXAMPLES - len(wanted)]
    chosen = np.array(sorted(wanted), np.int64)
    return chosen[np.argsort(stratum_E[chosen], kind="stable")]


def _example(dataset: Dataset, position: int, stratum: int, prompt: Prompt | None) -> Example:
    histories, row = dataset.histories, int(dataset.row_E[position])
    user, item = int(histories.user_idx_E[row]), int(histories.item_idx_E[row])
    begin = int(histories.offset_U1[user])
    moment = histories.events[row : row + 1]
    local, words = moment["local_time"][0], context_frame(moment, histories.location)["weather"][0]
    opponent = dataset.opponent
    return Example(
        stratum=STRATA[stratum][0], words=STRATA[stratum][1], user_id=histories.user_ids[user],
        when=f"{local:%A} {local.day} {local:%B %Y, %H:%M}", weather=str(words), title=_title(dataset, item),
        num_past=row - begin, num_visits=int((histories.item_idx_E[begin:row] == item).sum()),
        contender=_said(dataset, dataset.contender, position, item),
        opponent=_said(dataset, opponent, position, item) if opponent else None, prompt=prompt,
    )  # fmt: skip


def _said(dataset: Dataset, ranker: Ranked, position: int, item: int) -> Said:
    rankings = ranker.rankings
    log_prob_E = rankings.log_prob_E
    guesses = list(_guesses(dataset, ranker, position, item))
    known = None if log_prob_E is None else float(np.exp(log_prob_E[position]))
    return Said(ranker, guesses, int(rankings.rank_E[position]), known, log_prob_E is not None)


def _guesses(dataset: Dataset, ranker: Ranked, position: int, item: int) -> Iterator[Guess]:
    rankings = ranker.rankings
    scores = rankings.score_EK[position, :LISTED]
    value_K = np.exp(scores) if rankings.log_prob_E is not None else scores
    for place, (other, value) in enumerate(zip(rankings.item_EK[position, :LISTED].tolist(), value_K, strict=True), 1):
        if other >= 0:
            share = float(value / value_K[0]) if rankings.log_prob_E is not None and value_K[0] > 0 else 0.0
            yield Guess(place, _title(dataset, other), float(value), share, other == item)


def _title(dataset: Dataset, item: int) -> str:
    return str(dataset.histories.items["title"][item])
