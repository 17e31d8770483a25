"""Where the contender was right and where it was wrong: a map without tiles, of the items' own places.

Equirectangular projection with the standard parallel in the middle of the map: Snyder, "Map projections: a working
manual", USGS Professional Paper 1395, 1987, p. 90. Shapes: P = places, I = items, E = events.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from ...arrays import Bool, Float64
from ...histories.distance import KM_PER_DEGREE
from .pictures import number, picture, rule, tag, text, twice
from .runs import Dataset
from .sections import LISTED, Part

PIXELS_PER_CIRCLE = 400.0  # of the map's area: where there are more places, neighbours are drawn as one
LARGEST = 17.0  # pixels, radius of the place with most events on a wide page, or less where places are many:
INKED = 0.07  # share of the map that all rings together may cover
OUTER_SHARE = 0.02  # of the events at most is left outside, if that makes the map much larger in scale


class Places(NamedTuple):
    """P places, float64 [P] each: where (degrees, or pixels), how many events, how many of them were hits."""

    x_P: Float64
    y_P: Float64
    count_P: Float64
    hits_P: Float64


class Projection(NamedTuple):
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


def hit_map(dataset: Dataset) -> Part | None:
    """None where no item of the events has coordinates.

    `num_events` are drawn, of items with coordinates; `num_outside` beyond the frame, `num_nowhere` without any.
    """
    items = dataset.histories.items
    if not {"latitude", "longitude"} <= set(items.columns):
        return None
    latitude_I, longitude_I = (items[name].cast(float).to_numpy() for name in ("latitude", "longitude"))
    known_I = np.isfinite(latitude_I) & np.isfinite(longitude_I)
    true_E, rank_E = dataset.histories.item_idx_N[dataset.row_E], dataset.contender.rankings.rank_E
    placed_E = known_I[true_E]
    if not placed_E.any():
        return None
    both = placed_E, placed_E & (rank_E >= 1) & (rank_E <= LISTED)
    count_I, hits_I = (np.bincount(true_E[one_E], minlength=items.height).astype(np.float64) for one_E in both)
    longitude_I = _unwrapped(longitude_I, known_I)
    drawn_I = count_I > 0
    drawn_I[drawn_I] = _core(longitude_I[drawn_I], latitude_I[drawn_I], count_I[drawn_I])
    places = Places(*(value_I[drawn_I] for value_I in (longitude_I, latitude_I, count_I, hits_I)))
    num, num_hits = int(places.count_P.sum()), int(places.hits_P.sum())
    said = f"{dataset.contender.name} had the item among its first {LISTED} in {num_hits / num:.1%} of {num:,} events"
    label = f"Map of {len(places.x_P):,} places: {said}"
    x_I, y_I = longitude_I[known_I], latitude_I[known_I]
    return {
        "num_events": num, "num_hits": num_hits, "num_places": len(places.x_P),
        "num_outside": int(count_I.sum()) - num, "num_nowhere": int((~placed_E).sum()),
        "picture": twice(lambda width: _draw(label, places, x_I, y_I, width)),
    }  # fmt: skip


def _unwrapped(longitude_I: Float64, known_I: Bool) -> Float64:
    """Longitudes cut at their widest gap, so that items on both sides of the date line stand side by side."""
    around = np.unique(np.mod(longitude_I[known_I], 360))
    gap = np.diff(np.append(around, around[0] + 360))
    start = around[(int(gap.argmax()) + 1) % len(around)]
    turned = np.mod(longitude_I - start, 360) + start
    return np.asarray(turned - (360 if np.nanmean(turned) > 180 else 0), np.float64)


def _core(x_P: Float64, y_P: Float64, count_P: Float64) -> Bool:
    """All places, or those within the middle of the events where that frame is less than half as wide or high."""
    kept = np.ones(len(count_P), bool)
    for value_P in (x_P, y_P):
        order = np.argsort(value_P, kind="stable")
        share = (np.cumsum(count_P[order]) - count_P[order] / 2) / count_P.sum()
        inner = value_P[order][(share > OUTER_SHARE / 4) & (share < 1 - OUTER_SHARE / 4)]
        if len(inner) and np.ptp(inner) < 0.5 * np.ptp(value_P):
            kept &= (value_P >= inner.min()) & (value_P <= inner.max())
    is_enough = count_P[kept].sum() >= (1 - OUTER_SHARE) * count_P.sum()
    return kept if is_enough else np.ones(len(count_P), bool)


def _draw(label: str, places: Places, x_I: Float64, y_I: Float64, width: float) -> Markup:
    projection, height = Projection.fit(places.x_P, places.y_P, width, max(0.9 * width, 400.0), 22.0)
    on_page = places._replace(x_P=projection.x(places.x_P), y_P=projection.y(places.y_P))
    circles = _merged(on_page, int(width * height / PIXELS_PER_CIRCLE))
    per_event = min(
        LARGEST * (width / 680) ** 0.5 / math.sqrt(circles.count_P.max()),
        math.sqrt(INKED * width * height / (math.pi * circles.count_P.sum())),
    )
    # All items, each pixel once: the shape of the town.
    pixel_I2 = np.round(np.stack([projection.x(x_I), projection.y(y_I)], axis=1))
    pixel_I2 = pixel_I2[((pixel_I2 > 0) & (pixel_I2 < [width, height])).all(axis=1)]
    dots = "".join(f"M{number(x)} {number(y)}h0" for x, y in np.unique(pixel_I2, axis=0).tolist())
    frame = tag("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, class_="frame")
    parts = [frame, tag("path", d=dots or None, class_="places"), *_circles(circles, per_event),
             _scale_bar(projection, width, height)]  # fmt: skip
    return picture(width, height, parts, label, "map")


def _merged(places: Places, most: int) -> Places:
    """At most so many places (pixels): those in one cell of a grid as one, at the mean of their events."""
    cell, group_P = 1.0, np.arange(len(places.x_P))
    while group_P.max() >= most:
        cell *= 1.5
        cell_P2 = np.floor(np.stack([places.x_P, places.y_P], axis=1) / cell)
        _, group_P = np.unique(cell_P2, axis=0, return_inverse=True)
    x_G, y_G, count_G, hits_G = (
        np.bincount(group_P, value_P).astype(np.float64)
        for value_P in (places.x_P * places.count_P, places.y_P * places.count_P, places.count_P, places.hits_P)
    )
    return Places(x_G / count_G, y_G / count_G, count_G, hits_G)


def _circles(places: Places, per_event: float) -> Iterator[Markup]:
    """A ring whose area is the number of events, in it a disc whose area is that of the hits; large ones below.

    `per_event` is the radius of one event; what would be too small to see is drawn a little larger.
    """
    order = np.argsort(-places.count_P, kind="stable")
    for x, y, count, hits in zip(*(value_P[order].tolist() for value_P in places), strict=True):
        if hits < count:
            yield tag("circle", cx=x, cy=y, r=max(per_event * math.sqrt(count), 1.5), class_="events")
        if hits:
            yield tag("circle", cx=x, cy=y, r=max(per_event * math.sqrt(hits), 1.0), class_="hits")


def _scale_bar(projection: Projection, width: float, height: float) -> Markup:
    km_per_pixel = KM_PER_DEGREE / projection.pixels_per_degree
    most = km_per_pixel * width / 4
    power = 10.0 ** math.floor(math.log10(most))
    length = max(m * power for m in (1, 2, 5) if m * power <= most)
    long, right, y = length / km_per_pixel, width - 14.0, height - 14.0
    name = f"{length:,.0f} km" if length >= 1 else f"{length * 1000:,.0f} m"
    ends = (rule(x, y - 4, x, y, "scale") for x in (right - long, right))
    written = text(right - long / 2, y - 7, name, "middle", "halo"), text(14, 22, "N ↑", class_="halo")
    return tag("g", rule(right - long, y, right, y, "scale"), *ends, *written)
