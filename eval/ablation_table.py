"""What ablations cost: differences from the whole model with intervals and tests, and their tables.

Shapes: E = evaluated events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from ..arrays import Float64
from .facts import finite
from .metrics import per_event
from .rankings import Rankings
from .significance import compare, holm
from .wording import NONE, p_value, plain, signed, span

How = Literal["removed", "shuffled", "retrained"]

TESTED: Final = ("recall@1", "nDCG@10", "log-loss")  # and so corrected for: the more, the harder each is to show
HEADINGS: Final = ("ranker", "lines changed", "mean", "difference", "95 % interval", "p")
MEANINGS: Final[Mapping[How, str]] = {
    "removed": "left out of every prompt, asked of the model as it is",
    "shuffled": "each event has that of a random other one, asked of the model as it is",
    "retrained": "left out of training and of every prompt; one training, whose own luck no interval knows",
}


@dataclass(frozen=True)
class Ablation:
    """A ranker's value of each metric for each event, float64 [E]; `what` was taken from it and `how` ("": nothing).

    `changed_share` is the share of the evaluated events whose own line became another, where that was counted.
    """

    name: str
    what: str
    how: str
    changed_share: float | None
    value_E: Mapping[str, Float64]

    @classmethod
    def of(cls, rankings: Rankings, facts: Mapping[str, Any]) -> Ablation:
        """From a ranking and its facts, see `rankings`."""
        values = per_event(rankings.rank_E, rankings.log_prob_E, TESTED)
        return cls(facts["name"], facts.get("ablated", ""), facts.get("how", ""), facts.get("changed_share"), values)


@dataclass(frozen=True)
class Comparison:
    """Rankers with their ablations, and a row of `frame` for each test, see `compare_ablations`."""

    groups: Sequence[tuple[Ablation, Sequence[Ablation]]]
    frame: pl.DataFrame

    def as_json(self) -> dict[str, Any]:
        """One entry a test, in full precision; None where there is no figure."""
        of = {one.name: one for _, ablations in self.groups for one in ablations}
        entries = []
        for row in self.frame.iter_rows(named=True):
            one = of[row["ranker"]]
            numbers = finite({name: value for name, value in row.items() if isinstance(value, float)})
            entries.append({**row, **numbers, "ablated": one.what, "how": one.how, "changed_share": one.changed_share})
        return {"num_tests": self.num_tests, "tests": entries}

    @property
    def num_tests(self) -> int:
        """How many p-values were corrected together."""
        return int(self.frame["p"].is_not_nan().sum())


def compare_ablations(
    groups: Sequence[tuple[Ablation, Sequence[Ablation]]], user_E: NDArray[np.integer], seed: int
) -> Comparison:  # fmt: skip
    """Each ablation against its whole, on each metric of TESTED that both have: rows of `significance.compare`.

    `difference` is that of the ablation from the whole; `p_holm` is corrected over all tests of all groups. `groups`
    are a ranker and its ablations each, of the same E events by users `user_E` (integers), with unique names.
    """
    frame = pl.concat(
        compare({one.name: one.value_E for one in (whole, *ablations)}, user_E, baselines=[whole.name], seed=seed)
        for whole, ablations in groups
    )
    return Comparison(groups, frame.with_columns(pl.Series("p_holm", holm(frame["p"].to_numpy()))))


def as_tables(compared: Comparison, title: str) -> Iterator[Table]:
    """A table for the terminal for each metric."""
    for metric, rows in _tables(compared):
        table = Table(title=f"{metric}, {title}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(HEADINGS[0])
        for heading in HEADINGS[1:]:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))
        yield table


def as_markdown(compared: Comparison, title: str, notes: Sequence[str] = ()) -> str:
    """The same as Markdown, with what the words mean."""
    said = dict.fromkeys(one.how for _, ablations in compared.groups for one in ablations)
    lines = ["# What time, place and weather are worth", "", f"{title[:1].upper()}{title[1:]}.", ""]
    lines += [f"- {how}: {MEANINGS[how]}" for how in MEANINGS if how in said]
    lines += [
        "- difference: from the whole; what was worth something lowers recall and nDCG, and raises log-loss",
        f"- interval: bootstrap over users; p: sign flips by users, Holm over all {compared.num_tests} tests shown",
        *(f"- {note}" for note in notes),
    ]
    for metric, rows in _tables(compared):
        lines += ["", f"## {metric}", "", _line(HEADINGS), _line(["---", *["---:"] * (len(HEADINGS) - 1)])]
        lines += [_line([cell.replace("|", "\\|") for cell in row]) for row in rows]
    return "\n".join(lines) + "\n"


def _tables(compared: Comparison) -> Iterator[tuple[str, list[list[str]]]]:
    """The cells of each metric's table; a metric that nothing was tested on is left out."""
    of = {(row["ranker"], row["metric"]): row for row in compared.frame.iter_rows(named=True)}
    for metric in TESTED:
        rows = []
        for whole, ablations in compared.groups:
            tested = [(one, of[one.name, metric]) for one in ablations if (one.name, metric) in of]
            if tested:
                rows.append([whole.name, "", plain(tested[0][1]["baseline_mean"]), "", "", ""])
            rows += [_cells(one, row) for one, row in tested]
        if rows:
            yield metric, rows


def _cells(one: Ablation, row: Mapping[str, Any]) -> list[str]:
    changed = NONE if one.changed_share is None else f"{one.changed_share:.0%}"
    interval = span(row["low"], row["high"], sign=True)
    return [one.name, changed, plain(row["mean"]), signed(row["difference"]), interval, p_value(row["p_holm"])]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
