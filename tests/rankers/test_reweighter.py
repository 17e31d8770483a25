"""The prior of each kind of calibration: whose masses it has, in which catalogue, and from before when."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from whereupon.catalogue import build_trie
from whereupon.config import Config
from whereupon.decode import ContextSettings, DecodeSettings, ItemPrior, PriorSettings
from whereupon.decode.settings import CalibrationName
from whereupon.histories import Histories
from whereupon.rankers.clock import local_seconds
from whereupon.rankers.reweighter import Prior, decode_of

Build = Callable[..., Histories]
A, B, C, D, E = range(5)
HOUR = 3600
FLAT = build_trie([[item, 9] for item in range(5)])  # one node, whose edges are the items in order
ONE = ContextSettings(
    own_smoothing=1, age_days=1e12, hour_sigma=1e9, hour_floor=0, other_kind_of_day=1, same_previous=1, moves=1,
    moves_smoothing=0,
)  # fmt: skip
SETTINGS = DecodeSettings(prior=PriorSettings(popularity_smoothing=1, own_smoothing=2, context=ONE))


def _masses(prior: ItemPrior | None) -> list[list[float]]:
    """Of every item, for each question."""
    assert prior is not None
    return [prior.masses(np.array([query]), np.zeros(1, np.int64)).tolist() for query in range(prior.num_queries or 1)]


def test_each_kind_has_its_masses(town: Histories) -> None:
    """Popularity of A 3, B 3, C 2 visits, one added to all five: 4, 4, 3, 1, 1 of 13.

    Row 3 is Ann's, who has been to A, B, A; all moves from A went to B. Row 10 is Cyd's, who has been to A, B, C; from
    C Bob has moved to C, a second before.
    """
    prior, row_Q = Prior.read(town, FLAT, SETTINGS), np.array([3, 10])
    popularity = np.array([4, 4, 3, 1, 1]) / 13
    assert town.item_idx_N[row_Q].tolist() == [B, D]
    assert prior.of_rows("temperature", row_Q) is None
    assert _masses(prior.of_rows("popularity", row_Q))[0] == pytest.approx(popularity)
    own = np.array([[2, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    assert np.array(_masses(prior.of_rows("own counts", row_Q))) == pytest.approx(popularity + own / 2)
    moved = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 0, 0]])
    assert np.array(_masses(prior.of_rows("context", row_Q))) == pytest.approx(popularity + own + moved)


@pytest.mark.parametrize("kind", ["popularity", "own counts", "context"])
def test_items_that_were_taken_out_leave_and_others_keep_their_masses(town: Histories, kind: CalibrationName) -> None:
    """A catalogue without B, in another order, with a new item: items E, D, C, A, new."""
    index_T = np.array([3, -1, 2, 1, 0])
    before = np.array(_masses(Prior.read(town, FLAT, SETTINGS).of_rows(kind, np.array([3]))))
    after = np.array(_masses(Prior.read(town, FLAT, SETTINGS, index_T).of_rows(kind, np.array([3]))))
    popular = np.array([1, 1, 3, 4])  # of 13 before; now of 10, with 1 of the new item and none of B
    assert after[0, :4] == pytest.approx(before[0, [E, D, C, A]] - popular / 13 + popular / 10)


@pytest.mark.parametrize("kind", ["popularity", "own counts", "context"])
def test_later_events_of_the_evaluated_splits_change_no_prior(build: Build, kind: CalibrationName) -> None:
    """Bob's and Ann's events at and after the moment of Ann's question, at 10, may be any."""
    train = [(0, A, 1, "train"), (1, B, 2, "train"), (0, B, 3, "train")]
    asked = [(1, A, 8, "valid"), (1, C, 9, "valid")]
    found = []
    for later in (
        [(0, C, 10, "test"), (1, D, 10, "test"), (1, B, 11, "test"), (0, A, 12, "test")],
        [(0, D, 10, "test"), (1, B, 10, "test"), (1, E, 15, "test")],
        [(0, B, 10, "test")],
    ):
        prior = Prior.read(build([*train, *asked, *later], 5), FLAT, SETTINGS)
        found.append(_masses(prior.of_rows(kind, np.array([2]))))
    assert found[0] == found[1] == found[2]


def test_prior_asks_for_no_clock_where_prompts_leave_time_out(
    town: Histories, town_copy: Callable[..., Config]
) -> None:
    """Row 3 is Ann's at 20 s; were her past at another hour, only a prior that knows of hours would notice."""
    hours = [time + (7 * HOUR if row < 3 else 0) for row, time in enumerate(local_seconds(town.events).tolist())]
    local_time = (pl.Series(hours) * 1_000_000).cast(pl.Datetime("us"))
    moved = replace(town, events=town.events.with_columns(local_time=local_time))
    for leave_out, is_same in (("[]", False), ("[weather]", False), ("[time]", True)):
        decode = decode_of(town_copy(f"prompts.leave_out={leave_out}"))
        found = [_masses(Prior.read(one, FLAT, decode).of_rows("context", np.array([3]))) for one in (town, moved)]
        assert (found[0] == found[1]) == is_same, leave_out
