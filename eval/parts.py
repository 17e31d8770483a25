"""What each part of a model on top of rankers adds to an answer: the parts of the log-odds of the true item.

For each event, log p(true item) - log p(other item) under the final distribution, where the other item is the first of
the model's ranking that is not the true one, as the sum of the parts that `rankers.parts` names.

Shapes: E = evaluated events, Q = those of a chunk, 2 = the true item and the other one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Float64, Int64
from ..decode import Change
from ..decode.reweighting import AgainOrNew
from ..errors import DataError, first_line
from ..files import atomic_path
from ..rankers.parts import MODEL, stack_parts
from ..rankers.stack import BoundStack
from .rankings import Rankings, parts_file

_CHUNK: Final = 256  # events at a time


def other_items(rankings: Rankings, item_E: Int64) -> tuple[Int64, Float64]:
    """The first item of each ranking that is not the true one, int64 [E], and its score; -1 and NaN: there is none."""
    item_EK = rankings.item_EK[:, :2]
    is_other_EK = (item_EK != item_E[:, None]) & (item_EK >= 0)
    at_E, event_E = is_other_EK.argmax(axis=1), np.arange(len(item_E))
    has_E = is_other_EK.any(axis=1)
    other_E = np.where(has_E, item_EK[event_E, at_E], -1).astype(np.int64)
    return other_E, np.where(has_E, rankings.score_EK[event_E, at_E], np.nan)


def parts_of(
    stack: BoundStack, change_of: Callable[[Int64], Change], rankings: Rankings, item_E: Int64
) -> dict[str, Float64]:  # fmt: skip
    """The parts of the log-odds by name, in the order in which they are shown: float64 [E].

    NaN for events whose ranking has no other item, or where one of the two is held impossible. `change_of` gives the
    change that was made of the model's distribution, `item_E` int64 are the true items.
    """
    assert rankings.log_prob_E is not None
    other_E, score_E = other_items(rankings, item_E)
    log_odds_E = rankings.log_prob_E.astype(np.float64) - score_E
    known_E = np.flatnonzero(np.isfinite(log_odds_E))
    log_odds_E[~np.isfinite(log_odds_E)] = np.nan
    found: dict[str, Float64] = {}
    for first in range(0, len(known_E), _CHUNK):
        some_Q = known_E[first : first + _CHUNK]
        pair_Q2 = np.stack([item_E[some_Q], other_E[some_Q]], axis=1)
        row_Q = rankings.row_E[some_Q]
        change = change_of(row_Q)
        assert isinstance(change, AgainOrNew)
        for name, value_Q in stack_parts(change, pair_Q2, stack.said(row_Q, pair_Q2)):
            found.setdefault(name, np.where(np.isnan(log_odds_E), np.nan, 0.0))[some_Q] = value_Q
    if found:
        found[MODEL] = log_odds_E - np.sum(list(found.values()), axis=0)
    return found


def write_parts(folder: Path, slug: str, row_E: Int64, parts: dict[str, Float64]) -> None:
    """Write `<slug>.parts.parquet` beside rankings: columns row, part and value, without the events of NaN."""
    frame = pl.DataFrame(
        {
            "row": np.tile(row_E, len(parts)),
            "part": np.repeat(np.array(list(parts), object), len(row_E)).tolist(),
            "value": np.concatenate([np.zeros(0), *parts.values()]),
        },
        schema={"row": pl.Int64, "part": pl.String, "value": pl.Float64},
    )
    kept = frame.filter(pl.col("value").is_finite())
    with atomic_path(parts_file(folder, slug)) as path:
        kept.sort("row", maintain_order=True).write_parquet(path)


def read_parts(folder: Path, slug: str, row_E: Int64) -> dict[str, Float64] | None:
    """What `write_parts` wrote of these events, float64 [E] by part, NaN where nothing is known; None: no parts.

    Raises:
        DataError: the file is damaged.
    """
    file = parts_file(folder, slug)
    if not file.is_file():
        return None
    try:
        frame = pl.read_parquet(file, columns=["row", "part", "value"])
        row_X, value_X = frame["row"].to_numpy(), frame["value"].cast(pl.Float64).to_numpy()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{file} should hold the parts of log-odds but does not ({first_line(error)}); remove it and run "
            "`whereupon evaluate` again."
        ) from None
    at_X = np.minimum(np.searchsorted(row_E, row_X), max(len(row_E) - 1, 0))
    is_evaluated_X = row_E[at_X] == row_X if len(row_E) else np.zeros(len(row_X), bool)
    found: dict[str, Float64] = {}
    for name in frame["part"].unique(maintain_order=True):
        own_X = is_evaluated_X & (frame["part"] == name).to_numpy()
        found[name] = np.full(len(row_E), np.nan)
        found[name][at_X[own_X]] = value_X[own_X]
    return found or None
