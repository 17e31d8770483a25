"""Windows as training examples and batches of them: every title of a window is a target where the catalogue branches.

Shape legend: R windows of a batch, L padded length, P branching decisions of all titles in it, J their edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

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
from .on_top import TrainingPrior
from .settings import FinetuneSettings
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


class _OfTensors:
    """A dataclass of tensors, moved as one; also the interface by which torch's DataLoader pins memory."""

    def to(self, device: torch.device, non_blocking: bool = True) -> Self:
        """On another device; the copy of pinned memory is not waited for."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        return self._each(lambda value: value.pin_memory())

    def _each(self, moved: Callable[[Any], Any]) -> Self:
        held = {name: getattr(self, name) for name in self.__dataclass_fields__}  # type: ignore[attr-defined]
        kinds = Tensor, _OfTensors
        changed = {name: moved(value) for name, value in held.items() if isinstance(value, kinds)}
        return replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True)
class PriorBatch(_OfTensors):
    """The prior at the decisions of a batch: for each of J edges its number, the decision it belongs to (int64,
    ascending) and the logarithm of the prior mass below (float32); `taken_P` int64 is where in J the edge taken is."""

    edge_J: Tensor
    row_J: Tensor
    log_mass_J: Tensor
    taken_P: Tensor


@dataclass(frozen=True)
class Batch(_OfTensors):
    """Examples as int64 tensors: `tokens_RL` padded on the right, decisions at flat positions r * L + position."""

    tokens_RL: Tensor
    position_P: Tensor
    node_P: Tensor
    edge_P: Tensor
    num_titles: int
    prior: PriorBatch | None = None
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
    training events, before the first example is asked for.
    """
    events, windows = training_windows(histories, encoder)
    settings = settings or FinetuneSettings()
    weight_N, trie = event_weights(events, settings.weights), encoder.catalogue.trie
    item_idx_N, row_N = events["item_idx"].to_numpy(), np.flatnonzero(histories.split_N == 0)

    def examples() -> Iterator[TrainingExample]:
        for window in windows:
            first = window.target if settings.teach == "once" else window.start
            asked = EncodedWindow(window.text.tokens_L, window.text.title_start_V[first - window.start :])
            taught = slice(first, window.end)
            items = item_idx_N[taught].astype(np.int64)
            if settings.objective == "plain":
                example = plain_example_of(asked, encoder.titles.length[items].astype(np.int64))
            else:
                example = example_of(asked, items, trie, prior, row_N[taught])
            yield replace(
                example,
                end=window.end,
                weight_P=None if weight_N is None else weight_N[taught][_owners(asked, example.position_P)],
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


def collate(examples: Sequence[TrainingExample], pad: int = 0, prior: TrainingPrior | None = None) -> Batch:
    """Pad on the right: with causal attention no position sees the padding. All tensors are on the CPU."""

    def flat(parts: Iterable[Int64]) -> Tensor:
        return torch.from_numpy(np.concatenate(list(parts)))

    length = np.array([len(example.tokens_L) for example in examples])
    width = int(length.max())
    tokens_RL = np.full((len(examples), width), pad, np.int64)
    tokens_RL[np.arange(width) < length[:, None]] = np.concatenate([example.tokens_L for example in examples])
    weights = [example.weight_P for example in examples if example.weight_P is not None]
    decisions = [example.decision_P for example in examples if example.decision_P is not None]
    return Batch(
        torch.from_numpy(tokens_RL),
        flat(row * width + example.position_P for row, example in enumerate(examples)),
        flat(example.node_P for example in examples),
        flat(example.edge_P for example in examples),
        sum(example.num_titles for example in examples),
        None if prior is None else _prior_batch(prior, np.concatenate(decisions)),
        torch.from_numpy(np.concatenate(weights)) if weights else None,
    )


def _prior_batch(prior: TrainingPrior, decision_P: Int64) -> PriorBatch:
    count_P = prior.count_D[decision_P]
    row_J, at_J = ragged(prior.begin_D[decision_P], count_P)
    taken_P = np.cumsum(count_P) - count_P + prior.taken_D[decision_P]
    arrays = (prior.edge_J[at_J].astype(np.int64), row_J, prior.log_mass_J[at_J], taken_P)
    return PriorBatch(*(torch.from_numpy(array) for array in arrays))
