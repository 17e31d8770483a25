"""The picture of forecasts: the last counts, what is expected, and the 80 % intervals, one panel a series."""

from __future__ import annotations

from typing import Final

import numpy as np
from markupsafe import Markup

from ..forecasts import Outlook, Series
from .report.pictures import Scale, picture, polyline, rule, tag, text, x_axis, y_axis

MOST_PANELS: Final = 6
_WIDTH, _HEIGHT, _LEFT, _GAP = 680.0, 110.0, 62.0, 66.0
_STYLE: Final = """svg { background: #fff; font: 12px system-ui, sans-serif; fill: #333 }
.grid { stroke: #ddd } .now { stroke: #888; stroke-dasharray: 3 3 } .past { fill: none; stroke: #555 }
.ahead { fill: none; stroke: #1a5fb4; stroke-width: 1.5 } .band { fill: #1a5fb4; opacity: .2 }
.axis-title { font-weight: 600 }"""


def forecast_picture(names: tuple[str, ...], series: Series, outlook: Outlook) -> str:
    """An SVG file's text: the first series, each with as many steps before as ahead, and at least seven days."""
    a_day = 86_400 // series.step_s
    back = min(series.count_ST.shape[1], max(7 * a_day, outlook.mean_SH.shape[1]))
    body = [tag("style", Markup(_STYLE))]
    shown = names[:MOST_PANELS]
    for place, name in enumerate(shown):
        body.append(_panel(name, place, series, outlook, back, place * (_HEIGHT + _GAP) + 40))
    drawn = picture(_WIDTH, len(shown) * (_HEIGHT + _GAP) + 20, body, "forecast of: " + ", ".join(shown))
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def _panel(name: str, place: int, series: Series, outlook: Outlook, back: int, top: float) -> Markup:
    past_T = series.count_ST[place, -back:]
    mean_H, low_H, high_H = (part[place] for part in (outlook.mean_SH, outlook.low_SH, outlook.high_SH))
    known = bool(np.isfinite(high_H).all())
    most = max(1.0, float(past_T.max()), float((high_H if known else mean_H).max()))
    x, y = Scale(-back, len(mean_H), _LEFT, _WIDTH - 20), Scale(0, most, top + _HEIGHT, top)
    a_day, end = 86_400 // series.step_s, series.count_ST.shape[1]
    first = (-(end - back)) % a_day - back
    every = max(1, (back + len(mean_H)) // a_day // 8)
    at = list(range(first, len(mean_H), a_day * every))
    edge = [*((x(h), y(value)) for h, value in enumerate(low_H)),
            *((x(h), y(value)) for h, value in reversed(list(enumerate(high_H))))] if known else []  # fmt: skip
    band = tag("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in edge), class_="band") if edge else Markup("")
    return Markup("").join([
        x_axis(x, at, [f"{series.when(end + step):%d %b}" for step in at], top, top + _HEIGHT),
        y_axis(y, x.start, x.end, name), band, rule(x(0), top, x(0), top + _HEIGHT, "now"),
        polyline([(x(t - back), y(value)) for t, value in enumerate(past_T.tolist())], "past"),
        polyline([(x(h), y(value)) for h, value in enumerate(mean_H.tolist())], "ahead"),
        text(x(0) + 4, top - 2, "forecast"),
    ])  # fmt: skip
