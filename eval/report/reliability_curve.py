"""Calibration: is a ranker right as often as it says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..rankings import Rankings
from ..reliability import Calibrated, ReliabilityCurve, bin_of, calibration, predictions
from ..wording import count, plain
from .curves import look_of
from .runs import Dataset, Ranked
from .statistics import FEW_DRAWS, Estimate, among, estimates
from .style import Look
from .svg import Scale, bar, labels, picture, polyline, rule, text, whisker, x_axis, y_axis

__all__ = ["Reliability", "reliability"]

NUM_PICTURES = 3


@dataclass(frozen=True)
class Reliability:
    """One ranker's calibration: of its first items, and of all items of its lists.

    `bins` are those of the picture: mean probability of the first items, and the share of them that were right.
    """

    ranker: Ranked
    first: Calibrated
    all: Calibrated
    bins: Sequence[tuple[float, Estimate]]
    picture: Markup


def reliability(dataset: Dataset, seed: int) -> list[Reliability]:
    """The rankers that give probabilities, the contender first; the first few have a picture."""
    having = [one for one in dataset.rankers if one.rankings.log_prob_E is not None]
    having.sort(key=lambda ranker: ranker is not dataset.contender)
    return [_of(dataset, one, place < NUM_PICTURES, seed) for place, one in enumerate(having)]


def _of(dataset: Dataset, ranker: Ranked, is_drawn: bool, seed: int) -> Reliability:
    found = calibration(ranker.rankings)
    first, deepest = found["top-1"], found[f"top-{ranker.rankings.k}"]
    bins = _bins(ranker.rankings, first.equal_mass, dataset.user_E, seed)
    is_drawn = is_drawn and first.num_predictions > 0
    drawn = _draw(ranker.name, first, bins, look_of(dataset, ranker)) if is_drawn else Markup("")
    return Reliability(ranker, first, deepest, bins, drawn)


def _bins(
    rankings: Rankings, curve: ReliabilityCurve, user_E: NDArray[np.int32], seed: int
) -> list[tuple[float, Estimate]]:
    """The bins of the first items' curve, with intervals over users as all others."""
    probability_P, right_P = predictions(rankings, 1)
    bin_P, user_P = bin_of(probability_P, curve.binning), user_E[rankings.item_EK[:, 0] >= 0]
    columns = ((one, among(right_P.astype(np.float64), bin_P == one)) for one in np.unique(bin_P).tolist())
    found = estimates(columns, user_P, seed, FEW_DRAWS)
    return list(zip(curve.confidence_B.tolist(), found.values(), strict=True))


def _draw(name: str, first: Calibrated, bins: Sequence[tuple[float, Estimate]], look: Look) -> Markup:
    """A square with the diagonal of perfect calibration, and below it how many predictions were about so sure."""
    left, right, top, bottom = 46.0, 326.0, 24.0, 304.0
    x, y = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    at: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    names = labels(at, "%")
    parts = [y_axis(y, at, names, left, right, "first items that were right"), rule(x(0), y(0), x(1), y(1), "diagonal"),
             x_axis(x, at, [""] * len(at), top, bottom)]  # fmt: skip
    known = [(x(p), hits) for p, hits in bins if hits.has_interval]
    parts += [whisker((px, y(hits.low)), (px, y(hits.high)), f"whisker {look.name}") for px, hits in known]
    parts.append(polyline([(x(p), y(hits.mean)) for p, hits in bins], f"series {look.name}"))
    for p, hits in bins:
        tip = f"said {p:.1%}, was right in {hits.mean:.1%} of {hits.num_events:,}"
        parts.append(look.mark(x(p), y(hits.mean), tip, 3.6))
    wide, base = first.equal_width, bottom + 52
    most = int(wide.count_B.max())
    height = Scale(0, most, base, base - 36)
    for confidence, n in zip(wide.confidence_B.tolist(), wide.count_B.tolist(), strict=True):
        begin = min(int(confidence * 15), 14) / 15
        parts.append(bar(x(begin) + 1, height(n), x(1 / 15) - x(0) - 2, base - height(n), "bar count", f"{n:,} events"))
    parts += [text(left - 8, base - 28, count(most), "end"), text(left - 8, base, "0", "end")]
    parts += [text(x(value), base + 16, label, "middle") for value, label in zip(at, names, strict=True)]
    said = "probability of the first item; below: how many events"
    parts.append(text((left + right) / 2, base + 34, said, "middle", "axis-title"))
    gap = first.confidence - first.accuracy
    side = "too sure" if gap > 0 else "not sure enough"
    label = (f"Reliability curve of {name}: calibration error {plain(first.equal_mass.error)}; on average it says "
             f"{first.confidence:.1%} and is right in {first.accuracy:.1%}, {side} by {abs(gap):.1%}")  # fmt: skip
    return picture(340, base + 44, parts, label)
