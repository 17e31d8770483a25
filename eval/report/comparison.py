"""`whereupon compare A B`: is ranker A better than ranker B, where, and on which events most of all?

Shapes: E = events that both answered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...arrays import Float64, Int64
from ...errors import ConfigError, DataError
from ...histories import Histories, histories_folder, read_histories
from ...histories.questions import caveat_of
from ..metrics import Metric
from ..rankings import read_facts, slug_of, slugs_in
from ..significance import paired
from ..slices import slices_of
from ..wording import NONE, ON_VALIDATION, count, p_value, plain, signed, span
from .page import metric_named
from .runs import Ranked, evaluation_folder_of, read_ranked, why_without
from .sections import Part
from .statistics import ALPHA, FEWEST_EVENTS, compared, differences, estimates

MOST_EVENTS = 10
FEWEST_SLICES = 5  # shown even if none differs significantly, least likely to be chance first


def compare(a: str, b: str, *, split: str | None, metric: str, seed: int, as_json: bool) -> Part:
    """Print the comparison of two rankings, as tables or as JSON, and return the latter.

    `a` and `b` are `RUN:ranker`, a folder and a slug or name, or files of rankings (`.../<slug>.parquet` or `.json`);
    `split` is a folder within a run's `evaluation`; None: "test", or the only one there is.

    Raises:
        ConfigError: there is no such metric.
        DataError: a ranking is missing, has no such metric, or the two are of different data, candidates or events.
    """
    name = metric_named(metric)
    found = _comparison(_ranking_at(a, split, name), _ranking_at(b, split, name), name, seed)
    if as_json:
        print(json.dumps(_finite(found), ensure_ascii=False, indent=2))
    else:
        _print(found, Console(highlight=False))
    return found


def _ranking_at(where: str, split: str | None, metric: str) -> Ranked:
    path = Path(where)
    if path.suffix in (".parquet", ".json"):
        run = path.parent.parent.parent if path.parent.parent.name == "evaluation" else path.parent
        ranked = read_ranked(run, path.parent, path.stem, [metric])
    else:
        run_name, _, name = where.rpartition(":")
        if not run_name or not name:
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


def _comparison(a: Ranked, b: Ranked, metric: str, seed: int) -> Part:
    """A against B, event by event; slices are empty where their histories are not at hand.

    `num_left_out` events only one of the two answered; `num_thin_slices` had too few events; `events` are those that
    differ most, A's wins and then B's (ranks are 0 where unknown); `caveats` are sentences.
    """
    _refuse_unlike(a, b)
    row_E, at_A, at_B = np.intersect1d(a.rankings.row_E, b.rankings.row_E, assume_unique=True, return_indices=True)
    if not len(row_E):
        raise DataError(f"{a.name} and {b.name} have no event in common; evaluate them on the same events.")
    histories = _histories(a, b)
    user_E: NDArray[Any] = histories.user_idx_N[row_E] if histories else _own(a, "user_id", at_A).to_numpy()
    value_E = {"a": a.value_E[metric][at_A], "b": b.value_E[metric][at_B]}
    both, gap_E = estimates(value_E, value_E.__getitem__, user_E, seed), paired(value_E["a"], value_E["b"])
    whole = differences([0], lambda _: gap_E, user_E, seed)[0]
    slices: list[Part] = []
    num_thin = 0
    if histories:
        frame = slices_of(histories, "valid" if a.facts.get("split") == "valid" else "test", row_E)
        cells, num_thin = compared(value_E["a"], value_E["b"], frame, user_E, seed)
        for (name, value), each in cells.items():
            sides = zip(("a", "b", "difference"), each, strict=True)
            slices.append({"slice": name, "value": value, **{side: vars(one) for side, one in sides}})
        slices.sort(key=lambda one: (math.isnan(one["difference"]["p"]), one["difference"]["p"]))
    names = (a.name, b.name) if a.name != b.name else (f"{a.name} ({a.run.name})", f"{b.name} ({b.run.name})")
    caveats = [ON_VALIDATION] if "valid" in (a.facts.get("split"), b.facts.get("split")) else []
    return {
        "metric": metric,
        **{side: {"name": name, **vars(both[side])} for side, name in zip("ab", names, strict=True)},
        "difference": vars(whole), "num_left_out": len(a.rankings.row_E) + len(b.rankings.row_E) - 2 * len(row_E),
        "slices": slices, "num_thin_slices": num_thin,
        "events": _events(gap_E, a, at_A, b.rankings.rank_E[at_B], histories),
        "caveats": [*caveats, *([caveat] if histories and (caveat := caveat_of(histories)) else [])],
    }  # fmt: skip


def _refuse_unlike(a: Ranked, b: Ranked) -> None:
    protocol_a, protocol_b = ({**one.facts, "evaluate.repeats": one.protocol.get("repeats")} for one in (a, b))
    for fact in ("data_hash", "catalogue_hash", "split", "evaluate.repeats"):
        ours, theirs = protocol_a.get(fact), protocol_b.get(fact)
        if ours is not None and theirs is not None and ours != theirs:
            raise DataError(
                f"{a.name} and {b.name} should have the same {fact}, but have {ours} and {theirs}; choose other runs."
            )


def _histories(a: Ranked, b: Ranked) -> Histories | None:
    """Those of either run, if it has them and they are what was ranked."""
    for one in (a, b):
        if (histories_folder(one.run) / "manifest.json").is_file():
            histories = read_histories(one.run)
            if one.facts.get("data_hash", histories.data_hash) == histories.data_hash:
                return histories
    return None


def _own(one: Ranked, name: str, at: Int64) -> pl.Series:
    """Some events' values of a column in the ranker's own file: without histories, that says whose they are."""
    frame = pl.read_parquet(one.folder / f"{one.slug}.parquet")
    if name not in frame.columns:
        found = f"{one.slug}.parquet should say {name} but does not, and its run has no histories"
        raise DataError(f"{found}; evaluate again.")
    return frame[name].gather(at)


def _events(gap_E: Float64, a: Ranked, at_E: Int64, rank_b_E: Int64, histories: Histories | None) -> list[Part]:
    """Where A is most above B, then most below; among equals, where ranks are farther apart; then by row.

    `at_E` are the places of the events among A's.
    """
    rank_a_E, row_E = a.rankings.rank_E[at_E], a.rankings.row_E[at_E]
    deepest = max(int(rank_a_E.max()), int(rank_b_E.max()), 1) + 1
    apart_E = np.abs(np.where(rank_a_E == 0, deepest, rank_a_E) - np.where(rank_b_E == 0, deepest, rank_b_E))
    order = np.lexsort([-apart_E, -np.abs(gap_E)])
    above, below = order[gap_E[order] > 0], order[gap_E[order] < 0]
    num_above = max(MOST_EVENTS // 2, MOST_EVENTS - len(below))  # a side that has few leaves its places to the other
    order = np.concatenate([above[:num_above], below[: MOST_EVENTS - min(num_above, len(above))][::-1]])
    if histories is None:
        users, items, time = (_own(a, name, at_E[order]) for name in ("user_id", "item_id", "time"))
    else:
        events = histories.events[row_E[order].tolist()]
        users, time = events["user_id"], events["local_time"]
        items = histories.items["title"].gather(histories.item_idx_N[row_E[order]])
    return pl.DataFrame({
        "row": row_E[order], "user_id": users, "item": items, "rank_a": rank_a_E[order], "rank_b": rank_b_E[order],
        "time": time.dt.strftime("%Y-%m-%d %H:%M" if histories else "%Y-%m-%d %H:%MZ"), "difference": gap_E[order],
    }).to_dicts()  # fmt: skip


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(found: Part, console: Console) -> None:
    """The means and their difference, then the slices and the events where it is largest."""
    whole, num_thin = found["difference"], found["num_thin_slices"]
    title = f"{found['metric']} on {whole['num_events']:,} events of {whole['num_users']:,} users"
    table = _table(title, ["", found["metric"], "95 % interval", "p"])
    for side in ("a", "b"):
        one = found[side]
        table.add_row(Text(f"{side.upper()}  {one['name']}"), plain(one["mean"]), span(one["low"], one["high"]), "")
    table.add_row("A - B", signed(whole["mean"]), span(whole["low"], whole["high"], sign=True), p_value(whole["p"]))
    console.print(table)
    if found["num_left_out"]:
        console.print(f"{found['num_left_out']:,} events that only one of the two answered are left out.")
    for sentence in (_verdict(whole, found["metric"]), *found["caveats"]):
        console.print(sentence, markup=False, soft_wrap=True)
    if found["slices"]:
        console.print(_slices(found["slices"]))
    if num_thin:
        console.print(f"{num_thin} slice{'s' * (num_thin > 1)} of fewer than {FEWEST_EVENTS} events left out.")
    if found["events"]:
        table = _table("events where they differ most", ["user", "local time", "item", "rank A", "rank B", "A - B"])
        for one in found["events"]:
            ranks = (str(one[name] or NONE) for name in ("rank_a", "rank_b"))
            table.add_row(Text(one["user_id"]), one["time"], Text(one["item"]), *ranks, signed(one["difference"]))
        console.print(table)


def _slices(slices: Sequence[Part]) -> Table:
    differing = [one for one in slices if one["difference"]["p_holm"] < ALPHA]
    what = "slices where they differ" if differing else "in no slice do they differ significantly; the least alike"
    num_tested = sum(not math.isnan(one["difference"]["p_holm"]) for one in slices)
    table = _table(
        f"{what} (p: Holm over {num_tested})", ["slice", "", "events", "A", "B", "A - B", "95 % interval", "p"]
    )
    for one in differing or slices[:FEWEST_SLICES]:
        gap, means = one["difference"], (plain(one[side]["mean"]) for side in ("a", "b"))
        table.add_row(one["slice"], Text(one["value"]), count(gap["num_events"]), *means, signed(gap["mean"]),
                      span(gap["low"], gap["high"], sign=True), p_value(gap["p_holm"]))  # fmt: skip
    return table


def _verdict(whole: Part, metric: str) -> str:
    if math.isnan(whole["p"]):
        return "The difference cannot be tested: there are fewer than two users, or infinite values."
    if whole["p"] >= ALPHA:
        return "The difference may be chance."
    is_better = (whole["mean"] < 0) == Metric.parse(metric).lower_is_better
    return f"A is significantly {'better' if is_better else 'worse'} than B."


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        is_text = column in ("", "slice", "user", "local time", "item")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=not is_text)
    return table
