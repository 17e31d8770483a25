"""What ablations cost: differences from the whole model with intervals and tests, and their tables."""

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
from .metrics import per_event
from .rankings import Rankings, finite
from .significance import compare, holm
from .wording import NONE, p_value, plain, signed, span

How = Literal["removed", "shuffled", "retrained"]

TESTED: Final = ("recall@1", "nDCG@10", "log-loss")  # and so corrected for: the more, the harder each is to show
HEADINGS: Final = ("ranker", "lines changed", "mean", "difference", "95 % interval", "p")
MEANINGS: Final[Mapping[How, str]] = {
    "removed": "left out of every prompt, evaluated with the model as it is",
    "shuffled": "each event has that of a random other one, evaluated with the model as it is",
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


def compare_ablations(
    groups: Sequence[tuple[Ablation, Sequence[Ablation]]], user_E: NDArray[np.integer], seed: int
) -> pl.DataFrame:  # fmt: skip
    """Each ablation against its whole, on each metric of TESTED that both have: a row a test.

    `groups` are a ranker and its ablations each, of the same E events by users `user_E` (integers), with unique names.

    Returns:
        The columns of `significance.compare`, with `p_holm` corrected over all tests of all groups, and `ablated`,
        `how` and `changed_share`.
    """
    frame = pl.concat(
        compare({one.name: one.value_E for one in (whole, *ablations)}, user_E, baseline=whole.name, seed=seed)
        for whole, ablations in groups
    )
    of = {one.name: one for _, ablations in groups for one in ablations}
    rows = [of[name] for name in frame["ranker"]]
    return frame.with_columns(
        pl.Series("p_holm", holm(frame["p"].to_numpy())),
        pl.Series("ablated", [one.what for one in rows], pl.String),
        pl.Series("how", [one.how for one in rows], pl.String),
        pl.Series("changed_share", [one.changed_share for one in rows], pl.Float64),
    )


def as_json(compared: pl.DataFrame) -> dict[str, Any]:
    """One entry a test, in full precision; None where there is no figure."""
    tests = [
        row | finite({name: value for name, value in row.items() if isinstance(value, float)})
        for row in compared.iter_rows(named=True)
    ]
    return {"num_tests": _num_tests(compared), "tests": tests}


def as_tables(compared: pl.DataFrame, title: str) -> Iterator[Table]:
    """A table for the terminal for each metric."""
    for metric, rows in _tables(compared):
        table = Table(title=f"{metric}, {title}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(HEADINGS[0])
        for heading in HEADINGS[1:]:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))
        yield table


def as_markdown(compared: pl.DataFrame, title: str, notes: Sequence[str] = ()) -> str:
    """The same as Markdown, with what the words mean."""
    lines = ["# What time, place and weather are worth", "", f"{title[:1].upper()}{title[1:]}.", ""]
    lines += [f"- {how}: {meaning}" for how, meaning in MEANINGS.items() if how in compared["how"]]
    lines += [
        "- difference: from the whole; what was worth something lowers recall and nDCG, and raises log-loss",
        f"- interval: bootstrap over users; p: sign flips by users, Holm over all {_num_tests(compared)} tests shown",
        *(f"- {note}" for note in notes),
    ]
    for metric, rows in _tables(compared):
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        table = [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *escaped]
        lines += ["", f"## {metric}", "", *(f"| {' | '.join(cells)} |" for cells in table)]
    return "\n".join(lines) + "\n"


def _num_tests(compared: pl.DataFrame) -> int:
    """How many p-values were corrected together."""
    return int(compared["p"].is_not_nan().sum())


def _tables(compared: pl.DataFrame) -> Iterator[tuple[str, list[list[str]]]]:
    """The cells of each metric's table; a metric that nothing was tested on is left out."""
    for (metric,), tests in compared.group_by("metric", maintain_order=True):
        rows, whole = [], ""
        for row in tests.iter_rows(named=True):
            if row["baseline"] != whole:
                whole = row["baseline"]
                rows.append([whole, "", plain(row["baseline_mean"]), "", "", ""])
            changed = NONE if row["changed_share"] is None else f"{row['changed_share']:.0%}"
            interval = span(row["low"], row["high"], sign=True)
            figures = plain(row["mean"]), signed(row["difference"]), interval, p_value(row["p_holm"])
            rows.append([row["ranker"], changed, *figures])
        yield str(metric), rows
