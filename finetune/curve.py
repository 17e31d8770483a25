"""The learning curve of one adapter as a picture: training loss by step, and what validations found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from markupsafe import Markup

from ..eval.report.pictures import Look, Scale, labels, mark, picture, polyline, tag, text, ticks, x_axis, y_axis
from ..files import atomic_path
from .adapter import LOG, METRIC
from .progress import read_steps

CURVE: Final = "curve.svg"
_WIDTH, _HEIGHT, _LEFT, _GAP = 680.0, 220.0, 62.0, 56.0
_STYLE: Final = """svg { background: #fff; font: 12px system-ui, sans-serif; fill: #333 }
.grid { stroke: #ddd } .series { fill: none; stroke: #1a5fb4; stroke-width: 1.5 } .mark { fill: #1a5fb4; stroke: none }
.axis-title { font-weight: 600 }"""
_Points = Sequence[tuple[float, float]]


def draw_curve(folder: Path) -> None:
    """Write `curve.svg` into an adapter's folder, from its `steps.jsonl` and `log.jsonl`, if there is anything yet."""
    log = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    panels = {
        "training loss, nats per title": [(line["step"], line["loss"]) for line in read_steps(folder)],
        f"validation {METRIC}": [(one["step"], one[METRIC]) for one in log if METRIC in one],
        "validation log-loss": [(one["step"], one["log-loss"]) for one in log if "log-loss" in one],
    }
    shown = {name: points for name, points in panels.items() if points}
    if shown:
        with atomic_path(folder / CURVE) as path:
            path.write_text(str(learning_curve(shown)), encoding="utf-8")


def learning_curve(panels: Mapping[str, _Points]) -> Markup:
    """One panel below the other, by its title; each holds points of step and value, and all share the steps' scale."""
    last = max(step for points in panels.values() for step, _ in points)
    x = Scale(0, max(1.0, last), _LEFT, _WIDTH - 20)
    body = [tag("style", Markup(_STYLE))]
    for number, (name, points) in enumerate(panels.items()):
        body.append(_panel(name, points, x, number * (_HEIGHT + _GAP) + 40))
    height = len(panels) * (_HEIGHT + _GAP) + 40
    drawn = picture(_WIDTH, height, body, "learning curve: " + ", ".join(panels))
    return Markup(str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def _panel(name: str, points: _Points, x: Scale, top: float) -> Markup:
    low, high = (f(value for _, value in points) for f in (min, max))
    margin = 0.05 * (high - low) or max(0.05 * abs(high), 1e-3)
    y = Scale(low - margin, high + margin, top + _HEIGHT, top)
    at = [step for step in ticks(x.low, x.high) if step == round(step)]
    placed = [(x(step), y(value)) for step, value in points]
    look = Look("series", 2.4)
    return Markup("").join([
        x_axis(x, at, labels(at), top, top + _HEIGHT),
        text((x.start + x.end) / 2, top + _HEIGHT + 32, "step", "middle"),
        y_axis(y, x.start, x.end, name),
        polyline(placed, "series"), *(mark(look, *place) for place in placed if len(placed) <= 60),
    ])  # fmt: skip
