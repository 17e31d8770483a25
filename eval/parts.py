"""What each part of a model on top of rankers adds to an answer: the parts of the log-odds of the true item.

For each event, log p(true item) - log p(other item) under the served distribution, where the other item is the first of
the model's ranking that is not the true one. It is a sum of

- `gate`: the difference of the log-probabilities of the two items' parts, chosen before and new; 0 if in one part;
- a part for each ranker of the stack: weight * what it says of the true item, minus the same of the other one;
- `normaliser`: the difference of what the two parts' masses are divided by; 0, but for rounding, if in one part;
- `model`: the rest, which is what the language model changed.

Weights are those of the ranker in the stack times that of the stack in the pool (`rankers.pooling.Pools`).

Shapes: E = evaluated events, Q = those of a chunk, 2 = the true item and the other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Float64, Int64
from ..decode import Change
from ..decode.reweighting import AgainOrNew
from ..errors import DataError, first_line
from ..files import atomic_path
from ..rankers.stack import BoundStack
from .rankings import Rankings, parts_file

GATE, NORMALISER, MODEL = "gate", "normaliser", "model"
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
        for name, value_Q in _of_chunk(stack, change_of(rankings.row_E[some_Q]), rankings.row_E[some_Q], pair_Q2):
            found.setdefault(name, np.where(np.isnan(log_odds_E), np.nan, 0.0))[some_Q] = value_Q
    if found:
        found[MODEL] = log_odds_E - np.sum(list(found.values()), axis=0)
    names = [GATE, *(name for name in found if name not in (GATE, NORMALISER, MODEL)), NORMALISER, MODEL]
    return {name: found[name] for name in names if name in found}


def _of_chunk(
    stack: BoundStack, change: Change, row_Q: Int64, pair_Q2: Int64
) -> Iterator[tuple[str, Float64]]:  # fmt: skip
    """All parts but the model's, float64 [Q]."""
    assert isinstance(change, AgainOrNew)
    query_Q = np.arange(len(row_Q))
    part_Q2 = np.stack([change.is_new(item_Q) for item_Q in pair_Q2.T], axis=1).astype(np.int64)
    share_Q2 = change.log_share_Q2[query_Q[:, None], part_Q2]
    yield GATE, np.where(part_Q2[:, 0] == part_Q2[:, 1], 0.0, _odds(share_Q2))
    weights, log_total_2Q, log_mass_22Q = np.zeros(2), np.zeros((2, len(row_Q))), np.zeros((2, 2, len(row_Q)))
    for part, pool in enumerate(change.pools):
        assert pool.prior is not None
        weights[part] = pool.weight
        log_total_2Q[part] = _log(pool.prior.totals())
        log_mass_22Q[part] = [_log(pool.prior.of_item(query_Q, item_Q)) for item_Q in pair_Q2.T]
    weight_Q2 = weights[part_Q2]
    mass_Q2 = np.stack([log_mass_22Q[part_Q2[:, at], at, query_Q] for at in (0, 1)], axis=1)
    total_Q2 = log_total_2Q[part_Q2, query_Q[:, None]]
    rest_Q = _odds(weight_Q2 * (mass_Q2 - total_Q2))
    for name, said_Q2 in stack.said(row_Q, pair_Q2).items():
        added_Q = _odds(weight_Q2 * said_Q2)
        rest_Q = rest_Q - added_Q
        yield name, added_Q
    yield NORMALISER, rest_Q


def _odds(value_Q2: Float64) -> Float64:
    with np.errstate(invalid="ignore"):  # of a part that is impossible
        odds_Q: Float64 = value_Q2[:, 0] - value_Q2[:, 1]
    return odds_Q


def _log(mass: Float64) -> Float64:
    with np.errstate(divide="ignore"):
        log_mass: Float64 = np.log(mass)
    return log_mass


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
    is_asked_X = row_E[at_X] == row_X if len(row_E) else np.zeros(len(row_X), bool)
    found: dict[str, Float64] = {}
    for name in frame["part"].unique(maintain_order=True):
        own_X = is_asked_X & (frame["part"] == name).to_numpy()
        found[name] = np.full(len(row_E), np.nan)
        found[name][at_X[own_X]] = value_X[own_X]
    return found or None
