"""Validation while training: nDCG@10 and log-loss on whole windows of the validation split."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from ..arrays import Int64
from ..catalogue import Trie
from ..decode.reweighting import Change
from ..decode.transformers_engine import TransformersEngine
from ..decode.windows import answer_windows, ranks, windows_with_targets
from ..errors import NonFiniteError
from ..eval.metrics import summarise
from ..files import sha256_text
from ..histories import Histories
from ..histories.questions import SPLIT_CODES
from ..prompts import HistoryText, PromptEncoder, Windows
from ..rankers.pooling import Pools, SearchedCatalogue, change_of
from ..rankers.stack import BoundStack, Stack
from .model import CatalogueModel
from .settings import FinetuneSettings


@dataclass(frozen=True)
class Validator:
    """A seeded sample of windows with events of the validation split, each predicted from everything before it."""

    encoder: PromptEncoder
    text: HistoryText
    windows: Windows
    wanted_N: NDArray[np.bool_]
    num_events: int
    change_of: Callable[[Int64], Change] | None = None

    @classmethod
    def build(
        cls, histories: Histories, encoder: PromptEncoder, settings: FinetuneSettings, seed: int,
        stack: Stack | None = None,
    ) -> Validator:  # fmt: skip
        """`stack`: what the model is trained on top of, for the valid split."""
        events = histories.events.filter(pl.col("split") != "test")
        text = encoder.text(events, len(histories.user_ids))
        row_N = np.arange(events.height)
        has_past_N = row_N > text.offset_U1[events["user_idx"].to_numpy()]
        wanted_N = (events["split"] == "valid").to_numpy() & has_past_N
        windows = windows_with_targets(text.windows, wanted_N)
        count_N1 = np.concatenate([[0], np.cumsum(wanted_N)])
        events_W = count_N1[windows.end_W] - count_N1[windows.target_W]
        order = np.random.default_rng(seed).permutation(len(windows))
        chosen = np.zeros(len(windows), bool)
        chosen[order[np.cumsum(events_W[order]) - events_W[order] < settings.validation_events]] = True
        change = None if stack is None else _blended(stack.on(histories), encoder.catalogue.trie)
        return cls(encoder, text, windows.select(chosen), wanted_N, int(events_W[chosen].sum()), change)

    @property
    def hash(self) -> str:
        """Fingerprint of the validation events: figures of two trainings can be compared if they agree in it."""
        bounds = zip(self.windows.target_W.tolist(), self.windows.end_W.tolist(), strict=True)
        requested = [row for start, end in bounds for row in range(start, end) if self.wanted_N[row]]
        return sha256_text(json.dumps(sorted(requested)))

    def validate(self, accelerator: Accelerator, module: CatalogueModel) -> dict[str, float]:
        """Metrics of the model as it stands, the same on all processes; empty if the validation split has no events.

        The windows are dealt out to the processes. Raises NonFiniteError, on all of them, where training has ruined
        the model.
        """
        if not self.num_events:
            return {}
        num, index = accelerator.num_processes, accelerator.process_index
        error, answers = "", (np.empty(0, np.int64), np.empty(0, np.float32))
        try:
            answers = self._answer(accelerator, module, np.arange(len(self.windows)) % num == index)
        except NonFiniteError as found:  # raised below: the other processes wait for these answers
            error = str(found)
        errors, ranks_P, log_probs_P = zip(*gather_object([(error, *answers)]), strict=True)
        if any(errors):
            raise NonFiniteError(max(errors))
        return summarise(np.concatenate(ranks_P), np.concatenate(log_probs_P))

    def _answer(
        self, accelerator: Accelerator, module: CatalogueModel, mine_W: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rank of the true item, and its log-probability, for each question of the windows `mine_W` (bool)."""
        plain = accelerator.unwrap_model(module)
        engine = TransformersEngine(plain.model.get_base_model(), self.encoder.catalogue.trie, plain.temperature)
        with accelerator.autocast():
            windows = self.windows.select(mine_W)
            answers = list(answer_windows(engine, self.text, windows, self.wanted_N, 10, reweighting_of=self.change_of))
        rank_Q = [ranks(self.text.item_idx_N[a.event_Q], a.results) for a in answers]
        none = np.empty(0, np.int64), np.empty(0, np.float32)  # more processes than windows
        return np.concatenate([none[0], *rank_Q]), np.concatenate([none[1], *(a.log_prob_Q for a in answers)])


def _blended(bound: BoundStack, trie: Trie) -> Callable[[Int64], Change]:
    """From rows among the events of train, valid and history to model and stack in one, as they are trained."""
    row_N = np.flatnonzero(bound.histories.split_N != SPLIT_CODES["test"])
    searched = SearchedCatalogue(trie, bound.share_I)
    return lambda row_Q: change_of(bound.masses(row_N[row_Q]), searched, Pools())
