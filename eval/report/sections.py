"""Parts of the report that are a table with a picture: leaderboard, recall, slices, time, calibration, the rest.

What only a template reads is a dict. Shapes: E = events, K = items of a ranking, P = predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from math import isnan
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from markupsafe import Markup

from ...arrays import Float64, Int64
from ..beyond_accuracy import list_metrics
from ..metrics import METRICS, VISITS, macro
from ..reliability import Calibrated, bin_of, calibration, predictions
from ..significance import paired
from ..slices import first_visits, slices_of
from ..wording import count, plain, span
from . import pictures as svg
from .pictures import CONTENDER, OPPONENT, OTHER, Look, Scale
from .runs import Dataset, Ranked
from .statistics import FEW_DRAWS, FEWEST_EVENTS, Difference, Estimate, among, compared, differences, estimates

Part = dict[str, Any]

BAR_WIDTH = 160.0
MARKS = {1: "▲", -1: "▼", 0: ""}  # significantly more, less, neither; a sign beside words, never alone
SLICES = {
    "daypart": "Time of day", "week": "Kind of day", "distance": "Distance from the last event",
    "condition": "Conditions", "activity": "Earlier events of the user", "popularity": "Popularity of the item",
    "followed": "Followed the last item in training",
}  # fmt: skip
MOST_DAYS = 42  # with more of them, weeks are shown
NUM_PICTURES = 3  # of rankers' calibration
LISTED = 10
BEYOND = {  # in the order of the table, with what each means; what the data does not have is left out
    f"coverage@{LISTED}": "share of the catalogue in anybody's first 10",
    f"Gini@{LISTED}": "how unequally the items are shown; 0 all alike",
    f"novelty@{LISTED}": "self-information of the items shown, in bits",
    f"popularity-lift@{LISTED}": "popularity of what is shown over that of what the user had chosen, minus 1",
    f"category-diversity@{LISTED}": "share of a list's pairs of different category",
    f"km-diversity@{LISTED}": "mean distance between a list's items, in km",
    "mean-km": "mean distance from the first item to the true one, in km",
    "median-km": "its median",
    "within-1km": "share within a kilometre of the truth",
}


class Row(NamedTuple):
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


class Leaderboard(NamedTuple):
    """`columns` are the metrics beside the report's own, first it over first visits and over repeats where there are
    both; `axis` is that of the bars; `num_tests` were corrected for.
    """

    rows: Sequence[Row]
    columns: Sequence[str]
    axis: Markup
    num_tests: int

    def of(self, ranker: Ranked) -> Row:
        """The row of one ranker."""
        return next(row for row in self.rows if row.ranker is ranker)


def look_of(dataset: Dataset, ranker: Ranked) -> Look:
    """The contender and its opponent stand out, all others stand back."""
    return CONTENDER if ranker is dataset.contender else OPPONENT if ranker is dataset.opponent else OTHER


def leaderboard(dataset: Dataset, seed: int) -> Leaderboard:
    """Every ranker in the dataset's order: intervals of its metrics, and its difference from the reference."""
    metric, rankers, reference = dataset.metric, dataset.rankers, dataset.reference
    names = list(dict.fromkeys([metric, *METRICS]))
    having = [(one, name) for one in rankers for name in names if name in one.value_E]
    found = estimates(having, lambda key: key[0].value_E[key[1]], dataset.user_E, seed)
    found |= _by_visit(dataset, seed)
    others, own_E = [one for one in rankers if one is not reference], {one: one.value_E[metric] for one in rankers}
    tests = differences(others, lambda one: paired(own_E[one], own_E[reference]), dataset.user_E, seed)
    x = Scale(0.0, 1.02 * max(1e-9, *(found[one, metric].top for one in rankers)), 1, BAR_WIDTH - 1)
    board = []
    for place, one in enumerate(rankers, start=1):
        look, own = look_of(dataset, one), found[one, metric]
        said = f"{plain(own.mean)}, {span(own.low, own.high)}"
        bar = svg.estimate(own, look, x, 13, as_bar=True)
        drawn = svg.picture(BAR_WIDTH, 26, [bar], said, "rowbar")
        metrics = {name: found.get((one, name)) for name in [*names, *visits_of(metric)]}
        board.append(Row(place, one, look, metrics, macro(own_E[one], dataset.user_E), tests.get(one), drawn))
    shown = [name for name in [*visits_of(metric), *names[1:]] if any(row.metrics[name] for row in board)]
    at = svg.ticks(0, x.high, 5)
    drawn_axis = svg.x_axis(x, at, svg.labels(at), -6, -6) + svg.rule(1, 18, BAR_WIDTH - 1, 18, "tick")
    axis = svg.picture(BAR_WIDTH, 18, [drawn_axis], None, "rowbar")
    return Leaderboard(board, shown, axis, sum(not isnan(one.p_holm) for one in tests.values()))


def visits_of(metric: str) -> dict[str, bool]:
    """The names of a metric over first visits and over repeats, and whether the visits are first ones."""
    return {f"{metric} {name}": is_first for name, is_first in VISITS.items()}


def _by_visit(dataset: Dataset, seed: int) -> dict[tuple[Ranked, str], Estimate]:
    """The metric over first visits and over repeats; nothing where there are only the ones."""
    is_first_E = first_visits(dataset.histories)[dataset.row_E]
    if is_first_E.all() or not is_first_E.any():
        return {}
    visits = visits_of(dataset.metric)
    keys = [(one, name) for one in dataset.rankers for name in visits]
    return estimates(
        keys, lambda key: among(key[0].value_E[dataset.metric], is_first_E == visits[key[1]]), dataset.user_E, seed
    )


def recall(rank_E: Int64, depth: int) -> list[float]:
    """recall@1 to recall@depth."""
    return [float(np.mean((rank_E >= 1) & (rank_E <= k))) for k in range(1, depth + 1)]


def recall_curves(dataset: Dataset) -> Part:
    """Place, ranker and curve of each, down to the depth to which every ranking is known."""
    depth = dataset.depth
    curves = [(i, one, recall(one.rankings.rank_E, depth)) for i, one in enumerate(dataset.rankers, start=1)]
    return {"depth": depth, "curves": curves, "picture": svg.twice(lambda width: _curves(dataset, curves, width))}


def _curves(dataset: Dataset, curves: Sequence[tuple[int, Ranked, list[float]]], width: float) -> Markup:
    """Lines with names at their ends; on a narrow page, places stand for names."""
    names = [f"{place}  {one.name}" if width > 500 else str(place) for place, one, _ in curves]
    room, depth = min(7.0 * max(map(len, names)) + 14, width * 0.5), dataset.depth
    height = max(300.0, 17.0 * len(curves) + 70)
    left, right, top, bottom = 46.0, width - room, 28.0, height - 44
    x = Scale(1, max(depth, 2), left + 6, right - 6)
    y = Scale(0, max(0.01, *(curve[-1] for _, _, curve in curves)), bottom, top)
    at = sorted({1.0, float(depth), *(t for t in svg.ticks(1, depth) if t == int(t) and depth - t > depth / 12)})
    parts = [svg.y_axis(y, left, right, "events whose item is among the first k", "%"),
             svg.x_axis(x, at, svg.labels(at), bottom, bottom + 4, "k")]  # fmt: skip
    ends = [y(curve[-1]) for _, _, curve in curves]
    lines = []
    for (_, one, curve), name, end, y_name in zip(curves, names, ends, svg.spread(ends, 15, bottom), strict=True):
        look = look_of(dataset, one)
        points = [(x(k), Estimate(value, np.nan, np.nan, 0, 0)) for k, value in enumerate(curve, start=1)]
        lines.append(svg.line(look, points, y))
        parts += [svg.polyline([(right - 2, end), (right + 4, y_name), (right + 7, y_name)], "leader"),
                  svg.text(right + 10, y_name + 4, name, class_=f"label {look.name}")]  # fmt: skip
    said = ", ".join(f"{one.name} {curve[-1]:.3f}" for _, one, curve in curves)
    return svg.picture(width, height, [*parts, *reversed(lines)], f"recall at 1 to {depth}; at {depth}: {said}")


def slicing(dataset: Dataset, seed: int) -> Part | None:
    """A panel for each property that divides the events, all on one scale; None where there is none.

    `slices` of a panel are label, estimate of contender and opponent, and their difference (None without opponent).
    `num_tests` were corrected together; `num_thin` slices have too few events and are left out.
    """
    frame = slices_of(dataset.histories, dataset.part, dataset.row_E)
    ours_E = dataset.contender.value_E[dataset.metric]
    theirs_E = dataset.opponent.value_E[dataset.metric] if dataset.opponent else None
    found, num_thin = compared(ours_E, theirs_E, frame, dataset.user_E, seed, FEW_DRAWS)
    highest = max([0.01, *(one.top for ours, theirs, _ in found.values() for one in (ours, theirs) if one)])
    panels = []
    for name in dict.fromkeys(name for name, _ in found):
        own = [(value, *one) for (other, value), one in found.items() if other == name]
        title = SLICES.get(name, name.capitalize())
        drawn = [(value, (ours, theirs), f"{MARKS[gap.sign] if gap else ''} {count(ours.num_events)}")
                 for value, ours, theirs, gap in own]  # fmt: skip
        means = "; ".join(f"{value} {plain(ours.mean)}" for value, ours, _, _ in own)
        picture = svg.rows(drawn, 0, highest, left=140, width=372, said=f"{dataset.metric} by {title.lower()}: {means}")
        panels.append({"title": title, "slices": own, "picture": picture})
    num_tests = sum(not isnan(gap.p_holm) for _, _, gap in found.values() if gap)
    return {"panels": panels, "num_tests": num_tests, "num_thin": num_thin} if panels or num_thin else None


def over_time(dataset: Dataset, seed: int) -> Part | None:
    """Contender and opponent by day, or by week; None where the split does not span two days.

    `steps` are first day, number of events and estimates by name; `num_thin` of them had too few events to be drawn.
    """
    local = dataset.histories.events["local_time"].gather(dataset.row_E).dt.date()
    days = local.unique().sort().to_list()
    if len(days) == 1:
        return None
    by_week = (days[-1] - days[0]).days >= MOST_DAYS
    start_E = local.cast(pl.Datetime("us")).dt.truncate("1w").cast(pl.Date) if by_week else local
    shown = {one.name: one for one in (dataset.contender, dataset.opponent) if one is not None}
    keys = [(name, start) for name in shown for start in start_E.unique().sort().to_list()]

    def column(key: tuple[str, date]) -> Float64:
        return among(shown[key[0]].value_E[dataset.metric], (start_E == key[1]).to_numpy())

    found = estimates(keys, column, dataset.user_E, seed, FEW_DRAWS)
    counted = start_E.value_counts().sort("local_time").iter_rows()
    steps = [(start, num, {name: found[name, start] for name in shown}) for start, num in counted]
    drawn = [step for step in steps if step[1] >= FEWEST_EVENTS]  # the others would hide these
    unit = "week" if by_week else "day"
    drawing = svg.twice(lambda width: _over_time(dataset.metric, drawn, unit, width)) if len(drawn) > 1 else ""
    return {"unit": unit, "steps": steps, "names": list(shown), "num_thin": len(steps) - len(drawn), "picture": drawing}


def _over_time(metric: str, steps: Sequence[tuple[date, int, dict[str, Estimate]]], unit: str, width: float) -> Markup:
    left, right, top, bottom, base = 40.0, width - 10, 28.0, 216.0, 284.0
    first, days = steps[0][0], (steps[-1][0] - steps[0][0]).days
    x = Scale(0, days, left + 14, right - 12)
    y = Scale(0, max(0.01, *(one.top for _, _, each in steps for one in each.values())), bottom, top)
    places, names = [x((start - first).days) for start, _, _ in steps], list(steps[0][2])
    below = svg.text(left, base - 42, f"events a {unit}", class_="axis-title")
    parts = [svg.y_axis(y, left, right, f"{metric} by {unit}"), below]
    for name, look in reversed(list(zip(names, (CONTENDER, OPPONENT), strict=False))):  # the contender lies above
        points = [(place, each[name]) for place, (_, _, each) in zip(places, steps, strict=True)]
        parts.append(svg.line(look, points, y, shade=True))
    bar_width = min(16.0, 0.7 * (right - left) / max(1, days / (7 if unit == "week" else 1)))
    parts.append(svg.count_bars(places, [num for _, num, _ in steps], bar_width, left, base))
    at = range(0, days + 1, next(n for n in (1, 2, 4, 7, 14, 28, 56, 112, 364, days) if x(n) - x(0) >= 58 or n >= days))
    dates = [f"{day.day} {day:%b}" for day in (first + timedelta(days=n) for n in at)]
    parts.append(svg.x_axis(x, at, dates, base, base + 2))
    means = {name: [each[name].mean for _, _, each in steps] for name in names}
    said = "; ".join(f"{name} from {min(mean):.3f} to {max(mean):.3f}" for name, mean in means.items())
    return svg.picture(width, base + 24, parts, f"{metric} by {unit} over {len(steps)} of them: {said}")


def reliability(dataset: Dataset, seed: int) -> list[Part]:
    """Calibration of the rankers that give probabilities, the contender first; the first few have a picture.

    `first` and `all` are that of first items and of whole lists; `bins` are mean probability and share of right ones.
    """
    having = [one for one in dataset.rankers if one.rankings.log_prob_E is not None]
    found = []
    for place, ranker in enumerate(sorted(having, key=lambda one: one is not dataset.contender)):
        each = calibration(ranker.rankings)
        first, bins = each["top-1"], _bins(ranker, each["top-1"], dataset, seed)
        is_drawn = place < NUM_PICTURES and first.num_predictions > 0
        drawn = _reliability(ranker.name, first, bins, look_of(dataset, ranker)) if is_drawn else ""
        found.append({"ranker": ranker, "first": first, "all": each[f"top-{ranker.rankings.k}"], "bins": bins,
                      "picture": drawn})  # fmt: skip
    return found


def _bins(ranker: Ranked, first: Calibrated, dataset: Dataset, seed: int) -> list[tuple[float, Estimate]]:
    """The bins of the first items' curve, with intervals over users as all others."""
    probability_P, right_P = predictions(ranker.rankings, 1)
    value_P: Float64 = right_P.astype(np.float64)
    bin_P, user_P = bin_of(probability_P, "equal-mass"), dataset.user_E[ranker.rankings.item_EK[:, 0] >= 0]
    bins = np.unique(bin_P).tolist()
    found = estimates(bins, lambda one: among(value_P, bin_P == one), user_P, seed, FEW_DRAWS)
    return list(zip(first.equal_mass.confidence_B.tolist(), found.values(), strict=True))


def _reliability(name: str, first: Calibrated, bins: Sequence[tuple[float, Estimate]], look: Look) -> Markup:
    """A square with the diagonal of perfect calibration, and below it how many predictions were about so sure."""
    left, right, top, bottom, base = 46.0, 326.0, 24.0, 304.0, 356.0
    x, y = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    at = (0.0, 0.25, 0.5, 0.75, 1.0)
    title = "probability of the first item; below: how many events"
    wide = first.equal_width
    middles = [x((min(int(confidence * 15), 14) + 0.5) / 15) for confidence in wide.confidence_B.tolist()]
    gap = first.confidence - first.accuracy
    said = (f"Reliability curve of {name}: calibration error {plain(first.equal_mass.error)}; on average it says "
            f"{first.confidence:.1%} and is right in {first.accuracy:.1%}, "
            f"{'too sure' if gap > 0 else 'not sure enough'} by {abs(gap):.1%}")  # fmt: skip
    parts = [
        svg.y_axis(y, left, right, "first items that were right", "%"),
        svg.x_axis(x, at, svg.labels(at, "%"), top, base, title),
        svg.rule(x(0), y(0), x(1), y(1), "diagonal"), svg.line(look, [(x(p), hits) for p, hits in bins], y),
        svg.count_bars(middles, wide.count_B.tolist(), x(1 / 15) - x(0) - 2, left, base),
    ]  # fmt: skip
    return svg.picture(340, base + 44, parts, said)


def beyond_accuracy(dataset: Dataset) -> Part | None:
    """Variety, novelty, popularity, distance; None where nothing is known, or rankings hold fewer than ten items.

    `columns` are name and meaning, `rows` rankers and metrics in the order of the leaderboard, `notes` sentences.
    """
    if dataset.depth < LISTED:
        return None
    found = [(one, list_metrics(one.rankings, dataset.histories, dataset.part, LISTED)) for one in dataset.rankers]
    known = {name for _, metrics in found for name, value in metrics.items() if value == value}
    silent = {one.name: int((one.rankings.item_EK[:, 0] < 0).sum()) for one in dataset.rankers}
    said = "no item at all for {} of the events, which are in no mean."
    notes = [f"{name}: {said.format(count(num))}" for name, num in silent.items() if num]
    columns = [(name, meaning) for name, meaning in BEYOND.items() if name in known]
    return {"columns": columns, "rows": found, "notes": notes} if columns else None
