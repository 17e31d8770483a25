"""`whereupon compare A B`: a comparison as tables for the terminal, and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..metrics import Metric
from ..wording import NONE, count, p_value, plain, signed, span
from .comparison import Comparison, comparison, ranking_at
from .page import metric_named
from .statistics import ALPHA, FEWEST_EVENTS, num_tested

__all__ = ["as_dict", "compare", "print_comparison"]

FEWEST_SLICES = 5  # shown even if none differs significantly, least likely to be chance first


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


def print_comparison(found: Comparison, console: Console) -> None:
    """The means and their difference, then the slices and the events where it is largest."""
    whole = found.difference
    title = f"{found.metric} on {found.a.num_events:,} events of {found.a.num_users:,} users"
    table = _table(title, ["", found.metric, "95 % interval", "p"])
    for name, one in ((f"A  {found.name_a}", found.a), (f"B  {found.name_b}", found.b)):
        table.add_row(Text(name), plain(one.mean), span(one.low, one.high), "")
    table.add_row("A - B", signed(whole.mean), span(whole.low, whole.high, sign=True), p_value(whole.p))
    console.print(table)
    if found.num_left_out:
        console.print(f"{found.num_left_out:,} events that only one of the two answered are left out.")
    for sentence in (_verdict(found), *found.caveats):
        console.print(sentence, markup=False, soft_wrap=True)
    if found.slices:
        _print_slices(found, console)
    if found.num_thin:
        many = "slices" if found.num_thin > 1 else "slice"
        console.print(f"{found.num_thin} {many} of fewer than {FEWEST_EVENTS} events left out.")
    if found.events:
        events = _table("events where they differ most", ["user", "local time", "item", "rank A", "rank B", "A - B"])
        for event in found.events:
            ranks = (str(rank) if rank else NONE for rank in (event.rank_a, event.rank_b))
            events.add_row(Text(event.user_id), event.time, Text(event.item), *ranks, signed(event.difference))
        console.print(events)


def _print_slices(found: Comparison, console: Console) -> None:
    differing = [one for one in found.slices if one.difference.sign]
    some = differing or found.slices[:FEWEST_SLICES]
    what = "slices where they differ" if differing else "in no slice do they differ significantly; the least alike"
    table = _table(
        f"{what} (p: Holm over {num_tested(one.difference for one in found.slices)})",
        ["slice", "", "events", "A", "B", "A - B", "95 % interval", "p"],
    )
    for one in some:
        gap = one.difference
        table.add_row(one.slice, Text(one.value), count(gap.num_events), plain(one.a.mean), plain(one.b.mean),
                      signed(gap.mean), span(gap.low, gap.high, sign=True), p_value(gap.p_holm))  # fmt: skip
    console.print(table)


def _verdict(found: Comparison) -> str:
    whole = found.difference
    if math.isnan(whole.p):
        return "The difference cannot be tested: there are fewer than two users, or infinite values."
    if whole.p >= ALPHA:
        return "The difference may be chance."
    is_better = (whole.mean < 0) == Metric.parse(found.metric).lower_is_better
    return f"A is significantly {'better' if is_better else 'worse'} than B."


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        is_text = column in ("", "slice", "user", "local time", "item")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=not is_text)
    return table


def as_dict(found: Comparison) -> dict[str, Any]:
    """JSON knows neither NaN nor infinity: such values are null."""
    told: dict[str, Any] = _finite(asdict(found))
    sides = {side: {"name": told.pop(f"name_{side}"), **told[side]} for side in ("a", "b")}
    told["num_thin_slices"] = told.pop("num_thin")
    return told | sides


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
