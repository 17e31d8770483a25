"""Validation while training: nDCG@10 and log-loss on whole windows of the validation split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from accelerate import Accelerator
from numpy.typing import NDArray

from ..decode.transformers_engine import TransformersEngine
from ..decode.windows import answer_windows, ranks, windows_with_targets
from ..eval.metrics import summarise
from ..histories import Histories
from ..prompts import HistoryText, PromptEncoder, Windows
from .loss import CatalogueModel
from .settings import FinetuneSettings


@dataclass(frozen=True)
class Validator:
    """A seeded sample of windows with events of the validation split, each predicted from everything before it."""

    encoder: PromptEncoder
    text: HistoryText
    windows: Windows
    wanted_E: NDArray[np.bool_]
    num_events: int

    @classmethod
    def build(cls, histories: Histories, encoder: PromptEncoder, settings: FinetuneSettings, seed: int) -> Validator:
        events = histories.events.filter(pl.col("split") != "test")
        text = encoder.text(events, len(histories.user_ids))
        row_E = np.arange(events.height)
        has_past_E = row_E > text.offset_U1[events["user_idx"].to_numpy()]
        wanted_E = (events["split"] == "valid").to_numpy() & has_past_E
        windows = windows_with_targets(text.windows, wanted_E)
        count_E1 = np.concatenate([[0], np.cumsum(wanted_E)])
        events_W = count_E1[windows.end_W] - count_E1[windows.target_W]
        order = np.random.default_rng(seed).permutation(len(windows))
        chosen = np.zeros(len(windows), bool)
        chosen[order[np.cumsum(events_W[order]) - events_W[order] < settings.validation_events]] = True
        return cls(encoder, text, windows.select(chosen), wanted_E, int(events_W[chosen].sum()))

    def validate(self, accelerator: Accelerator, module: CatalogueModel) -> dict[str, float]:
        """Metrics of the model as it stands; empty if the validation split has no events."""
        if not self.num_events:
            return {}
        plain = accelerator.unwrap_model(module)
        engine = TransformersEngine(plain.model.get_base_model(), self.encoder.catalogue.trie, plain.temperature)
        with accelerator.autocast():
            answers = list(answer_windows(engine, self.text, self.windows, self.wanted_E, k=10))
        rank_Q = np.concatenate([ranks(self.text.item_idx_E[a.event_Q], a.results) for a in answers])
        return summarise(rank_Q, np.concatenate([a.log_prob_Q for a in answers]))
