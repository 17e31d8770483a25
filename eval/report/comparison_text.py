"""A comparison as tables for the terminal, and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..metrics import Metric
from ..wording import NONE, count, p_value, plain, signed, span
from .statistics import ALPHA, FEWEST_EVENTS, Estimate, num_tested

if TYPE_CHECKING:
    from .comparison import Comparison

__all__ = ["as_dict", "print_comparison"]

FEWEST_SLICES = 5  # shown even if none differs significantly, least likely to be chance first


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
    console.print(_verdict(found), markup=False, soft_wrap=True)
    for caveat in found.caveats:
        console.print(caveat, markup=False, soft_wrap=True)
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
    slices = [
        {"slice": one.slice, "value": one.value}
        | {"a": _numbers(one.a), "b": _numbers(one.b), "difference": _numbers(one.difference)}
        for one in found.slices
    ]
    return {
        "metric": found.metric, "a": {"name": found.name_a, **_numbers(found.a)},
        "b": {"name": found.name_b, **_numbers(found.b)}, "difference": _numbers(found.difference),
        "num_left_out": found.num_left_out, "num_thin_slices": found.num_thin, "slices": slices,
        "caveats": list(found.caveats),
        "events": [{**vars(event), "difference": _finite(event.difference)} for event in found.events],
    }  # fmt: skip


def _numbers(one: Estimate) -> dict[str, float | int | None]:
    return {name: _finite(value) for name, value in vars(one).items()}


def _finite(value: float) -> float | int | None:
    return value if math.isfinite(value) else None
