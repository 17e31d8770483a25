"""Charts as inline SVG: scales, ticks, axes and marks, as pure functions.

Colours, strokes and fonts come from the page's style sheet by class, so that one picture serves light, dark and print.
Units are CSS pixels, y grows downwards. Text is escaped. A mark's `tip` shows when a pointer rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from ..wording import MINUS

__all__ = [
    "Scale", "Shape", "area", "bar", "dot", "join", "labels", "picture", "polyline", "rule", "spread", "tag", "text",
    "text_width", "ticks", "whisker", "x_axis", "y_axis",
]  # fmt: skip

Point = tuple[float, float]
Shape = Literal["circle", "square", "diamond"]


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. `class_` is written as class, `stroke_width` as stroke-width; None is left out; all is escaped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{number(value) if isinstance(value, float) else escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = join(children)
    return Markup(f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>")


def join(parts: Iterable[str]) -> Markup:
    """Pieces end to end, escaped unless they are markup."""
    return Markup("").join(parts)


def number(value: float) -> str:
    """A coordinate to a tenth of a pixel, as short as can be.

    Raises:
        ValueError: the coordinate is NaN or infinite; a browser would leave out the whole picture in silence.
    """
    if not math.isfinite(value):
        raise ValueError(f"a coordinate must be a finite number, not {value}")
    shown = f"{value:.1f}".removesuffix(".0")
    return "0" if shown == "-0" else shown


@dataclass(frozen=True)
class Scale:
    """The linear map of data from `low` to `high` (different and finite) onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.low == self.high:
            raise ValueError(f"a scale needs two different finite ends, not {self.low} and {self.high}")

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About so many multiples of 1, 2 or 5 times a power of ten within `low` to `high`; without extent that one number.

    Source: Heckbert, "Nice numbers for graph labels", Graphics Gems, 1990.
    """
    if not high > low:
        return [low]
    exponent = math.floor(math.log10((high - low) / max(about, 1)))
    steps = [mantissa * 10.0**e for e in (exponent, exponent + 1) for mantissa in (1, 2, 5)]

    def span(step: float) -> tuple[int, int]:
        slack = 1e-9 * (high - low) / step
        return math.ceil(low / step - slack), math.floor(high / step + slack)

    step = min(steps, key=lambda step: abs(span(step)[1] - span(step)[0] + 1 - about))
    first, last = span(step)
    # 0.3 is written as 3 / 10 and not as 3 * 0.1, which is another number.
    return [n * step if step >= 1 else n / round(1 / step) for n in range(first, last + 1)]


def labels(values: Sequence[float], unit: str = "") -> list[str]:
    """Ticks as text with as many decimals as the finest needs; "%" as unit shows shares as percentages."""
    shown = [100 * value for value in values] if unit == "%" else list(values)
    decimals = next((d for d in range(8) if all(abs(v - round(v, d)) < 1e-9 * max(1, abs(v)) for v in shown)), 8)
    ending = "\N{NARROW NO-BREAK SPACE}%" if unit == "%" else unit
    return [f"{value:,.{decimals}f}".replace("-", MINUS) + ending for value in shown]


def text_width(content: str, size: float = 12) -> float:
    """About how wide a text gets in a proportional sans-serif face, generously: no font is at hand to measure."""
    return sum(0.3 if c in " .,:;|!'il-()[]" else 0.72 if c.isupper() or c in "mw@%" else 0.56 for c in content) * size


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places nearest (least squares) to the wanted ones with `gap` between neighbours, within `low` to `high` if there
    is room: isotonic regression by pooling adjacent violators (Ayer et al., Ann. Math. Statist. 26(4), 1955).
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[tuple[float, int]] = []  # mean and size
    for place, index in enumerate(order):
        mean, size = wanted[index] - place * gap, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, size = (before * many + mean * size) / (many + size), many + size
        pools.append((mean, size))
    flat = [mean for mean, size in pools for _ in range(size)]
    ceiling = max(low, high - (len(wanted) - 1) * gap)
    placed = [0.0] * len(wanted)
    for place, index in enumerate(order):
        placed[index] = min(max(flat[place], low), ceiling) + place * gap
    return placed


def picture(width: float, height: float, body: Iterable[str], label: str | None, class_: str | None = None) -> Markup:
    """The whole picture; `label` describes it to those who cannot see it, None hides an ornament from them."""
    box = f"0 0 {number(width)} {number(height)}"
    role, hidden = ("img", None) if label else (None, "true")
    return tag("svg", *body, viewBox=box, width=float(width), height=float(height), role=role, aria_label=label,
               aria_hidden=hidden, class_=class_)  # fmt: skip


def text(x: float, y: float, content: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """A line of text whose base line is at y; `anchor` is start, middle or end."""
    anchored = None if anchor == "start" else anchor
    return tag("text", content, x=float(x), y=float(y), text_anchor=anchored, class_=class_)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def polyline(points: Sequence[Point], class_: str) -> Markup:
    """A line through points; nothing where there are fewer than two."""
    return tag("polyline", points=_path(points), class_=class_) if len(points) > 1 else Markup("")


def area(points_low: Sequence[Point], points_high: Sequence[Point], class_: str) -> Markup:
    """The area between two lines."""
    return tag("polygon", points=_path([*points_low, *reversed(points_high)]), class_=class_)


def bar(x: float, y: float, width: float, height: float, class_: str, tip: str = "") -> Markup:
    """A rectangle from its upper left corner."""
    return tag("rect", *_tip(tip), x=float(x), y=float(y), width=float(max(width, 0)), height=float(max(height, 0)),
               class_=class_)  # fmt: skip


def whisker(start: Point, end: Point, class_: str) -> Markup:
    """An interval from `start` to `end`, horizontal or vertical, with caps of three pixels to either side."""
    dx, dy = (0, 3) if start[1] == end[1] else (3, 0)
    lines = (start, end), *(((x - dx, y - dy), (x + dx, y + dy)) for x, y in (start, end))
    path = "".join(f"M{number(a)} {number(b)}L{number(c)} {number(d)}" for (a, b), (c, d) in lines)
    return tag("path", d=path, class_=class_)


def dot(x: float, y: float, radius: float, class_: str, shape: Shape = "circle", tip: str = "") -> Markup:
    """A circle, a square or a diamond of about equal area: series differ in shape, not in colour alone."""
    if shape == "circle":
        return tag("circle", *_tip(tip), cx=float(x), cy=float(y), r=float(radius), class_=class_)
    half = radius * (0.89 if shape == "square" else 1.25)
    if shape == "square":
        return bar(x - half, y - half, 2 * half, 2 * half, class_, tip)
    corners = [(x, y - half), (x + half, y), (x, y + half), (x - half, y)]
    return tag("polygon", *_tip(tip), points=_path(corners), class_=class_)


def x_axis(
    scale: Scale, at: Sequence[float], names: Sequence[str], top: float, bottom: float, title: str = ""
) -> Markup:  # fmt: skip
    """Faint lines from `top` to `bottom` at each tick, names below, and the axis' title below those."""
    parts = []
    for x, name in zip(map(scale, at), names, strict=True):
        parts += [rule(x, top, x, bottom, "grid"), text(x, bottom + 16, name, "middle")]
    if title:
        parts.append(text((scale.start + scale.end) / 2, bottom + 34, title, "middle", "axis-title"))
    return join(parts)


def y_axis(
    scale: Scale, at: Sequence[float], names: Sequence[str], left: float, right: float, title: str = ""
) -> Markup:
    """Faint lines from `left` to `right` at each tick, names to the left, and the axis' title above its upper end."""
    parts = []
    for y, name in zip(map(scale, at), names, strict=True):
        parts += [rule(left, y, right, y, "grid"), text(left - 8, y + 4, name, "end")]
    if title:
        parts.append(text(left - 8, min(scale.start, scale.end) - 14, title, "start", "axis-title"))
    return join(parts)


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def _tip(tip: str) -> tuple[Markup, ...]:
    return (tag("title", tip),) if tip else ()
