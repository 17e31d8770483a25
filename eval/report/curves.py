"""recall@1 to recall@K of every ranker, as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from .runs import Dataset, Ranked
from .style import CONTENDER, OPPONENT, OTHER, Look, twice
from .svg import Scale, join, labels, picture, polyline, spread, text, text_width, ticks, x_axis, y_axis

__all__ = ["Curve", "Curves", "recall_curves"]


@dataclass(frozen=True)
class Curve:
    """A ranker's recall@1 to recall@K, float64 [K]; `place` is that in the leaderboard."""

    place: int
    ranker: Ranked
    recall_K: NDArray[np.float64]
    look: Look


@dataclass(frozen=True)
class Curves:
    curves: Sequence[Curve]
    depth: int
    picture: Markup


def recall_curves(dataset: Dataset) -> Curves:
    """Curves down to the depth to which every ranking is known."""
    depth = dataset.depth
    curves = [
        Curve(place, ranker, recall(ranker.rankings.rank_E, depth), look_of(dataset, ranker))
        for place, ranker in enumerate(dataset.rankers, start=1)
    ]
    return Curves(curves, depth, twice(lambda width: _draw(curves, depth, width)))


def look_of(dataset: Dataset, ranker: Ranked) -> Look:
    """The contender and its opponent stand out, all others stand back."""
    return CONTENDER if ranker is dataset.contender else OPPONENT if ranker is dataset.opponent else OTHER


def recall(rank_E: NDArray[np.int64], depth: int) -> NDArray[np.float64]:
    """recall@1 to recall@depth: float64 [depth]; NaN over no events."""
    count_K = np.bincount(rank_E[(rank_E >= 1) & (rank_E <= depth)], minlength=depth + 1)[1:]
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.cumsum(count_K) / np.float64(len(rank_E))
    return found


def _draw(curves: Sequence[Curve], depth: int, width: float) -> Markup:
    is_wide = width > 500
    names = [f"{curve.place}  {curve.ranker.name}" if is_wide else str(curve.place) for curve in curves]
    room = min(max(map(text_width, names)) + 14, width * 0.4)
    height = max(300.0, 17.0 * len(curves) + 70)
    left, right, top, bottom = 46.0, width - room, 28.0, height - 44
    x = Scale(0.5, depth + 0.5, left, right) if depth == 1 else Scale(1, depth, left + 6, right - 6)
    highest = max([0.01, *(float(curve.recall_K[-1]) for curve in curves)])
    y_at = ticks(0, highest, 5)
    y = Scale(0, highest, bottom, top)
    x_at = sorted({1.0, *(t for t in ticks(1, depth, 5 if is_wide else 4) if t == int(t)), float(depth)})
    x_at = [t for t in x_at if t in (1.0, float(depth)) or depth - t > depth / 12]
    parts = [
        y_axis(y, y_at, labels(y_at, "%"), left, right, "events whose item is among the first k"),
        x_axis(x, x_at, labels(x_at), bottom, bottom + 4, "k"),
    ]
    ends = [y(float(curve.recall_K[-1])) for curve in curves]
    lines, texts = [], []
    for curve, name, end, at in zip(curves, names, ends, spread(ends, 15, top - 8, bottom), strict=True):
        points = [(x(k), y(float(value))) for k, value in enumerate(curve.recall_K, start=1)]
        marks = (curve.look.mark(px, py, f"{curve.ranker.name}: recall@{k} {curve.recall_K[k - 1]:.3f}",
                                 2 if curve.look is OTHER else 3.2)
                 for k, (px, py) in enumerate(points, start=1))  # fmt: skip
        lines.append(join([polyline(points, f"series {curve.look.name}"), *marks]))
        texts += [polyline([(right - 2, end), (right + 4, at), (right + 7, at)], "leader"),
                  text(right + 10, at + 4, _cut(name, room - 10), class_=f"label {curve.look.name}")]  # fmt: skip
    what = ", ".join(f"{c.ranker.name} {c.recall_K[-1]:.3f}" for c in curves)
    return picture(width, height, [*parts, *reversed(lines), *texts], f"recall at 1 to {depth}; at {depth}: {what}")


def _cut(name: str, room: float) -> str:
    """The name, cut off with an ellipsis where it would leave the picture."""
    fits = (name[:end] for end in range(len(name), 0, -1) if text_width(name[:end] + "…") <= room)
    return name if text_width(name) <= room else next(fits, "").rstrip() + "…"
