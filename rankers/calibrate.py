"""`whereupon calibrate`: how sure the model should be, and how much its prior counts, fitted on validation events.

A fine-tuned model is often too sure of itself. Temperature and weight of either part of the stack are refitted where
titles part, see `decode.reweighting`: the distribution stays one over the catalogue and the search stays exact.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from ..arrays import Int64
from ..catalogue import Trie
from ..console import say, show, tracked
from ..decode import Decisions, decisions_of
from ..files import versions
from ..histories import Histories
from ..histories.questions import caveat_of, evaluated_events, sample_stretches
from .blend import Blend, write_pools
from .fitting import Calibration, fit
from .pooling import Pool, Pools
from .stack import Stack

if TYPE_CHECKING:
    from ..decode.transformers_engine import TransformersEngine
    from ..prompts import HistoryText
    from .settings import RunConfig

_LEAST_EVENTS = 20  # of a part whose temperature and weight are fitted
_TITLES = {"again": "items chosen before", "new": "new items", "all": "all items"}


def calibrate(
    config: RunConfig, histories: Histories, stack: Stack | None, adapter: Path, limit: int | None = None
) -> dict[str, Calibration]:
    """Fit temperature and weight of each part on validation events, print them, and keep them beside the adapter.

    `stack`: the run's, fitted for the valid split; None: a temperature alone.

    Raises DataError without validation events or with an adapter of other data, ModelError without an adapter.
    """
    from ..decode.models import load_engine

    row_E = evaluated_events(histories, "valid")
    row_E = row_E[sample_stretches(histories.user_idx_N[row_E], limit, config.seed)]  # few texts are read for them
    engine, encoder, _ = load_engine(
        config.model, config.prompts, histories.items, histories.events, histories.location, adapter,
        title_recipe=histories.title_recipe, data_hash=histories.data_hash,
    )  # fmt: skip
    text = encoder.text(histories.events, len(histories.user_ids))
    decisions = _decisions(engine, text, row_E, Blend(Pools(), stack), histories, engine.trie)
    fitted = _fitted(decisions, stack)
    pools = Pools(**{name: Pool(one.temperature, one.weight) for name, one in fitted.items()})
    facts = {
        "num_events": len(row_E), "seed": config.seed, "versions": versions(),
        "fitted": {
            name: {key: None if np.isnan(value) else value for key, value in vars(one).items()}
            for name, one in fitted.items()
        },
    }  # fmt: skip
    write_pools(adapter, stack.recipe if stack else None, pools, facts)
    show(_table(fitted, len(row_E)))
    if caveat := caveat_of(histories):
        say(caveat)
    return fitted


def _decisions(
    engine: TransformersEngine, text: HistoryText, row_E: Int64, blend: Blend, histories: Histories, trie: Trie
) -> Decisions:
    """The decisions of the events `row_E`; each window is read once."""
    from ..decode.windows import read_windows, windows_with_targets

    wanted_E = np.zeros(len(text.item_idx_N), bool)
    wanted_E[row_E] = True
    windows, change_of = windows_with_targets(text.windows, wanted_E), blend.on(histories, trie)
    each = read_windows(engine, text, windows, wanted_E)
    return Decisions.join([
        decisions_of(engine, query.reading, text.item_idx_N[query.event_Q], query.position_Q, change_of(query.event_Q))
        for query in tracked(each, "reading", total=len(windows))
    ])  # fmt: skip


def _fitted(decisions: Decisions, stack: Stack | None) -> dict[str, Calibration]:
    """By part; "new" alone where there is one pool. A part with too few events is left as it was trained."""
    if stack is None or not stack.recipe.gated:
        return {"new": fit(decisions, _as_trained(stack))}
    found = {}
    for name, is_new in (("again", False), ("new", True)):
        part = decisions.of_part(is_new)
        enough = part.num_events >= _LEAST_EVENTS and len(part.taken_D) > 0
        found[name] = fit(part, _as_trained(stack)) if enough else Calibration(1.0, 1.0, np.nan, np.nan)
    return found


def _as_trained(stack: Stack | None) -> tuple[float, float]:
    return (1.0, 0.0) if stack is None else (1.0, 1.0)


def _table(fitted: dict[str, Calibration], num_events: int) -> Table:
    table = Table(title=f"calibration on {num_events:,} validation events", title_justify="left", box=None)
    for name in ("part", "temperature", "prior weight", "log-loss before", "after"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for name, one in fitted.items():
        numbers = (one.temperature, one.weight, one.nll_before, one.nll_after)
        label = _TITLES[name if len(fitted) > 1 else "all"]
        table.add_row(label, *("\N{EN DASH}" if np.isnan(number) else f"{number:.3f}" for number in numbers))
    return table
