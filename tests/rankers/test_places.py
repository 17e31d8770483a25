"""Nearest items: by hand, against the haversine formula in loops, and whose coordinates are looked at."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.distance import distance_km, points
from whereupon.rankers.places import FAMILIES, Nearest
from whereupon.rankers.protocol import UnfitDataError

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
Place = tuple[float | None, float | None]
A, B, C, D, E = range(5)
NUM_ITEMS = 5
TICKS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, NUM_ITEMS - 1), st.integers(0, 40)), min_size=2, max_size=25
)
PLACE = st.one_of(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), st.just((40.7, -74.0)), st.just((None, None)))


def placed(
    histories: Histories,
    items: Sequence[Place],
    events: Sequence[Place] | None = None,
    location: Literal["context", "outcome"] = "outcome",
) -> Histories:
    """The same with coordinates."""

    def with_places(table: pl.DataFrame, places: Sequence[Place]) -> pl.DataFrame:
        columns = zip(("latitude", "longitude"), zip(*places, strict=True), strict=True)
        return table.with_columns(pl.Series(name, list(values), dtype=pl.Float64) for name, values in columns)

    table = histories.events if events is None else with_places(histories.events, events)
    return replace(histories, items=with_places(histories.items, items), events=table, location=location)


def haversine_km(a: Place, b: Place) -> float:
    (lat_a, lon_a), (lat_b, lon_b) = ((math.radians(x or 0), math.radians(y or 0)) for x, y in (a, b))
    half = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * 6371.0088 * math.asin(math.sqrt(min(half, 1)))


# On one meridian, a hundredth of a degree of latitude is 1.112 km; E has no place.
STREET: list[Place] = [(40.70, -74.0), (40.71, -74.0), (40.72, -74.0), (40.80, -74.0), (None, None)]


def test_nearest_items_of_the_last_one_come_first(town: Histories) -> None:
    task = read_task(placed(town, STREET), "test", EvaluateSettings())
    found = rank(Nearest(scale_km=1.0, steepness=1.0, popular=0.0, stay=1.0), task, 5)
    # Ann at A, Bob at C, Cyd at C, Dan at C. E stands at the mean of the others' logarithms, between the near and far.
    assert found.item_EK[0].tolist() == [A, B, E, C, D]
    assert found.item_EK[1].tolist() == [C, B, E, A, D]
    away = rank(Nearest(scale_km=1.0, steepness=1.0, popular=0.0, stay=0.01), task, 5)
    assert away.item_EK[0].tolist() == [B, E, C, D, A]


def test_distance_and_popularity_are_blended(town: Histories) -> None:
    task = read_task(placed(town, STREET), "test", EvaluateSettings())
    found = rank(Nearest(scale_km=0.5, steepness=2.0, popular=1.0, stay=0.5), task, 5)
    km = [haversine_km(STREET[A], place) for place in STREET[:4]]
    factor = [(1 + d / 0.5) ** -2 for d in km]
    factor.append(math.exp(sum(map(math.log, factor)) / 4))
    weight = [f * n for f, n in zip(factor, [4, 4, 3, 1, 1], strict=True)]  # A 3, B 3, C 2 events and each once more
    weight[A] *= 0.5
    expected = sorted((w / sum(weight) for w in weight), reverse=True)
    assert np.exp(found.score_EK[0]).tolist() == pytest.approx(expected)


def test_coordinates_of_an_outcome_are_never_looked_at(town: Histories) -> None:
    far = [(float(row), 10.0) for row in range(13)]
    ranker = Nearest(scale_km=1.0, steepness=1.0, popular=0.5, stay=0.5)
    without, with_them = (
        rank(ranker, read_task(placed(town, STREET, events), "test", EvaluateSettings()), 5) for events in (None, far)
    )
    assert (without.score_EK == with_them.score_EK).all()
    assert (without.item_EK == with_them.item_EK).all()


def test_known_place_of_the_event_counts_and_the_last_item_where_it_is_missing(town: Histories) -> None:
    at_d: list[Place] = [(40.80, -74.0)] * 13
    at_d[3] = (None, None)  # Ann's test event: she was at A
    task = read_task(placed(town, STREET, at_d, "context"), "test", EvaluateSettings())
    found = rank(Nearest(scale_km=1.0, steepness=1.0, popular=0.0, stay=1.0), task, 5)
    assert found.item_EK[:, 0].tolist() == [A, D, D, D]


def test_user_without_a_place_gets_popularity(town: Histories) -> None:
    places = [*STREET[:2], (None, None), *STREET[3:]]  # C, where the others are, has none
    found = rank(
        Nearest(1.0, 1.0, popular=1.0, stay=1.0), read_task(placed(town, places), "test", EvaluateSettings()), 5
    )
    assert found.item_EK[1:].tolist() == [[A, B, C, D, E]] * 3
    assert np.exp(found.score_EK[1]).tolist() == pytest.approx([4 / 13, 4 / 13, 3 / 13, 1 / 13, 1 / 13])


@given(here=PLACE, there=PLACE)
def test_distance_equals_the_haversine_formula(here: Place, there: Place) -> None:
    a, b = (points(latitude=np.array(p[0], float), longitude=np.array(p[1], float)) for p in (here, there))
    found = float(distance_km(a, b))
    if here[0] is None or there[0] is None:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(haversine_km(here, there), abs=1e-3)


@given(
    ticks=TICKS, items=st.lists(PLACE, min_size=NUM_ITEMS, max_size=NUM_ITEMS), context=st.booleans(), data=st.data()
)
def test_scores_equal_the_formula_item_by_item(
    build: Build, with_splits: Any, tasks: Any, agrees: Any, ticks: Any, items: list[Place], context: bool,
    data: st.DataObject,
) -> None:  # fmt: skip
    items[2] = (40.7, -74.0)  # one at least has a place
    histories = build(with_splits(ticks), NUM_ITEMS)
    events = data.draw(st.lists(PLACE, min_size=len(ticks), max_size=len(ticks)))
    events[0] = (1.0, 2.0)
    histories = placed(histories, items, events, "context" if context else "outcome")
    item = histories.item_idx_N.tolist()
    scale_km, steepness, popular, stay = 2.0, 1.5, 0.5, 0.2

    def scores(row: int) -> list[float]:
        earlier = [i for i, s in zip(item, histories.split_N, strict=True) if s < histories.split_N[row]]
        here = events[row] if context and events[row][0] is not None else items[item[row - 1]]
        near = {i: -steepness * math.log1p(haversine_km(here, items[i]) / scale_km) for i in range(NUM_ITEMS)
                if items[i][0] is not None}  # fmt: skip
        logs = []
        for i in range(NUM_ITEMS):
            logs.append(popular * math.log((earlier.count(i) + 1) / (len(earlier) + NUM_ITEMS)))
            logs[-1] += 0.0 if here[0] is None else near.get(i, sum(near.values()) / len(near))
            logs[-1] += math.log(stay) if i == item[row - 1] else 0.0
        total = math.log(sum(map(math.exp, logs)))
        return [log - total for log in logs]

    for task in tasks(histories):
        agrees(task, rank(Nearest(scale_km, steepness, popular, stay), task, NUM_ITEMS), scores, slack=1e-5)


@pytest.mark.parametrize("columns", [[], ["latitude"], ["latitude", "longitude"]])
def test_items_without_coordinates_do_not_fit(town: Histories, columns: list[str]) -> None:
    items = town.items.with_columns(pl.lit(None, pl.Float64).alias(name) for name in columns)
    with pytest.raises(UnfitDataError, match="'nearest' needs items with latitude and longitude, but none has both"):
        FAMILIES[0].ranker(replace(town, items=items), "test", FAMILIES[0].grid()[0], 0)
