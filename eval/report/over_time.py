"""The report's metric by day or week of the split, contender and opponent, each with its interval and the counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

import numpy as np
import polars as pl
from markupsafe import Markup

from ..wording import plain, span
from .runs import Dataset
from .statistics import FEW_DRAWS, FEWEST_EVENTS, Estimate, among, estimates
from .style import CONTENDER, OPPONENT, Look, twice
from .svg import Scale, area, bar, join, labels, picture, polyline, text, ticks, y_axis

__all__ = ["OverTime", "over_time"]

MOST_DAYS = 42  # with more of them, weeks are shown


@dataclass(frozen=True)
class Step:
    """One day or week: its first day, and the estimate of each ranker by name."""

    start: date
    estimates: dict[str, Estimate]
    num_events: int


@dataclass(frozen=True)
class OverTime:
    """`unit` is "day" or "week"; `num_thin` steps had too few events to be drawn and stand in the table alone."""

    unit: str
    steps: Sequence[Step]
    names: Sequence[str]
    num_thin: int
    picture: Markup


def over_time(dataset: Dataset, seed: int) -> OverTime | None:
    """None where the split does not span two days."""
    local = dataset.histories.events["local_time"].gather(dataset.row_E).dt.date()
    first, last = local.min(), local.max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    if first == last:
        return None
    by_week = (last - first).days >= MOST_DAYS
    start_E = local.cast(pl.Datetime("us")).dt.truncate("1w").cast(pl.Date) if by_week else local
    starts = start_E.unique().sort().to_list()
    index_E = start_E.replace_strict(starts, range(len(starts)), return_dtype=pl.Int32).to_numpy()
    shown = [one for one in (dataset.contender, dataset.opponent) if one is not None]
    values = ((one.name, step, one.value_E[dataset.metric]) for one in shown for step in range(len(starts)))
    columns = (((name, step), among(value_E, index_E == step)) for name, step, value_E in values)
    found = estimates(columns, dataset.user_E, seed, FEW_DRAWS)
    num_S = np.bincount(index_E, minlength=len(starts)).tolist()
    steps = [Step(day, {o.name: found[o.name, s] for o in shown}, num_S[s]) for s, day in enumerate(starts)]
    drawn = [step for step in steps if step.num_events >= FEWEST_EVENTS]  # the others would hide these
    unit, names = "week" if by_week else "day", [one.name for one in shown]
    draw = partial(_draw, dataset.metric, drawn, names, [CONTENDER, OPPONENT][: len(shown)], unit)
    return OverTime(unit, steps, names, len(steps) - len(drawn), twice(draw) if len(drawn) > 1 else Markup(""))


def _draw(
    metric: str, steps: Sequence[Step], names: Sequence[str], looks: Sequence[Look], unit: str, width: float
) -> Markup:
    left, right, top, bottom, base = 40.0, width - 10, 28.0, 216.0, 284.0
    days = (steps[-1].start - steps[0].start).days
    x = Scale(0, days, left + 14, right - 12)
    place = [x((step.start - steps[0].start).days) for step in steps]
    y = Scale(0, max(0.01, *(one.top for step in steps for one in step.estimates.values())), bottom, top)
    at = ticks(y.low, y.high, 5)
    parts = [y_axis(y, at, labels(at), left, right, f"{metric} by {unit}")]
    series = list(zip(names, looks, strict=True))[::-1]  # the opponent first, so that the contender lies above it
    parts += [_band(place, [step.estimates[name] for step in steps], y, look) for name, look in series]
    parts += [_line(place, steps, name, y, look) for name, look in series]
    parts.append(text(left, base - 42, f"events a {unit}", class_="axis-title"))
    width_each = (right - left) / max(1, days / (7 if unit == "week" else 1))
    parts.append(_counts(place, [step.num_events for step in steps], left, base, min(8.0, 0.35 * width_each)))
    parts += _dates(x, steps[0].start, days, base, right)
    return picture(width, base + 24, parts, _label(metric, steps, names, unit))


def _band(place: Sequence[float], each: Sequence[Estimate], y: Scale, look: Look) -> Markup:
    known = [(px, one) for px, one in zip(place, each, strict=True) if one.has_interval]
    low, high = [(px, y(max(one.low, 0))) for px, one in known], [(px, y(one.high)) for px, one in known]
    return area(low, high, f"band {look.name}")


def _line(place: Sequence[float], steps: Sequence[Step], name: str, y: Scale, look: Look) -> Markup:
    known = [(px, s, s.estimates[name]) for px, s in zip(place, steps, strict=True) if s.estimates[name].is_finite]
    points = [(px, y(one.mean)) for px, _, one in known]
    tips = [f"{step.start}: {name} {plain(one.mean)} ({span(one.low, one.high)})" for _, step, one in known]
    marks = [look.mark(px, py, tip, 3.2) for (px, py), tip in zip(points, tips, strict=True)]
    return join([polyline(points, f"series {look.name}"), *marks])


def _counts(place: Sequence[float], numbers: Sequence[int], left: float, base: float, half: float) -> Markup:
    """Bars of the number of events, which need not be told apart by more than their height."""
    y = Scale(0, max(numbers), base, base - 30)
    each = ((px - half, y(number), f"{number:,} events") for px, number in zip(place, numbers, strict=True))
    bars = [bar(x, top, 2 * half, base - top, "bar count", tip) for x, top, tip in each]
    return join([*bars, text(left - 8, base - 22, f"{max(numbers):,}", "end"), text(left - 8, base, "0", "end")])


def _dates(x: Scale, first: date, days: int, base: float, right: float) -> list[Markup]:
    """Dates as often as they have room."""
    step = next(n for n in (1, 2, 3, 4, 7, 14, 28, 56, 112, 364, 728, 10**6) if (x(n) - x(0)) >= 58 or n >= days)
    shown = [(x(n), first + timedelta(days=n)) for n in range(0, days + 1, step) if x(n) <= right - 14]
    return [text(px, base + 18, f"{day.day} {day:%b}", "middle") for px, day in shown]


def _label(metric: str, steps: Sequence[Step], names: Sequence[str], unit: str) -> str:
    means = {name: [step.estimates[name].mean for step in steps] for name in names}
    each = (f"{name} from {min(mean):.3f} to {max(mean):.3f}" for name, mean in means.items())
    return f"{metric} by {unit} over {len(steps)} of them: {'; '.join(each)}"
