"""Counts by group of items and step: by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from whereupon.errors import DataError
from whereupon.forecasts import count_series, group_items
from whereupon.histories import Histories
from whereupon.tests.texts import says

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
HOUR, DAY = 3_600, 86_400
ROWS = [(0, 0, 5 * HOUR, "train"), (0, 1, 5 * HOUR + 9, "train"), (1, 0, 7 * HOUR, "train"), (1, 2, DAY, "test")]


def everything(histories: Histories) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(len(histories.time_s_N), np.bool_)


def test_counts_stand_in_their_hour_and_the_hour_under_way_is_left_out(build: Build) -> None:
    histories = build(ROWS, 3)
    grouping = group_items(histories, "item", everything(histories), least_events=1)
    series = count_series(histories, grouping, "hour")
    assert grouping.names == ("item-0", "item-1", "item-2")
    assert series.count_ST.shape == (3, 24)
    assert series.count_ST[0].nonzero()[0].tolist() == [5, 7]
    assert series.count_ST.sum(axis=1).tolist() == [2, 1, 0]
    assert series.when(5) == datetime(1970, 1, 1, 5)


def test_small_groups_are_pooled_and_counted(build: Build) -> None:
    histories = build(ROWS, 3)
    grouping = group_items(histories, "item", everything(histories), least_events=2)
    assert (grouping.names, grouping.num_pooled) == (("item-0", "the rest"), 2)
    assert grouping.series_I.tolist() == [0, 1, 1]
    fewer = group_items(histories, "item", everything(histories), most=1, least_events=1)
    assert (fewer.names, fewer.num_pooled) == (("item-0", "the rest"), 2)


def test_groups_are_chosen_by_the_counted_events_alone(build: Build) -> None:
    histories = build([*ROWS, *((2, 2, DAY + t, "test") for t in range(5))], 3)
    assert group_items(histories, "item", histories.split_N == 0, least_events=2).names == ("item-0", "the rest")


def test_categories_and_areas_make_series(build: Build) -> None:
    histories = build(ROWS, 3)
    items = histories.items.with_columns(
        category=pl.Series(["food", "food", None]), latitude=pl.Series([40.001, 40.019, None]), longitude=pl.lit(-74.01)
    )
    histories = replace(histories, items=items)
    assert group_items(histories, "category", everything(histories), least_events=1).names == ("food", "no category")
    areas = group_items(histories, "area", everything(histories), least_events=1)
    assert areas.names == ("40.01, -74.01", "no coordinates")


@pytest.mark.parametrize(("by", "words"), [("category", "column `category`"), ("area", "latitude and a longitude")])
def test_items_without_what_is_requested_are_refused(build: Build, by: str, words: str) -> None:
    histories = build(ROWS, 3)
    with pytest.raises(DataError, match=words):
        group_items(histories, by, everything(histories))  # type: ignore[arg-type]


def test_events_of_one_hour_are_refused(build: Build) -> None:
    histories = build([(0, 0, 0, "train"), (0, 0, 1, "train")], 1)
    with pytest.raises(DataError, match="All events lie in one hour"):
        count_series(histories, group_items(histories, "item", everything(histories)), "hour")


def test_events_of_a_wrong_century_are_refused(build: Build) -> None:
    histories = build([(0, 0, -2_208_988_800, "train"), (0, 0, DAY, "train")], 1)  # 1900-01-01
    grouping = group_items(histories, "item", everything(histories))
    assert count_series(histories, grouping, "day").count_ST.shape == (1, 25_568)
    with pytest.raises(DataError, match=says("30 years", "1900-01-01", "1970-01-02", "--every day")):
        count_series(histories, grouping, "hour", most_years=30)
