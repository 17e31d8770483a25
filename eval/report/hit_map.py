"""Where the contender was right and where it was wrong: a map without tiles, of the items' own places.

Equirectangular projection with the standard parallel in the middle of the map: Snyder, "Map projections: a working
manual", USGS Professional Paper 1395, 1987, p. 90.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ...arrays import Float64, Int64
from .runs import Dataset
from .style import twice
from .svg import dot, number, picture, rule, tag, text

__all__ = ["HitMap", "Projection", "hit_map"]


CUTOFF = 10
KM_PER_DEGREE = 111.195  # of latitude, on a sphere of 6371 km
PIXELS_PER_CIRCLE = 400.0  # of the map's area: where there are more places, neighbours are drawn as one
LARGEST = 17.0  # pixels, radius of the place with most events on a wide page, or less where places are many:
INKED = 0.07  # share of the map that all rings together may cover
TOLD_AREA = 12.0  # square pixels over pi: smaller ones nobody points at
OUTER_SHARE = 0.02  # of the events at most is left outside, if that makes the map much larger in scale


@dataclass(frozen=True)
class HitMap:
    """`num_events` are drawn, of items with coordinates; `num_outside` beyond the frame, `num_nowhere` without any."""

    num_events: int
    num_hits: int
    num_places: int
    num_outside: int
    num_nowhere: int
    picture: Markup


@dataclass(frozen=True)
class Places:
    """P places: where (degrees, or pixels), how many events, how many of them were hits, and the name."""

    x_P: Float64
    y_P: Float64
    count_P: Float64
    hits_P: Float64
    name_P: NDArray[np.str_]

    def take(self, chosen_P: NDArray[np.bool_] | Int64) -> Places:
        """Some of them: a mask, or positions."""
        return Places(**{name: value_P[chosen_P] for name, value_P in vars(self).items()})


@dataclass(frozen=True)
class Projection:
    """From degrees to pixels; x to the right, y downwards. `west` and `north` are the upper left corner."""

    west: float
    north: float
    pixels_per_degree: float
    cos: float

    @classmethod
    def fit(cls, x_P: Float64, y_P: Float64, width: float, tallest: float, margin: float) -> tuple[Projection, float]:
        """The largest scale at which all points (degrees) fit into width and height, and the height it takes."""
        cos = max(math.cos(math.radians((y_P.min() + y_P.max()) / 2)), 0.05)
        wide, high = max(float(np.ptp(x_P)) * cos, 1e-4), max(float(np.ptp(y_P)), 1e-4)
        scale = min((width - 2 * margin) / wide, (tallest - 2 * margin) / high)
        height = max(high * scale + 2 * margin, 0.4 * width)
        west = (x_P.min() + x_P.max()) / 2 - width / 2 / (scale * cos)
        return cls(west, (y_P.min() + y_P.max()) / 2 + height / 2 / scale, scale, cos), height

    def x(self, degrees: Float64) -> Float64:
        return (degrees - self.west) * self.cos * self.pixels_per_degree

    def y(self, degrees: Float64) -> Float64:
        return (self.north - degrees) * self.pixels_per_degree


def hit_map(dataset: Dataset) -> HitMap | None:
    """None where no item of the events has coordinates."""
    items = dataset.histories.items
    if not {"latitude", "longitude"} <= set(items.columns):
        return None
    latitude_I, longitude_I = (items[name].cast(float).to_numpy() for name in ("latitude", "longitude"))
    known_I = np.isfinite(latitude_I) & np.isfinite(longitude_I)
    true_E = dataset.true_item_E
    placed_E = known_I[true_E]
    if not placed_E.any():
        return None
    rank_E = dataset.contender.rankings.rank_E
    hit_E = (rank_E >= 1) & (rank_E <= CUTOFF)
    item_P, index_X, count_P = np.unique(true_E[placed_E], return_inverse=True, return_counts=True)
    hits_P = np.bincount(index_X, weights=hit_E[placed_E], minlength=len(item_P)).astype(np.float64)
    longitude_I = _unwrapped(longitude_I, known_I)
    names = items["title"].gather(item_P).cast(str).to_numpy().astype(np.str_)
    places = Places(longitude_I[item_P], latitude_I[item_P], count_P.astype(np.float64), hits_P, names)
    inside_P = _core(places)
    drawn = places.take(inside_P)
    x_I, y_I = longitude_I[known_I], latitude_I[known_I]
    return HitMap(
        int(drawn.count_P.sum()), int(drawn.hits_P.sum()), len(drawn.x_P), int(count_P[~inside_P].sum()),
        int((~placed_E).sum()), twice(lambda width: _draw(dataset.contender.name, drawn, x_I, y_I, width)),
    )  # fmt: skip


def _unwrapped(longitude_I: Float64, known_I: NDArray[np.bool_]) -> Float64:
    """Longitudes cut at their widest gap, so that items on both sides of the date line stand side by side."""
    around = np.unique(np.mod(longitude_I[known_I], 360))
    gap = np.diff(np.append(around, around[0] + 360))
    start = around[(int(gap.argmax()) + 1) % len(around)]
    turned = np.mod(longitude_I - start, 360) + start
    return np.asarray(turned - (360 if np.nanmean(turned) > 180 else 0), np.float64)


def _core(places: Places) -> NDArray[np.bool_]:
    """All places, or those within the middle of the events where that frame is less than half as wide or high."""
    count_P = places.count_P
    whole = np.ones(len(count_P), bool)
    kept = whole.copy()
    for value_P in (places.x_P, places.y_P):
        order = np.argsort(value_P, kind="stable")
        share = (np.cumsum(count_P[order]) - count_P[order] / 2) / count_P.sum()
        inner = value_P[order][(share > OUTER_SHARE / 4) & (share < 1 - OUTER_SHARE / 4)]
        if len(inner) and np.ptp(inner) < 0.5 * np.ptp(value_P):
            kept &= (value_P >= inner.min()) & (value_P <= inner.max())
    return kept if count_P[kept].sum() >= (1 - OUTER_SHARE) * count_P.sum() else whole


def _draw(name: str, places: Places, x_I: Float64, y_I: Float64, width: float) -> Markup:
    margin = 22.0
    projection, height = Projection.fit(places.x_P, places.y_P, width, max(0.9 * width, 400.0), margin)
    px_I, py_I = projection.x(x_I), projection.y(y_I)
    inside_I = (px_I > 0) & (px_I < width) & (py_I > 0) & (py_I < height)
    on_page = replace(places, x_P=projection.x(places.x_P), y_P=projection.y(places.y_P))
    circles = _merged(on_page, int(width * height / PIXELS_PER_CIRCLE))
    per_event = min(
        LARGEST * (width / 680) ** 0.5 / math.sqrt(circles.count_P.max()),
        math.sqrt(INKED * width * height / (math.pi * circles.count_P.sum())),
    )
    frame = tag("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, class_="frame")
    parts = [frame, _faint(px_I[inside_I], py_I[inside_I]), *_circles(circles, per_event),
             _scale_bar(projection, width, height)]  # fmt: skip
    num_events = places.count_P.sum()
    share = f"{places.hits_P.sum() / num_events:.1%} of {num_events:,.0f} events"
    label = f"Map of {len(places.x_P):,} places: {name} had the item among its first {CUTOFF} in {share}"
    return picture(width, height, parts, label, "map")


def _merged(places: Places, most: int) -> Places:
    """At most so many places (pixels): those in one cell of a grid as one, at the mean of their events and named after
    the busiest of them.
    """
    if len(places.x_P) <= most:
        return places
    group_P, cell = np.arange(len(places.x_P)), 1.0
    while group_P.max() >= most:
        cell *= 1.5
        cell_P2 = np.floor(np.stack([places.x_P, places.y_P], axis=1) / cell)
        _, group_P = np.unique(cell_P2, axis=0, return_inverse=True)
    count_G, hits_G = (np.bincount(group_P, value_P).astype(np.float64) for value_P in (places.count_P, places.hits_P))
    x_G, y_G = (np.bincount(group_P, value_P * places.count_P) / count_G for value_P in (places.x_P, places.y_P))
    busiest_P = np.argsort(-places.count_P, kind="stable")
    name_G = places.name_P[busiest_P[np.unique(group_P[busiest_P], return_index=True)[1]]]
    others_G = (f" and {n - 1:,} more" if n > 1 else "" for n in np.bincount(group_P).tolist())
    told_G = np.array([name + others for name, others in zip(name_G.tolist(), others_G, strict=True)])
    return Places(x_G, y_G, count_G, hits_G, told_G)


def _circles(places: Places, per_event: float) -> Iterator[Markup]:
    """A ring whose area is the number of events, in it a disc whose area is that of the hits; large ones below.

    `per_event` is the radius of one event; what would be too small to see is drawn a little larger.
    """
    ordered = places.take(np.argsort(-places.count_P, kind="stable"))
    for x, y, count, hits, name in zip(*(value_P.tolist() for value_P in vars(ordered).values()), strict=True):
        ring = dot(x, y, max(per_event * math.sqrt(count), 1.5), "events") if hits < count else Markup("")
        disc = dot(x, y, max(per_event * math.sqrt(hits), 1.0), "hits") if hits else Markup("")
        if count * per_event**2 > TOLD_AREA:
            yield tag("g", tag("title", f"{name}: {hits:,.0f} of {count:,.0f}"), ring, disc)
        else:
            yield ring + disc


def _faint(x_I: Float64, y_I: Float64) -> Markup:
    """All items as one path of dots, each pixel once: the shape of the town."""
    pixels = np.unique(np.stack([np.round(x_I), np.round(y_I)]), axis=1).T.tolist()
    return tag("path", d="".join(f"M{number(x)} {number(y)}h0" for x, y in pixels) or None, class_="places")


def _scale_bar(projection: Projection, width: float, height: float) -> Markup:
    km_per_pixel = KM_PER_DEGREE / projection.pixels_per_degree
    most = km_per_pixel * width / 4
    power = 10.0 ** math.floor(math.log10(most))
    length = max(m * power for m in (1, 2, 5) if m * power <= most)
    long, right, y = length / km_per_pixel, width - 14.0, height - 14.0
    name = f"{length:,.0f} km" if length >= 1 else f"{length * 1000:,.0f} m"
    line = rule(right - long, y, right, y, "scale")
    ends = Markup("").join(rule(x, y - 4, x, y, "scale") for x in (right - long, right))
    written = text(right - long / 2, y - 7, name, "middle", "halo"), text(14, 22, "N ↑", class_="halo")
    return tag("g", line, ends, *written)
