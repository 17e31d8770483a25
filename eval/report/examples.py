"""Ten events in full, drawn by seed within strata of the contender's rank, so that hits and misses are all there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...prompts import context_frame
from .prompt_text import Prompt, prompts_of
from .runs import Dataset, Ranked

__all__ = ["STRATA", "Example", "Examples", "Guess", "examples"]

NUM_EXAMPLES = 10
LISTED = 10
# Short name, words, and how many of each are wanted.
STRATA = (("first", "ranked first", 4), ("among", "ranked 2 to 10", 3), ("missed", "not among the first 10", 3))


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
    made = prompts_of(dataset.contender, dataset.histories, np.sort(row_Q))  # they are made in the order of rows
    prompt_of = dict(zip(np.sort(row_Q).tolist(), made.prompts, strict=False))
    pairs = zip(position_Q.tolist(), row_Q.tolist(), strict=True)
    found = [_example(dataset, at, int(stratum_E[at]), prompt_of.get(row)) for at, row in pairs]
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
    rankings, log_prob_E = ranker.rankings, ranker.rankings.log_prob_E
    score_K, item_K = rankings.score_EK[position, :LISTED], rankings.item_EK[position, :LISTED]
    value_K = score_K if log_prob_E is None else np.exp(score_K)
    most = 0.0 if log_prob_E is None else float(value_K[0])
    pairs = enumerate(zip(item_K.tolist(), value_K.tolist(), strict=True), start=1)
    guesses = [
        Guess(place, _title(dataset, other), value, value / most if most > 0 else 0.0, other == item)
        for place, (other, value) in pairs
        if other >= 0
    ]
    known = None if log_prob_E is None else float(np.exp(log_prob_E[position]))
    return Said(ranker, guesses, int(rankings.rank_E[position]), known, log_prob_E is not None)


def _title(dataset: Dataset, item: int) -> str:
    return str(dataset.histories.items["title"][item])
