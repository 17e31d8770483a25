"""Calibration: is a ranker right as often as it says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..reliability import Calibrated, ReliabilityCurve, calibration
from ..svg import Scale, bar, labels, picture, polyline, rule, text, whisker, x_axis, y_axis
from ..wording import count, plain
from .curves import look_of
from .runs import Dataset, Ranked
from .statistics import wilson
from .style import Look

__all__ = ["Reliability", "reliability"]

NUM_PICTURES = 3


@dataclass(frozen=True)
class Reliability:
    """One ranker's calibration: of its first items, and of all items of its lists (`depth` of them)."""

    ranker: Ranked
    first: Calibrated
    all: Calibrated
    depth: int
    picture: Markup

    @property
    def bins(self) -> list[tuple[float, float, tuple[float, float], int]]:
        """Confidence, share that was right, its interval, and count of each bin of the picture."""
        return _bins(self.first.equal_mass)


def reliability(dataset: Dataset) -> list[Reliability]:
    """The rankers that give probabilities, the contender first; the first few have a picture."""
    having = [one for one in dataset.rankers if one.rankings.log_prob_E is not None]
    having.sort(key=lambda ranker: ranker is not dataset.contender)
    return [_of(one, look_of(dataset, one) if place < NUM_PICTURES else None) for place, one in enumerate(having)]


def _of(ranker: Ranked, look: Look | None) -> Reliability:
    """Without a look it has no picture."""
    found = calibration(ranker.rankings)
    first, deepest = found["top-1"], found[f"top-{ranker.rankings.k}"]
    drawn = _draw(ranker.name, first, look) if look and first.num_predictions else Markup("")
    return Reliability(ranker, first, deepest, ranker.rankings.k, drawn)


def _bins(curve: ReliabilityCurve) -> list[tuple[float, float, tuple[float, float], int]]:
    rows = zip(curve.confidence_B.tolist(), curve.accuracy_B.tolist(), curve.count_B.tolist(), strict=True)
    return [(confidence, right, wilson(right * n, n), n) for confidence, right, n in rows]


def _draw(name: str, first: Calibrated, look: Look) -> Markup:
    """A square with the diagonal of perfect calibration, and below it how many predictions were about so sure."""
    left, right, top, bottom = 46.0, 326.0, 24.0, 304.0
    x, y = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    at: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    names = labels(at, "%")
    parts = [y_axis(y, at, names, left, right, "first items that were right"), rule(x(0), y(0), x(1), y(1), "diagonal")]
    parts += [x_axis(x, at, [""] * len(at), top, bottom)]
    points = _bins(first.equal_mass)
    for confidence, _, (low, high), _ in points:
        parts.append(whisker((x(confidence), y(low)), (x(confidence), y(high)), f"whisker {look.name}"))
    parts.append(polyline([(x(p), y(r)) for p, r, _, _ in points], f"series {look.name}"))
    for p, r, _, n in points:
        parts.append(look.mark(x(p), y(r), f"said {p:.1%}, was right in {r:.1%} of {n:,}", 3.6))
    wide = first.equal_width
    most = int(wide.count_B.max())
    base = bottom + 52
    height = Scale(0, most, base, base - 36)
    for confidence, n in zip(wide.confidence_B.tolist(), wide.count_B.tolist(), strict=True):
        begin = min(int(confidence * 15), 14) / 15
        parts.append(bar(x(begin) + 1, height(n), x(1 / 15) - x(0) - 2, base - height(n), "bar count", f"{n:,} events"))
    parts += [text(left - 8, base - 28, count(most), "end"), text(left - 8, base, "0", "end")]
    parts += [text(x(value), base + 16, label, "middle") for value, label in zip(at, names, strict=True)]
    parts.append(
        text(
            (left + right) / 2,
            base + 34,
            "probability of the first item; below: how many events",
            "middle",
            "axis-title",
        )
    )
    gap = first.confidence - first.accuracy
    side = "too sure" if gap > 0 else "not sure enough"
    label = (f"Reliability curve of {name}: calibration error {plain(first.equal_mass.error)}; on average it says "
             f"{first.confidence:.1%} and is right in {first.accuracy:.1%}, {side} by {abs(gap):.1%}")  # fmt: skip
    return picture(340, base + 44, parts, label)
