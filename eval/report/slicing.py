"""Where the contender is good and where it is not: small multiples, a panel a property, its opponent beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..slices import slices_of
from ..wording import count, plain, signed, span
from .runs import Dataset
from .statistics import FEW_DRAWS, Difference, Estimate, cells_of, compared, num_tested
from .style import CONTENDER, OPPONENT
from .svg import Scale, join, labels, picture, text, ticks, x_axis

__all__ = ["MARKS", "Panel", "Slice", "Slices", "slicing"]

TITLES = {
    "daypart": "Time of day", "week": "Kind of day", "season": "Season", "weather": "Weather",
    "temperature": "Temperature", "wind": "Wind", "condition": "Conditions", "distance": "Distance from the last event",
    "activity": "Earlier events of the user", "user": "User", "item": "Item", "popularity": "Popularity of the item",
    "visit": "Visit",
}  # fmt: skip
MARKS = {1: "▲", -1: "▼", 0: ""}  # significantly better, worse, neither; a sign beside words, never alone
WIDTH, ROW, LEFT = 372.0, 30.0, 140.0  # the same in all panels, so that they can be compared


@dataclass(frozen=True)
class Slice:
    """The events of one value of a property; `against` None where there is no opponent."""

    label: str
    contender: Estimate
    opponent: Estimate | None
    against: Difference | None


@dataclass(frozen=True)
class Panel:
    title: str
    slices: Sequence[Slice]
    picture: Markup


@dataclass(frozen=True)
class Slices:
    """`num_tests` were corrected together; `num_thin` slices have too few events and are left out."""

    panels: Sequence[Panel]
    num_tests: int
    num_thin: int


def slicing(dataset: Dataset, seed: int) -> Slices:
    """A panel for each property that divides the events; values of few events are left out."""
    frame = slices_of(dataset.histories, dataset.part, dataset.row_E)
    cells, num_thin = cells_of(frame)
    ours_E = dataset.contender.value_E[dataset.metric]
    theirs_E = dataset.opponent.value_E[dataset.metric] if dataset.opponent else None
    found = compared(ours_E, theirs_E, frame, cells, dataset.user_E, seed, FEW_DRAWS)
    rows = [(name, Slice(value, *one)) for (name, value), one in zip(cells, found, strict=True)]
    drawn = [one for _, row in rows for one in (row.contender, row.opponent) if one]
    highest = max([0.01, *(one.top for one in drawn)])
    panels = []
    for name in dict.fromkeys(name for name, _ in cells):
        title, own = TITLES.get(name, name), [row for other, row in rows if other == name]
        panels.append(Panel(title, own, _draw(title, dataset.metric, own, highest)))
    return Slices(panels, num_tested(row.against for _, row in rows if row.against), num_thin)


def _draw(title: str, metric: str, rows: Sequence[Slice], highest: float) -> Markup:
    top, bottom = 8.0, 8.0 + ROW * len(rows)
    x = Scale(0, highest, LEFT, WIDTH - 56)
    at = ticks(0, highest, 4)
    drawn = [_row(x, top + ROW * (place + 0.5), row) for place, row in enumerate(rows)]
    label = f"{metric} by {title.lower()}: {'; '.join(map(_told, rows))}"
    return picture(WIDTH, bottom + 24, [x_axis(x, at, labels(at), top, bottom), *drawn], label)


def _row(x: Scale, y: float, row: Slice) -> Markup:
    """Name, both rankers with their intervals, the mark of a significant difference, the count."""
    parts = [text(LEFT - 12, y + 4, row.label, "end")]
    for one, look, dy in ((row.contender, CONTENDER, -5.0), (row.opponent, OPPONENT, 5.0)):
        if one:
            tip = f"{row.label}: {plain(one.mean)} ({span(one.low, one.high)})"
            parts.append(look.estimate(one, x, y + dy, tip, 3.6))
    sign = MARKS[row.against.sign] if row.against else ""
    parts.append(text(WIDTH - 42, y + 4, sign, "middle"))
    return join([*parts, text(WIDTH - 2, y + 4, count(row.contender.num_events), "end", "quiet")])


def _told(row: Slice) -> str:
    against = f", {signed(row.against.mean)} against the opponent" if row.against else ""
    return f"{row.label} {plain(row.contender.mean)}{against}, {row.contender.num_events:,} events"
