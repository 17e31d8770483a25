"""Rankers side by side: for the terminal and for programs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from .metrics import LOWER_IS_BETTER, METRICS
from .rankings import finite
from .wording import NONE, duration


@dataclass(frozen=True)
class RankerResult:
    """How one ranker did: metrics by canonical name, and how long the ranking took (None: it was not timed)."""

    name: str
    metrics: Mapping[str, float]
    num_events: int
    wall_s: float | None = None


def as_table(results: Sequence[RankerResult], title: str | None = None) -> Table:
    """A table for a terminal of 80 columns: one row a ranker, the best of each metric in bold (all that show it)."""
    columns, best = _columns(results), _best(results)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("ranker", vertical="bottom")
    for column in [*columns, "events", "time"]:
        # Several short lines, or eight metrics need 140 columns.
        header = column.replace("@", "\n@").replace("-", "-\n").replace(" ", "\n")
        table.add_column(header, justify="right", no_wrap=True)
    for result in results:
        cells = [_cell(result, metric) for metric in columns]
        texts = [Text(c, style="bold" if c == best[m] else "") for m, c in zip(columns, cells, strict=True)]
        # Text, not str: a name in brackets is a name and no markup.
        table.add_row(Text(result.name), *texts, f"{result.num_events:,}", duration(result.wall_s))
    return table


def as_json(results: Sequence[RankerResult]) -> list[dict[str, object]]:
    """The same in full precision, for JSON, which has neither NaN nor infinity: these become None."""
    return [{**vars(result), "metrics": finite(result.metrics)} for result in results]


def _columns(results: Sequence[RankerResult]) -> list[str]:
    """Metrics that at least one ranker has: canonical ones in canonical order, then others as they come."""
    found = list(dict.fromkeys(name for result in results for name in result.metrics))
    return [name for name in METRICS if name in found] + [name for name in found if name not in METRICS]


def _best(results: Sequence[RankerResult]) -> dict[str, str | None]:
    """The best value of each metric as it is shown, so that equal cells never differ in weight.

    None where nothing was compared: a metric that only one of several rankers has marks no winner.
    """
    best: dict[str, str | None] = {}
    for metric in _columns(results):
        having = [r for r in results if metric in r.metrics and not math.isnan(r.metrics[metric])]
        sign = 1 if metric in LOWER_IS_BETTER else -1
        winner = min(having, key=lambda r: sign * r.metrics[metric], default=None)
        best[metric] = _cell(winner, metric) if winner and len(having) > 1 else None
    return best


def _cell(result: RankerResult, metric: str) -> str:
    return f"{result.metrics[metric]:.3f}" if metric in result.metrics else NONE
