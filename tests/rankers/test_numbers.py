"""Numbers of the context: what decides is found among noise, and nothing of the predicted split is looked at."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from whereupon.arrays import Float64
from whereupon.histories import Histories
from whereupon.rankers.gwr import FAMILIES as GWR
from whereupon.rankers.gwr import Regression
from whereupon.rankers.numbers import (
    Numbers,
    informative_columns,
    number_columns,
    number_information,
    number_values,
    principal_components,
    scaling,
)

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
HOUR, DAY = 3600, 86_400


@pytest.fixture(name="planted")
def _planted(build: Build) -> Histories:
    """Six people choose item 0 where the tide is high, else one of their own; at night only item 1 is chosen.

    `hour` says which part of the day it is; `noise` nothing; `again` is twice the tide, with an error.
    """
    rng, rows = np.random.default_rng(4), list[Row]()
    for user in range(6):
        for day in range(100):
            split = "train" if day < 60 else "valid" if day < 80 else "test"
            rows += [(user, 0, day * DAY + hour * HOUR, split) for hour in (2, 14)]
    histories, num = build(rows, 8), len(rows)
    tide_N, hour_N = rng.normal(size=num), histories.time_s_N % DAY / HOUR
    item_N = np.where(hour_N < 6, 1, np.where(tide_N > 0, 0, 2 + histories.user_idx_N)).astype(np.int32)
    columns = {
        "tide": tide_N,
        "noise": rng.normal(size=num),
        "hour": hour_N,
        "again": 2 * tide_N + rng.normal(size=num) / 9,
    }
    events = histories.events.with_columns(
        pl.Series("item_idx", item_N), *(pl.Series(name, values) for name, values in columns.items())
    )
    manifest = {**histories.manifest, "context_columns": [*columns, "text"]}
    events = events.with_columns(temperature_c=pl.lit(None, pl.Float64), condition=pl.lit("rain"), text=pl.lit("x"))
    return replace(histories, events=events, item_idx_N=item_N, manifest=manifest)


def test_numbers_are_those_of_the_weather_and_further_columns(planted: Histories) -> None:
    assert number_columns(planted) == ("temperature_c", "tide", "noise", "hour", "again")
    lacking = replace(planted, events=planted.events.drop("noise"))
    value_NW = number_values(lacking, ("tide", "noise"))
    assert np.isnan(value_NW[:, 1]).all(), "a request may lack a column"
    assert (value_NW[:, 0] == planted.events["tide"].to_numpy()).all()


def test_what_decides_is_informative_and_noise_and_the_clock_are_not(planted: Histories) -> None:
    assert informative_columns(planted, "test") == ("tide", "again")
    bits = {one.name: one.corrected_bits for one in number_information(planted, "test", "item")}
    assert 0.25 < bits["tide"] < 0.5, "half of the events are open, each of them one of two; of few events, less"
    assert abs(bits["noise"]) < 0.05
    assert "temperature_c" not in bits, "it has no value"
    assert bits["hour"] == pytest.approx(0) if "hour" in bits else True


@pytest.mark.parametrize("numbers", ["standard", "min-max", "informative", "components"])
def test_what_is_to_be_predicted_changes_no_scale(planted: Histories, numbers: Numbers) -> None:
    """Neither values nor choices of the test split."""
    is_test = planted.split_N == 2
    item_N = np.where(is_test, 7, planted.item_idx_N).astype(np.int32)
    events = planted.events.with_columns(
        pl.Series("item_idx", item_N), tide=pl.when(pl.Series(is_test)).then(1e6).otherwise("tide")
    )
    one, other = (scaling(some, "test", numbers) for some in (planted, replace(planted, events=events)))
    assert one.names == other.names
    assert (one.centre_W == other.centre_W).all()
    assert (one.scale_W == other.scale_W).all()
    assert one.turn_WD is None or np.array_equal(one.turn_WD, other.turn_WD)


def _made(histories: Histories, numbers: Numbers) -> Float64:
    """Of the events in earlier splits."""
    found = scaling(histories, "test", numbers)
    return found.of(number_values(histories, found.names))[histories.split_N < 2]


def test_each_scale_is_what_its_name_says(planted: Histories) -> None:
    standard_NW, ranged_NW = _made(planted, "standard")[:, 1:], _made(planted, "min-max")[:, 1:]
    assert standard_NW.std(axis=0) == pytest.approx(1)
    assert standard_NW.mean(axis=0) == pytest.approx(0)
    assert np.ptp(ranged_NW, axis=0) == pytest.approx(1)


def test_components_are_uncorrelated_and_two_columns_that_say_the_same_are_one(planted: Histories) -> None:
    made_ND = _made(planted, "components")
    assert made_ND.shape[1] == 3, "tide with its double, noise, and the hour; an empty column is none"
    assert made_ND.T @ made_ND / len(made_ND) == pytest.approx(np.eye(3), abs=1e-9)
    assert scaling(planted, "test", "components").labels == ("component 1", "component 2", "component 3")


def test_loadings_are_those_of_a_singular_value_decomposition() -> None:
    value_NW = np.random.default_rng(2).normal(size=(50, 3)) @ np.array([[3.0, 1, 0], [0, 1, 0], [0, 0.5, 0.1]])
    value_NW -= value_NW.mean(axis=0)
    variance_D, loading_WD = principal_components(value_NW)
    _, spread_D, right_DW = np.linalg.svd(value_NW, full_matrices=False)
    assert variance_D == pytest.approx(spread_D**2 / 50)
    assert np.abs((loading_WD * right_DW.T).sum(axis=0)) == pytest.approx(1)
    assert (np.take_along_axis(loading_WD, np.abs(loading_WD).argmax(axis=0)[None], axis=0) > 0).all()


def test_regression_reads_the_numbers_that_its_settings_say(planted: Histories) -> None:
    placed = planted.items.with_columns(latitude=40 + pl.int_range(pl.len()) * 0.01, longitude=pl.lit(-74.0))
    histories = replace(planted, items=placed)
    last = {}
    for numbers in ("standard", "informative", "components"):
        settings = {"most": 8, "least_events": 30, "steepness": 0.0, "own": 0.0, "numbers": numbers}
        ranker = GWR[0].ranker(histories, "test", settings, seed=0)
        assert isinstance(ranker, Regression)
        assert ranker.learnt is not None
        last[numbers] = ranker.learnt.fields[7:]
        restored = GWR[0].restore(settings, ranker.arrays(), histories, "test")
        row_Q = np.flatnonzero(histories.split_N == 2)[:5]
        one, other = (some.on(histories, "test").scores(row_Q) for some in (ranker, restored))
        assert np.array_equal(one, other)
    assert last["standard"] == number_columns(histories)
    assert last["informative"] == ("tide", "again")
    assert last["components"] == ("component 1", "component 2", "component 3")
