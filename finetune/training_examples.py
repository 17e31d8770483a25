"""Windows as training examples and batches of them: every title of a window is a target where the catalogue branches.

Shape legend: R windows of a batch, L padded length, P branching decisions of all titles in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays import Float32, Int64, ragged
from ..catalogue import Trie
from ..errors import DataError
from ..histories import Histories
from ..prompts import EncodedWindow, HistoryText, PromptEncoder
from .branches import Branches, branches_of, branches_on_top
from .on_top import TrainingPrior
from .settings import FinetuneSettings
from .tensors import OfTensors
from .weighting import event_weights

_WINDOWS: Final = 1024


@dataclass(frozen=True)
class TrainingExample:
    """One window: its tokens, and P branching decisions (position of the predicting token, node, edge) of V titles.

    `decision_P` int64 says which decisions of the prior they are (see `on_top`); None without a prior. `end`: how many
    of the training events come before the end of the window, in their order. `weight_P` float32 says how much each
    decision counts; None where all count the same. For the plain objective, a decision is a token of a title.
    """

    tokens_L: NDArray[np.int32]
    position_P: Int64
    node_P: Int64
    edge_P: Int64
    num_titles: int
    decision_P: Int64 | None = None
    end: int = 0
    weight_P: Float32 | None = None


@dataclass(frozen=True)
class Batch(OfTensors):
    """Examples as tensors: int64 `tokens_RL` padded on the right, decisions at flat positions r * L + position with
    the edges among which each is taken (None for the plain objective), float32 `weight_P`."""

    tokens_RL: Tensor
    position_P: Tensor
    num_titles: int
    branches: Branches | None = None
    weight_P: Tensor | None = None


@dataclass(frozen=True)
class TrainingWindow:
    """The text of one window over training events: `start` to `end` are their numbers among these, and those before
    `target` stand in an earlier window already."""

    text: EncodedWindow
    start: int
    target: int
    end: int


def training_windows(histories: Histories, encoder: PromptEncoder) -> tuple[pl.DataFrame, Iterator[TrainingWindow]]:
    """The training events, and every window over them; events of later splits are not looked at.

    Raises DataError without training events.
    """
    events = histories.events.filter(pl.col("split") == "train")
    if not events.height:
        raise DataError(
            "There are no training events: expected some before the validation split begins; see histories.split."
        )
    return events, _windows(encoder.text(events, len(histories.user_ids)))


def _windows(text: HistoryText) -> Iterator[TrainingWindow]:
    number_W = np.arange(len(text.windows))
    for first in range(0, len(number_W), _WINDOWS):  # the tokens of so many at once in memory
        some = text.windows.select((first <= number_W) & (number_W < first + _WINDOWS))
        bounds = zip(some.start_W.tolist(), some.target_W.tolist(), some.end_W.tolist(), strict=True)
        for encoded, (start, target, end) in zip(text.encode_windows(some), bounds, strict=True):
            yield TrainingWindow(encoded, start, target, end)


def make_examples(
    histories: Histories, encoder: PromptEncoder, prior: TrainingPrior | None = None,
    settings: FinetuneSettings | None = None,
) -> Iterator[TrainingExample]:  # fmt: skip
    """Every window over the training events, as a training example.

    With `settings.teach` "once", what a window repeats of the one before is context alone. Raises DataError without
    training events, before the first example is read.
    """
    events, windows = training_windows(histories, encoder)
    settings = settings or FinetuneSettings()
    weight_N, trie = event_weights(events, settings.weights), encoder.catalogue.trie
    item_idx_N, row_N = events["item_idx"].to_numpy(), np.flatnonzero(histories.split_N == 0)

    def examples() -> Iterator[TrainingExample]:
        for window in windows:
            first = window.target if settings.teach == "once" else window.start
            window_part = EncodedWindow(window.text.tokens_L, window.text.title_start_V[first - window.start :])
            taught = slice(first, window.end)
            items = item_idx_N[taught].astype(np.int64)
            if settings.objective == "plain":
                example = plain_example_of(window_part, encoder.titles.length[items].astype(np.int64))
            else:
                example = example_of(window_part, items, trie, prior, row_N[taught])
            yield replace(
                example,
                end=window.end,
                weight_P=None if weight_N is None else weight_N[taught][_owners(window_part, example.position_P)],
            )

    return examples()


def example_of(
    window: EncodedWindow, item_idx_V: Int64, trie: Trie, prior: TrainingPrior | None = None,
    row_V: Int64 | None = None,
) -> TrainingExample:  # fmt: skip
    """The training example of a window whose V events (rows `row_V` of the prior) chose the items `item_idx_V`."""
    if prior is not None and row_V is not None:
        decision_P, position_P = prior.of_titles(row_V, window.title_start_V)
        none_P = np.zeros(len(decision_P), np.int64)
        return TrainingExample(window.tokens_L, position_P, none_P, none_P, len(item_idx_V), decision_P)
    owner_P, node_P, edge_P = trie.decisions(item_idx_V)
    position_P = window.title_start_V[owner_P] - 1 + trie.depth_B[node_P]
    return TrainingExample(window.tokens_L, position_P, node_P, edge_P, len(item_idx_V))


def plain_example_of(window: EncodedWindow, length_V: Int64) -> TrainingExample:
    """A window for the plain objective: each of the `length_V` tokens of a title is predicted."""
    _, position_P = ragged(window.title_start_V - 1, length_V)
    none_P = np.zeros(len(position_P), np.int64)
    return TrainingExample(window.tokens_L, position_P, none_P, none_P, len(length_V))


def _owners(window: EncodedWindow, position_P: Int64) -> Int64:
    """int64 [P]: which title of the window a predicting position belongs to."""
    return np.searchsorted(window.title_start_V, position_P + 1, side="right").astype(np.int64) - 1


def collate(
    examples: Sequence[TrainingExample], trie: Trie | None, pad: int = 0, prior: TrainingPrior | None = None
) -> Batch:  # fmt: skip
    """Pad on the right: with causal attention no position sees the padding. All tensors are on the CPU.

    `trie` is None for the plain objective, which has no decisions among edges.
    """

    def flat(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(list(parts))

    length = np.array([len(example.tokens_L) for example in examples])
    width = int(length.max())
    tokens_RL = np.full((len(examples), width), pad, np.int64)
    tokens_RL[np.arange(width) < length[:, None]] = flat(example.tokens_L for example in examples)
    weights = [example.weight_P for example in examples if example.weight_P is not None]
    branches = None
    if trie is not None and prior is not None:
        decision_P = flat(example.decision_P for example in examples if example.decision_P is not None)
        branches = _branches_on_top(trie, prior, decision_P)
    elif trie is not None:
        branches = branches_of(trie, *(flat(getattr(one, name) for one in examples) for name in ("node_P", "edge_P")))
    return Batch(
        torch.from_numpy(tokens_RL),
        torch.from_numpy(flat(row * width + example.position_P for row, example in enumerate(examples))),
        sum(example.num_titles for example in examples),
        branches,
        torch.from_numpy(np.concatenate(weights)) if weights else None,
    )


def _branches_on_top(trie: Trie, prior: TrainingPrior, decision_P: Int64) -> Branches:
    count_P = prior.count_D[decision_P]
    row_J, at_J = ragged(prior.begin_D[decision_P], count_P)
    taken_P = np.cumsum(count_P) - count_P + prior.taken_D[decision_P]
    return branches_on_top(trie, prior.edge_J[at_J].astype(np.int64), row_J, taken_P, prior.log_mass_J[at_J])
