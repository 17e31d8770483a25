"""The report's map of hits: which places it shows, how large they are, and where they stand."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.eval.report import hit_map as maps
from whereupon.eval.report.hit_map import Projection, hit_map
from whereupon.eval.report.runs import Dataset
from whereupon.tests.eval.report_town import TEST


def test_map_counts_hits_and_events(dataset: Dataset) -> None:
    found = hit_map(dataset)
    assert found is not None
    rank_E = dataset.contender.rankings.rank_E
    assert found["num_events"] + found["num_outside"] == TEST
    assert found["num_outside"] <= 0.02 * TEST
    if not found["num_outside"]:
        assert found["num_hits"] == ((rank_E >= 1) & (rank_E <= 10)).sum()
    wide = ET.fromstring(re.findall(r"<svg.*?</svg>", found["picture"], re.DOTALL)[0])
    missed = {
        int(item)
        for item, rank in zip(dataset.histories.item_idx_N[dataset.row_E], rank_E, strict=True)
        if not 1 <= rank <= 10
    }
    assert len(wide.findall(".//circle[@class='events']")) == len(missed)


def test_map_needs_coordinates_and_counts_items_without_any(dataset: Dataset) -> None:
    items = dataset.histories.items
    bare = replace(dataset.histories, items=items.drop("latitude"))
    assert hit_map(replace(dataset, histories=bare)) is None
    busiest = int(np.bincount(dataset.histories.item_idx_N[dataset.row_E]).argmax())
    holed = pl.when(pl.int_range(pl.len()) == busiest).then(None).otherwise("longitude").alias("longitude")
    found = hit_map(replace(dataset, histories=replace(dataset.histories, items=items.with_columns(holed))))
    assert found is not None
    assert found["num_nowhere"] == (dataset.histories.item_idx_N[dataset.row_E] == busiest).sum()


def test_kilometre_is_as_long_both_ways_in_the_middle_of_the_map() -> None:
    projection, _ = Projection.fit(np.array([10.0, 12.0]), np.array([59.0, 61.0]), 400, 400, 20)
    one_km_east, one_km_north = 1 / (111.195 * np.cos(np.radians(60))), 1 / 111.195
    east = projection.x(np.array([11 + one_km_east])) - projection.x(np.array([11.0]))
    north = projection.y(np.array([60.0])) - projection.y(np.array([60 + one_km_north]))
    assert east == pytest.approx(north)


@given(st.lists(st.tuples(st.floats(-170, 170), st.floats(-80, 80)), min_size=1, max_size=20))
def test_all_places_are_inside_the_frame(places: list[tuple[float, float]]) -> None:
    x_P, y_P = (np.array(column) for column in zip(*places, strict=True))
    projection, height = Projection.fit(x_P, y_P, 340, 400, 20)
    assert (projection.x(x_P) > 19).all()
    assert (projection.x(x_P) < 321).all()
    assert (projection.y(y_P) > 19).all()
    assert (projection.y(y_P) < height - 19).all()


def test_places_on_both_sides_of_the_date_line_stand_side_by_side() -> None:
    unwrapped = maps._unwrapped(np.array([179.0, -179.0, 178.0]), np.ones(3, bool))
    assert np.ptp(unwrapped) == pytest.approx(3)
    assert np.ptp(maps._unwrapped(np.array([-74.0, -73.0, -118.0]), np.ones(3, bool))) == pytest.approx(45)


def test_many_places_are_drawn_as_fewer_and_no_event_is_lost() -> None:
    random = np.random.default_rng(0)
    x_P, y_P = random.random((2, 2000)) * 300
    found = maps._merged(maps.Places(x_P, y_P, np.full(2000, 3.0), np.ones(2000)), 50)
    assert len(found.x_P) <= 50
    assert (found.count_P.sum(), found.hits_P.sum()) == (6000, 2000)
    assert 0 <= found.x_P.min() <= found.x_P.max() <= 300
    assert np.average(found.x_P, weights=found.count_P) == pytest.approx(x_P.mean())


def test_places_drawn_as_one_stand_at_the_mean_of_their_events() -> None:
    three = maps.Places(np.array([1.0, 1.1, 90.0]), np.zeros(3), np.array([1.0, 2.0, 5.0]), np.array([1.0, 0.0, 2.0]))
    assert maps._merged(three, 3).x_P.tolist() == pytest.approx([1.0, 1.1, 90.0])
    found = maps._merged(three, 2)
    assert found.x_P.tolist() == pytest.approx([(1 * 1.0 + 2 * 1.1) / 3, 90])
    assert (found.count_P.tolist(), found.hits_P.tolist()) == ([3, 5], [1, 2])
