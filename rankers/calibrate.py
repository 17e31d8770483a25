"""`whereupon calibrate`: how sure the model should be, and how much a prior should count, fitted on validation events.

A fine-tuned model is often too sure of itself, and it underrates what it could know by counting. Both are mended where
titles part, see `decode.reweighting`: the distribution stays one over the catalogue and the search stays exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from ..arrays import Int64
from ..console import say, show, tracked
from ..decode import Decisions, decisions_of
from ..decode.adapters import current_adapter
from ..decode.settings import CALIBRATIONS, CalibrationName
from ..files import versions, write_json
from ..histories.questions import caveat_of, evaluated_events, sample_events
from .fitting import Calibration, fit
from .reweighter import FILE, Prior, decode_of, identity

if TYPE_CHECKING:
    from ..decode.transformers_engine import TransformersEngine
    from ..prompts import HistoryText
    from .settings import RunConfig


def calibrate(config: RunConfig, limit: int | None = None) -> dict[CalibrationName, Calibration]:
    """Fit each kind of calibration on events of the validation split, print them, and write `calibration.json`.

    Raises DataError without validation events or with an adapter of other data, ModelError without an adapter.
    """
    from ..decode.models import load_engine
    from ..histories import read_histories

    histories = read_histories(config.run)
    row_E = evaluated_events(histories, "valid")
    row_E = row_E[sample_events(len(row_E), limit, config.seed)]
    engine, encoder, card = load_engine(
        config.model, config.prompts, histories.items, histories.location, current_adapter(config.run),
        title_recipe=histories.title_recipe, data_hash=histories.data_hash,
    )  # fmt: skip
    text = encoder.text(histories.events, len(histories.user_ids))
    prior = Prior.read(histories, engine.trie, decode_of(config))
    fitted = {name: fit(decisions) for name, decisions in _all_decisions(engine, text, row_E, prior).items()}
    write_json(config.run / FILE, {
        "identity": identity(config, card), "num_events": len(row_E), "seed": config.seed,
        "fitted": {name: vars(one) for name, one in fitted.items()}, "versions": versions(),
    })  # fmt: skip
    show(_table(fitted, len(row_E)))
    if caveat := caveat_of(histories):
        say(caveat)
    best = min(fitted, key=lambda name: fitted[name].nll_after)
    say(f"written to {config.run / FILE}; to use the best one, set decode.calibration: {best}")
    return fitted


def _all_decisions(
    engine: TransformersEngine, text: HistoryText, row_E: Int64, prior: Prior
) -> dict[CalibrationName, Decisions]:
    """The decisions of the events `row_E` with the prior of each calibration; each window is read once."""
    from ..decode.windows import read_windows, windows_with_targets

    wanted_E = np.zeros(len(text.item_idx_N), bool)
    wanted_E[row_E] = True
    windows = windows_with_targets(text.windows, wanted_E)
    parts: dict[CalibrationName, list[Decisions]] = {name: [] for name in CALIBRATIONS if name != "none"}
    each = read_windows(engine, text, windows, wanted_E)
    for asked in tracked(each, "reading", total=len(windows)):
        item_Q = text.item_idx_N[asked.event_Q]
        for name, found in parts.items():
            masses = prior.of_rows(name, asked.event_Q)
            found.append(decisions_of(engine, asked.reading, item_Q, asked.position_Q, masses))
    return {name: Decisions.join(found) for name, found in parts.items()}


def _table(fitted: dict[CalibrationName, Calibration], num_events: int) -> Table:
    table = Table(title=f"calibration on {num_events:,} validation events", title_justify="left", box=None)
    for name in ("calibration", "temperature", "prior weight", "log-loss before", "after"):
        table.add_column(name, justify="left" if name == "calibration" else "right")
    for name, one in fitted.items():
        numbers = (one.temperature, one.weight, one.nll_before, one.nll_after)
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    return table
