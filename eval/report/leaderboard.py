"""The leaderboard: every ranker with the intervals of its metrics, and its difference from the best baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..metrics import METRICS, macro
from ..wording import plain, span
from .curves import look_of
from .runs import Dataset, Ranked
from .statistics import Difference, Estimate, differences, estimates, num_tested, paired
from .style import Look
from .svg import Scale, bar, labels, picture, rule, text, ticks, whisker

__all__ = ["Leaderboard", "Row", "leaderboard"]

BAR_WIDTH, ROW_HEIGHT = 160.0, 26.0


@dataclass(frozen=True)
class Row:
    """One ranker: its place from 1, and the estimate of each metric shown (None where it does not have it).

    Of the report's metric: `per_user` counts each user the same, `against` is the difference from the dataset's
    reference (None for that itself), `picture` a bar with its interval.
    """

    place: int
    ranker: Ranked
    look: Look
    metrics: Mapping[str, Estimate | None]
    per_user: float
    against: Difference | None
    picture: Markup


@dataclass(frozen=True)
class Leaderboard:
    """`columns` are the metrics beside the report's own; `axis` is that of the bars; `num_tests` were corrected for."""

    rows: Sequence[Row]
    columns: Sequence[str]
    axis: Markup
    num_tests: int

    def of(self, ranker: Ranked) -> Row:
        """The row of one ranker."""
        return next(row for row in self.rows if row.ranker is ranker)


def leaderboard(dataset: Dataset, seed: int) -> Leaderboard:
    """Rows in the order of the dataset's rankers."""
    names = list(dict.fromkeys([dataset.metric, *METRICS]))
    having = ((ranker, name) for ranker in dataset.rankers for name in names if name in ranker.value_E)
    found = estimates((((ranker, name), ranker.value_E[name]) for ranker, name in having), dataset.user_E, seed)
    own_E = {ranker: ranker.value_E[dataset.metric] for ranker in dataset.rankers}
    reference_E = own_E[dataset.reference]
    others = (ranker for ranker in dataset.rankers if ranker is not dataset.reference)
    tests = differences(((one, paired(own_E[one], reference_E)) for one in others), dataset.user_E, seed)
    own = [found[ranker, dataset.metric] for ranker in dataset.rankers]
    scale = Scale(0.0, 1.02 * max(1e-9, *(one.top for one in own)), 1, BAR_WIDTH - 1)
    rows = [
        Row(
            place, ranker, look_of(dataset, ranker),
            {name: found.get((ranker, name)) for name in names},
            macro(own_E[ranker], dataset.user_E), tests.get(ranker),
            _bar(scale, estimate, look_of(dataset, ranker)),
        )
        for place, (ranker, estimate) in enumerate(zip(dataset.rankers, own, strict=True), start=1)
    ]  # fmt: skip
    shown = [name for name in names if any(row.metrics[name] for row in rows)]
    return Leaderboard(rows, shown[1:], _axis(scale), num_tested(tests.values()))


def _bar(scale: Scale, estimate: Estimate, look: Look) -> Markup:
    """A bar from 0 with its whisker; the numbers stand beside it in the table. Nothing for what is infinite."""
    if not estimate.is_finite:
        return Markup("")
    middle, end = ROW_HEIGHT / 2, scale(estimate.mean)
    parts = [bar(scale.start, middle - 6, end - scale.start, 12, f"bar {look.name}")]
    parts.append(rule(end, middle - 6, end, middle + 6, f"end {look.name}"))
    if estimate.has_interval:
        parts.append(whisker((scale(estimate.low), middle), (scale(estimate.high), middle), "whisker"))
    label = f"{plain(estimate.mean)}, {span(estimate.low, estimate.high)}"
    return picture(BAR_WIDTH, ROW_HEIGHT, parts, label, "rowbar")


def _axis(scale: Scale) -> Markup:
    at = ticks(scale.low, scale.high, 4)
    parts = []
    for x, name in zip(map(scale, at), labels(at), strict=True):
        parts += [text(x, 10, name, "middle"), rule(x, 14, x, 18, "tick")]
    return picture(BAR_WIDTH, 18, [*parts, rule(scale.start, 18, scale.end, 18, "tick")], None, "rowbar")
