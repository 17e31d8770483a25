"""Charts as inline SVG: scales, axes, marks, and rows and lines of estimates, as pure functions.

Colours, strokes and fonts come from the page's style sheet by class, so that one picture serves light, dark and print.
Units are CSS pixels, y grows downwards. Text is escaped. Rankers differ in shape and label, not in colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from markupsafe import Markup, escape

from ..wording import MINUS, count
from .statistics import Estimate

Point = tuple[float, float]


class Look(NamedTuple):
    """`name` is the class of a ranker's lines, marks and whiskers; its mark is a circle or a diamond."""

    name: str
    radius: float
    is_diamond: bool = False


CONTENDER: Final = Look("contender", 3.6)
OPPONENT: Final = Look("opponent", 3.6, is_diamond=True)
OTHER: Final = Look("other", 2.0)


class Scale(NamedTuple):
    """The linear map of data from `low` to `high`, two different numbers, onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within `low` to `high`, at most about so many (5 or more)."""
    rough = max(high - low, 1e-9) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(mantissa * power for mantissa in (1, 2, 5, 10, 20) if mantissa * power >= rough)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def labels(values: Sequence[float], unit: str = "") -> list[str]:
    """Ticks as text with as many decimals as the finest needs; "%" as unit shows shares as percentages."""
    shown = [100 * value for value in values] if unit == "%" else list(values)
    decimals = next((d for d in range(8) if all(abs(v - round(v, d)) < 1e-9 * max(1, abs(v)) for v in shown)), 8)
    ending = "\N{NARROW NO-BREAK SPACE}%" if unit == "%" else unit
    return [f"{value:,.{decimals}f}".replace("-", MINUS) + ending for value in shown]


def spread(wanted: Sequence[float], gap: float, high: float) -> list[float]:
    """Places near the given ones, in their order, with `gap` between neighbours, none above `high`."""
    placed, order = list(wanted), sorted(range(len(wanted)), key=lambda i: wanted[i])
    for before, index in pairwise(order):
        placed[index] = max(placed[index], placed[before] + gap)
    for index in reversed(order):
        placed[index] = min(placed[index], high)
        high = placed[index] - gap
    return placed


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


def picture(width: float, height: float, body: Iterable[str], label: str | None, class_: str | None = None) -> Markup:
    """The whole picture; `label` describes it to those who cannot see it, None hides an ornament from them."""
    role, hidden = ("img", None) if label else (None, "true")
    return tag("svg", *body, viewBox=f"0 0 {number(width)} {number(height)}", width=float(width), height=float(height),
               role=role, aria_label=label, aria_hidden=hidden, class_=class_)  # fmt: skip


def twice(draw: Callable[[float], Markup]) -> Markup:
    """A picture drawn for a wide and for a narrow page, so that its text is of one size in both; the page shows one."""
    return join(tag("div", draw(width), class_=name) for name, width in (("wide", 680.0), ("narrow", 340.0)))


def text(x: float, y: float, content: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """A line of text whose base line is at y; `anchor` is start, middle or end."""
    return tag("text", content, x=float(x), y=float(y), text_anchor=anchor, class_=class_) if content else Markup("")


def rule(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def polyline(points: Sequence[Point], class_: str) -> Markup:
    """A line through points; nothing where there are fewer than two."""
    return tag("polyline", points=_path(points), class_=class_) if len(points) > 1 else Markup("")


def bar(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    """A rectangle from its upper left corner."""
    return tag("rect", x=float(x), y=float(y), width=float(width), height=float(height), class_=class_)


def whisker(start: Point, end: Point, look: Look) -> Markup:
    """An interval from `start` to `end`, horizontal or vertical, with caps of three pixels to either side."""
    dx, dy = (0, 3) if start[1] == end[1] else (3, 0)
    lines = (start, end), *(((x - dx, y - dy), (x + dx, y + dy)) for x, y in (start, end))
    path = "".join(f"M{number(a)} {number(b)}L{number(c)} {number(d)}" for (a, b), (c, d) in lines)
    return tag("path", d=path, class_=f"whisker {look.name}")


def mark(look: Look, x: float, y: float) -> Markup:
    """The mark of a ranker."""
    if not look.is_diamond:
        return tag("circle", cx=float(x), cy=float(y), r=look.radius, class_=f"mark {look.name}")
    half = 1.25 * look.radius
    return tag("polygon", points=_path([(x, y - half), (x + half, y), (x, y + half), (x - half, y)]),
               class_=f"mark {look.name}")  # fmt: skip


def key(look: Look) -> Markup:
    """The sign of a ranker in a legend; its name stands beside it."""
    return picture(28, 14, [polyline([(1, 7), (27, 7)], f"series {look.name}"), mark(look, 14, 7)], None, "key")


def x_axis(x: Scale, at: Sequence[float], names: Sequence[str], top: float, bottom: float, title: str = "") -> Markup:
    """Faint lines from `top` to `bottom` at each tick, names below, and the axis' title below those."""
    lines = (rule(x(value), top, x(value), bottom, "grid") for value in at)
    named = (text(x(value), bottom + 16, name, "middle") for value, name in zip(at, names, strict=True))
    return join([*lines, *named, text((x.start + x.end) / 2, bottom + 34, title, "middle", "axis-title")])


def y_axis(y: Scale, left: float, right: float, title: str, unit: str = "") -> Markup:
    """Faint lines from `left` to `right` at each tick, names to the left, and the axis' title above its upper end."""
    at = ticks(y.low, y.high)
    lines = (rule(left, y(value), right, y(value), "grid") for value in at)
    named = (text(left - 8, y(value) + 4, name, "end") for value, name in zip(at, labels(at, unit), strict=True))
    return join([*lines, *named, text(left - 8, y.end - 14, title, class_="axis-title")])


def estimate(one: Estimate, look: Look, x: Scale, y: float, *, as_bar: bool = False) -> Markup:
    """A mean as a mark, or as a bar from 0, with its interval as a whisker; nothing for what is not finite."""
    if not one.is_finite:
        return Markup("")
    zero, end = x(0), x(one.mean)
    line = whisker((x(one.low), y), (x(one.high), y), look) if one.has_interval else Markup("")
    if as_bar:
        return bar(min(zero, end), y - 6, abs(end - zero), 12, f"bar {look.name}") + line
    return line + mark(look, end, y)


def rows(
    each: Sequence[tuple[str, Sequence[Estimate | None], str]], low: float, high: float, *,
    left: float, width: float, title: str = "", said: str, as_bars: bool = False,
) -> Markup:  # fmt: skip
    """Rows of a name, estimates of contender and opponent one below the other, and a note, on one scale.

    `low` to `high` are the ends of the scale, `left` the space for names; `said` describes the picture. With `as_bars`,
    bars from 0 to either side stand for marks.
    """
    top, step = (26.0 if title else 8.0), 30.0
    bottom = top + step * len(each)
    x = Scale(low, high, left, width - 56)
    at = ticks(low, high, 5)
    parts = [text(left, 12, title, class_="axis-title"), x_axis(x, at, labels(at), top, bottom)]
    parts += [rule(x(0), top - 4, x(0), bottom, "zero")] if low < 0 else []
    for place, (name, found, note) in enumerate(each):
        y = top + step * (place + 0.5)
        parts += [text(left - 12, y + 4, name, "end"), text(width - 2, y + 4, note, "end", "quiet")]
        drawn = [(one, look) for one, look in zip(found, (CONTENDER, OPPONENT), strict=False) if one]
        first = y - 5 * (len(drawn) - 1)
        parts += [estimate(one, look, x, first + 10 * i, as_bar=as_bars) for i, (one, look) in enumerate(drawn)]
    return picture(width, bottom + 24, parts, said)


def line(look: Look, points: Sequence[tuple[float, Estimate]], y: Scale, *, shade: bool = False) -> Markup:
    """A line with a mark at each mean, by its x in pixels; intervals are whiskers, or shade the area around it."""
    known = [(x, one) for x, one in points if one.has_interval]
    means = [(x, y(one.mean)) for x, one in points if one.is_finite]
    if shade:
        edge = [*((x, y(one.low)) for x, one in known), *((x, y(one.high)) for x, one in reversed(known))]
        parts = [tag("polygon", points=_path(edge), class_=f"band {look.name}")]
    else:
        parts = [whisker((x, y(one.low)), (x, y(one.high)), look) for x, one in known]
    return join([*parts, polyline(means, f"series {look.name}"), *(mark(look, *point) for point in means)])


def count_bars(places: Sequence[float], numbers: Sequence[int], width: float, left: float, base: float) -> Markup:
    """Low bars of numbers of events, each by the x of its middle."""
    y = Scale(0, max(numbers), base, base - 32)
    bars = (bar(x - width / 2, y(n), width, base - y(n), "bar count") for x, n in zip(places, numbers, strict=True))
    return join([*bars, text(left - 8, base - 24, count(y.high), "end"), text(left - 8, base, "0", "end")])


def _path(points: Iterable[Point]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)
