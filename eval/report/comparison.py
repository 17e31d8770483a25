"""Is ranker A better than ranker B, where, and on which events most of all? Shapes: E = events that both answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...arrays import Float64, Int64
from ...errors import ConfigError, DataError
from ...histories import Histories, histories_folder, read_histories
from ...histories.questions import caveat_of
from ..rankings import read_facts, slug_of, slugs_in
from ..slices import slices_of
from ..wording import ON_VALIDATION
from .runs import Ranked, evaluation_folder_of, read_ranked, why_without
from .statistics import Difference, Estimate, cells_of, compared, differences, estimates, paired

__all__ = ["Comparison", "SliceDifference", "comparison", "ranking_at"]

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
    """One event: A's and B's rank of the true item, 0 where it is unknown, and their values' difference."""

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

    `num_left_out` events only one of the two answered; `num_thin` slices had too few events; `events` are those that
    differ most, A's wins and then B's; `caveats` are sentences.
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


def ranking_at(where: str, split: str | None, metric: str) -> Ranked:
    """The ranking in a file (`.../<slug>.parquet` or `.json`), or that of `RUN:ranker`, a folder and a slug or name.

    `split` is a folder within the run's `evaluation`; None: "test", or the only one there is.

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
        shown = (slug for slug in slugs_in(folder) if name in (slug, read_facts(folder, slug).get("name")))
        try:
            slug = next(shown, None) or slug_of(name)
        except ValueError as error:
            raise ConfigError(f"{error}.") from None
        ranked = read_ranked(Path(run_name), folder, slug, [metric])
    if metric not in ranked.value_E:
        raise DataError(f"{where} has no {metric}, {why_without(ranked, metric)}; choose another --metric.")
    return ranked


def comparison(a: Ranked, b: Ranked, metric: str, seed: int) -> Comparison:
    """A against B, event by event.

    Raises:
        DataError: the two are of different data or candidates, or have no event in common.
    """
    _refuse_unlike(a, b)
    row_E = np.intersect1d(a.rankings.row_E, b.rankings.row_E, assume_unique=True)
    if not len(row_E):
        raise DataError(f"{a.name} and {b.name} have no event in common; evaluate them on the same events.")
    pair = _Pair(a, b, metric, row_E, _histories(a, b))
    both = estimates(zip("ab", pair.values, strict=True), pair.user_E, seed)
    whole = differences([(0, pair.difference_E)], pair.user_E, seed)[0]
    only = len(a.rankings.row_E) + len(b.rankings.row_E) - 2 * len(row_E)
    slices, num_thin = pair.slices(pair.histories, seed) if pair.histories else ([], 0)
    names = (a.name, b.name) if a.name != b.name else (f"{a.name} ({a.run.name})", f"{b.name} ({b.run.name})")
    caveats = [ON_VALIDATION] if "valid" in (a.facts.get("split"), b.facts.get("split")) else []
    caveats += [caveat] if pair.histories and (caveat := caveat_of(pair.histories)) else []
    return Comparison(metric, *names, both["a"], both["b"], whole, only, num_thin, slices, pair.events(), caveats)


def _refuse_unlike(a: Ranked, b: Ranked) -> None:
    asked_a, asked_b = ({**one.facts, "evaluate.repeats": one.protocol.get("repeats")} for one in (a, b))
    for fact in ("data_hash", "catalogue_hash", "split", "evaluate.repeats"):
        ours, theirs = asked_a.get(fact), asked_b.get(fact)
        if ours is not None and theirs is not None and ours != theirs:
            raise DataError(
                f"{a.name} and {b.name} should be of one {fact} but are of {ours} and {theirs}; compare like with like."
            )


def _histories(a: Ranked, b: Ranked) -> Histories | None:
    """Those of either run, if it has them and they are what was ranked."""
    for one in (a, b):
        if (histories_folder(one.run) / "manifest.json").is_file():
            histories = read_histories(one.run)
            if one.facts.get("data_hash", histories.data_hash) == histories.data_hash:
                return histories
    return None


@dataclass(frozen=True)
class _Pair:
    """Two rankers on the events in rows `row_E` that both answered; without histories their own files say whose."""

    a: Ranked
    b: Ranked
    metric: str
    row_E: Int64
    histories: Histories | None

    def _at(self, one: Ranked) -> Int64:
        return np.searchsorted(one.rankings.row_E, self.row_E)

    @cached_property
    def values(self) -> tuple[Float64, Float64]:
        """A's and B's value of each event."""
        a, b = (one.value_E[self.metric][self._at(one)] for one in (self.a, self.b))
        return a, b

    @cached_property
    def difference_E(self) -> Float64:
        return paired(*self.values)

    @cached_property
    def user_E(self) -> NDArray[Any]:
        if self.histories is not None:
            return self.histories.user_idx_E[self.row_E]
        return self._column("user_id").to_numpy()

    def _column(self, name: str) -> pl.Series:
        """A column of A's own file, of these events."""
        frame = pl.read_parquet(self.a.folder / f"{self.a.slug}.parquet")
        if name not in frame.columns:
            found = f"{self.a.slug}.parquet should say {name} but does not, and its run has no histories"
            raise DataError(f"{found}; evaluate again.")
        return frame[name].gather(self._at(self.a))

    def slices(self, histories: Histories, seed: int) -> tuple[list[SliceDifference], int]:
        """The slices of `cells_of` by p-value, tests corrected together, and how many it left out."""
        frame = slices_of(histories, "valid" if self.a.facts.get("split") == "valid" else "test", self.row_E)
        cells, num_thin = cells_of(frame)
        rows = zip(cells, compared(*self.values, frame, cells, self.user_E, seed), strict=True)
        found = [SliceDifference(*cell, a, b, test) for cell, (a, b, test) in rows if b and test]
        return sorted(found, key=lambda one: (math.isnan(one.difference.p), one.difference.p)), num_thin

    def events(self) -> list[EventDifference]:
        """Where A is most above B, then most below; among equals, where ranks are farther apart; then by row."""
        rank_a, rank_b = (one.rankings.rank_E[self._at(one)] for one in (self.a, self.b))
        deepest = max(int(rank_a.max()), int(rank_b.max()), 1) + 1
        apart_E = np.abs(np.where(rank_a == 0, deepest, rank_a) - np.where(rank_b == 0, deepest, rank_b))
        order = np.lexsort([self.row_E, -apart_E, -np.abs(self.difference_E)])
        above, below = order[self.difference_E[order] > 0], order[self.difference_E[order] < 0]
        num_above = max(MOST_EVENTS // 2, MOST_EVENTS - len(below))  # a side that has few leaves its room to the other
        order = np.concatenate([above[:num_above], below[: MOST_EVENTS - min(num_above, len(above))][::-1]])
        told = zip(*self._described(order), rank_a[order].tolist(), rank_b[order].tolist(), strict=True)
        rows, gaps = self.row_E[order].tolist(), self.difference_E[order].tolist()
        return [EventDifference(row, *one, gap) for row, one, gap in zip(rows, told, gaps, strict=True)]

    def _described(self, order: Int64) -> tuple[list[str], list[str], list[str]]:
        """User, time and item of some events."""
        if self.histories is None:
            users, times, items = (self._column(name).gather(order) for name in ("user_id", "time", "item_id"))
            return users.to_list(), times.dt.strftime("%Y-%m-%d %H:%MZ").to_list(), items.to_list()
        events = self.histories.events[self.row_E[order].tolist()]
        titles = self.histories.items["title"].gather(self.histories.item_idx_E[self.row_E[order]])
        local = events["local_time"].dt.strftime("%Y-%m-%d %H:%M")
        return events["user_id"].to_list(), local.to_list(), titles.to_list()
