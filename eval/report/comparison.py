"""`whereupon compare A B`: is one ranking better than another, where, and on which events most of all?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from ...arrays import Float64, Int64
from ...errors import ConfigError, DataError
from ...histories import Histories, histories_folder, read_histories
from ...histories.questions import caveat_of
from ..rankings import read_facts, slug_of, slugs_in
from ..slices import slices_of
from ..wording import ON_VALIDATION
from .comparison_text import as_dict, print_comparison
from .page import metric_named
from .runs import Ranked, evaluation_folder_of, read_ranked, why_without
from .statistics import Difference, Estimate, cells_of, cut, differences, estimates, paired

__all__ = ["Comparison", "SliceDifference", "compare", "comparison", "ranking_at"]

MOST_EVENTS = 10


@dataclass(frozen=True)
class SliceDifference:
    """Events of one value of a property: A's and B's mean there, and A less B."""

    slice: str
    value: str
    a: Estimate
    b: Estimate
    difference: Difference


@dataclass(frozen=True)
class EventDifference:
    """One event: A's and B's rank of the true item, 0 where it is not among those known."""

    row: int
    user_id: str
    time: str
    item: str
    rank_a: int
    rank_b: int
    difference: float


@dataclass(frozen=True)
class Comparison:
    """A against B on the events that both answered; slices are empty where their histories are not at hand.

    Attributes:
        num_left_out: events that only one of the two answered.
        num_thin: slices of too few events, which are left out.
        events: those that differ most, A's wins and then B's.
        caveats: what to know before the figures are quoted, as sentences.
    """

    metric: str
    name_a: str
    name_b: str
    a: Estimate
    b: Estimate
    difference: Difference
    num_left_out: int
    num_thin: int
    slices: Sequence[SliceDifference]
    events: Sequence[EventDifference]
    caveats: Sequence[str] = ()


def compare(a: str, b: str, *, split: str | None, metric: str, seed: int, as_json: bool) -> Comparison:
    """Print the comparison of two rankings, as tables or as JSON. `a`, `b`, `split`: see `ranking_at`.

    Raises:
        ConfigError: there is no such metric.
        DataError: a ranking is missing, has no such metric, or the two are of different data, candidates or events.
    """
    name = metric_named(metric)
    found = comparison(ranking_at(a, split, name), ranking_at(b, split, name), name, seed)
    if as_json:
        print(json.dumps(as_dict(found), ensure_ascii=False, indent=2))
    else:
        print_comparison(found, Console(highlight=False))
    return found


def ranking_at(where: str, split: str | None, metric: str) -> Ranked:
    """The ranking in a file (`.../<slug>.parquet` or `.json`), or that of `RUN:ranker`, a folder and a slug or name.

    Args:
        split: folder within the run's `evaluation`; None: "test", or the only one there is.

    Raises:
        DataError: there is none, or it lacks the metric.
    """
    path = Path(where)
    if path.suffix in (".parquet", ".json"):
        run = path.parent.parent.parent if path.parent.parent.name == "evaluation" else path.parent
        ranked = read_ranked(run, path.parent, path.stem, [metric])
    else:
        run_name, colon, name = where.rpartition(":")
        if not colon or not run_name or not name:
            raise DataError(f"Expected a rankings file or RUN:ranker, found {where!r}; name the ranker behind a colon.")
        folder = evaluation_folder_of(Path(run_name), split)
        known = slugs_in(folder)
        shown = (slug for slug in known if name in (slug, read_facts(folder, slug).get("name")))
        ranked = read_ranked(Path(run_name), folder, next(shown, None) or _slug(name), [metric])
    if metric not in ranked.value_E:
        raise DataError(f"{where} has no {metric}, {why_without(ranked, metric)}; choose another --metric.")
    return ranked


def comparison(a: Ranked, b: Ranked, metric: str, seed: int) -> Comparison:
    """A against B, event by event.

    Raises:
        DataError: the two are of different data or candidates, or have no event in common.
    """
    asked_a, asked_b = ({**one.facts, "evaluate.repeats": one.protocol.get("repeats")} for one in (a, b))
    for fact in ("data_hash", "catalogue_hash", "split", "evaluate.repeats"):
        ours, theirs = asked_a.get(fact), asked_b.get(fact)
        if ours is not None and theirs is not None and ours != theirs:
            raise DataError(
                f"{a.name} and {b.name} should be of one {fact} but are of {ours} and {theirs}; compare like with like."
            )
    row_E = np.intersect1d(a.rankings.row_E, b.rankings.row_E, assume_unique=True)
    if not len(row_E):
        raise DataError(f"{a.name} and {b.name} have no event in common; evaluate them on the same events.")
    at_a, at_b = (np.searchsorted(one.rankings.row_E, row_E) for one in (a, b))
    value_a, value_b = a.value_E[metric][at_a], b.value_E[metric][at_b]
    histories = _histories(a, b)
    user_E = _users(a, at_a, histories, row_E)
    difference_E = paired(value_a, value_b)
    both = estimates([("a", value_a), ("b", value_b)], user_E, seed)
    only = len(a.rankings.row_E) + len(b.rankings.row_E) - 2 * len(row_E)
    slices, num_thin = _slices(histories, a, row_E, value_a, value_b, user_E, seed) if histories else ([], 0)
    events = _events(a, histories, at_a, row_E, difference_E, a.rankings.rank_E[at_a], b.rankings.rank_E[at_b])
    names = (a.name, b.name) if a.name != b.name else (f"{a.name} ({a.run.name})", f"{b.name} ({b.run.name})")
    whole = differences([(0, difference_E)], user_E, seed)[0]
    caveats = [ON_VALIDATION] if "valid" in (a.facts.get("split"), b.facts.get("split")) else []
    caveats += [caveat] if histories and (caveat := caveat_of(histories)) else []
    return Comparison(metric, *names, both["a"], both["b"], whole, only, num_thin, slices, events, caveats)


def _slug(name: str) -> str:
    try:
        return slug_of(name)
    except ValueError as error:
        raise ConfigError(f"{error}.") from None


def _histories(a: Ranked, b: Ranked) -> Histories | None:
    """Those of either run, if it has them and they are what was ranked."""
    for one in (a, b):
        if (histories_folder(one.run) / "manifest.json").is_file():
            histories = read_histories(one.run)
            if one.facts.get("data_hash", histories.data_hash) == histories.data_hash:
                return histories
    return None


def _users(a: Ranked, at_a: Int64, histories: Histories | None, row_E: Int64) -> NDArray[Any]:
    """Whose event each is: from the histories, or from the rankings' own file."""
    if histories is not None:
        return histories.user_idx_E[row_E]
    return _told(a, "user_id").gather(at_a).to_numpy()


def _told(one: Ranked, column: str) -> pl.Series:
    frame = pl.read_parquet(one.folder / f"{one.slug}.parquet")
    if column not in frame.columns:
        raise DataError(
            f"{one.slug}.parquet should say {column} but does not, and its run has no histories; evaluate again."
        )
    return frame[column]


def _slices(
    histories: Histories, a: Ranked, row_E: Int64, value_a: Float64, value_b: Float64,
    user_E: NDArray[Any], seed: int,
) -> tuple[list[SliceDifference], int]:  # fmt: skip
    """The slices of `cells_of` in the order of their p-values, tests corrected together, and how many it left out."""
    frame = slices_of(histories, "valid" if a.facts.get("split") == "valid" else "test", row_E)
    cells, num_thin = cells_of(frame)
    ours, theirs = (estimates(cut(value_E, frame, cells), user_E, seed) for value_E in (value_a, value_b))
    tests = differences(cut(paired(value_a, value_b), frame, cells), user_E, seed)
    found = [SliceDifference(*cell, ours[cell], theirs[cell], test) for cell, test in tests.items()]
    return sorted(found, key=lambda one: (math.isnan(one.difference.p), one.difference.p)), num_thin


def _events(
    a: Ranked,
    histories: Histories | None,
    at_a: Int64,
    row_E: Int64,
    difference_E: Float64,
    rank_a: Int64,
    rank_b: Int64,
) -> list[EventDifference]:
    """Where A is most above B, then most below; among equals, where ranks are farther apart; then by row."""
    deepest = max(int(rank_a.max()), int(rank_b.max()), 1) + 1
    apart_E = np.abs(np.where(rank_a == 0, deepest, rank_a) - np.where(rank_b == 0, deepest, rank_b))
    order = np.lexsort([row_E, -apart_E, -np.abs(difference_E)])
    above, below = order[difference_E[order] > 0], order[difference_E[order] < 0]
    num_above = max(MOST_EVENTS // 2, MOST_EVENTS - len(below))  # a side that has few leaves its room to the other
    order = np.concatenate([above[:num_above], below[: MOST_EVENTS - min(num_above, len(above))][::-1]])
    if histories is not None:
        events = histories.events[row_E[order].tolist()]
        users, times = events["user_id"].to_list(), events["local_time"].dt.strftime("%Y-%m-%d %H:%M").to_list()
        items = histories.items["title"].gather(histories.item_idx_E[row_E[order]]).to_list()
    else:
        users, items = (_told(a, name).gather(at_a[order]).to_list() for name in ("user_id", "item_id"))
        times = _told(a, "time").gather(at_a[order]).dt.strftime("%Y-%m-%d %H:%MZ").to_list()
    numbers = zip(row_E[order].tolist(), users, times, items, rank_a[order].tolist(), rank_b[order].tolist(),
                  difference_E[order].tolist(), strict=True)  # fmt: skip
    return [EventDifference(*row) for row in numbers]
