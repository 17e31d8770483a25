"""How rankers look in every picture: told apart by shape, stroke and label first, and by colour only after that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from .statistics import Estimate
from .svg import Scale, Shape, dot, join, picture, polyline, tag, whisker

__all__ = ["CONTENDER", "OPPONENT", "OTHER", "Look", "key", "twice"]

WIDE: Final = 680.0
NARROW: Final = 340.0


@dataclass(frozen=True)
class Look:
    """`name` is the class of lines, marks and whiskers; `shape` that of the mark."""

    name: str
    shape: Shape

    def mark(self, x: float, y: float, tip: str = "", radius: float = 4) -> Markup:
        """A mark of this look; `tip` shows when a pointer rests on it."""
        return dot(x, y, radius, f"mark {self.name}", self.shape, tip)

    def estimate(self, one: Estimate, x: Scale, y: float, tip: str, radius: float = 4) -> Markup:
        """A mean as a mark with its interval as a horizontal whisker; what is not finite is left out."""
        line = whisker((x(one.low), y), (x(one.high), y), f"whisker {self.name}") if one.has_interval else Markup("")
        return line + self.mark(x(one.mean), y, tip, radius) if one.is_finite else line


CONTENDER: Final = Look("contender", "circle")
OPPONENT: Final = Look("opponent", "diamond")
OTHER: Final = Look("other", "square")


def twice(draw: Callable[[float], Markup]) -> Markup:
    """A picture drawn for a wide and for a narrow page, so that its text is of one size in both; the page shows one."""
    return join(tag("div", draw(width), class_=name) for name, width in (("wide", WIDE), ("narrow", NARROW)))


def key(look: Look) -> Markup:
    """The sign of a series in a legend; its name stands beside it."""
    return picture(28, 14, [polyline([(1, 7), (27, 7)], f"series {look.name}"), look.mark(14, 7)], None, "key")
