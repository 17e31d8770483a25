"""Whose place, whose clock and whose history the filters go by."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from whereupon.catalogue import ItemFacts
from whereupon.errors import DataError
from whereupon.histories import Histories
from whereupon.recommend.context import RequestContext, places_in_prompts
from whereupon.recommend.selection import RequestFilters, candidates
from whereupon.tests.recommend.questions import question

MakeHistories = Callable[..., Histories]

FIRST = {"user": "Ada", "at": "2013-01-01T08:00", "item": 0, "origin": "EWR"}
SECOND = FIRST | {"at": "2013-01-01T19:00", "item": 1, "origin": "JFK"}
NOWHERE = FIRST | {"at": "2013-01-03T10:00", "item": 0, "origin": "LAX"}  # whose coordinates are unknown


@pytest.fixture
def travels(make_histories: MakeHistories) -> Histories:
    """Ada at Newark, at JFK and somewhere; items at Newark, at JFK and in Denver."""
    histories = make_histories([FIRST, SECOND, NOWHERE])
    facts = {
        "latitude": [40.69, 40.64, 39.86],
        "longitude": [-74.17, -73.78, -104.67],
        "opening_hours": ["Mo-Fr 09:00-12:00", "Mo-Su 18:00-20:00", "24/7"],
    }
    return replace(histories, items=histories.items.with_columns(pl.Series(*column) for column in facts.items()))


def _left(histories: Histories, filters: RequestFilters, **context: Any) -> list[str]:
    query = question(histories, "Ada", RequestContext(**context))
    seen_idx = query["item_idx"][:-1].to_numpy()
    allowed_I = candidates(ItemFacts(histories.items), filters, query, RequestContext(**context), seen_idx).allowed_I
    return histories.items.filter(allowed_I)["item_id"].to_list()


@pytest.mark.parametrize(
    ("context", "left"),
    [
        ({"at": "2013-01-01T19:00"}, ["i0"]),  # only the first event is known by then, at Newark
        ({"at": "2013-01-02T08:00"}, ["i1"]),
        ({}, ["i1"]),  # the last event has no coordinates, the one before has
        ({"place": "39.8,-104.6"}, ["i2"]),
    ],
)
def test_near_goes_by_the_place_said_else_by_the_last_one_known(
    travels: Histories, context: dict[str, str], left: list[str]
) -> None:
    assert _left(travels, RequestFilters(near_km=15), **context) == left


def test_near_without_any_place_is_refused(make_histories: MakeHistories, travels: Histories) -> None:
    lost = replace(make_histories([NOWHERE, NOWHERE | {"at": "2013-01-04T10:00"}]), items=travels.items)
    with pytest.raises(
        DataError, match=r"^The filter near_km needs a place, but none of the 2 earlier events of user Ada has"
    ):
        _left(lost, RequestFilters(near_km=15))


@pytest.mark.parametrize(
    ("at", "left"),
    [
        ("2013-01-02T09:00", ["i0", "i2"]),  # a Wednesday, on Ada's clock
        ("2013-01-02T14:00Z", ["i0", "i2"]),
        ("2013-01-06T19:59", ["i1", "i2"]),
        (None, ["i0", "i2"]),  # right after the last event, Thursday at ten
    ],
)
def test_open_goes_by_the_users_clock_at_that_time(travels: Histories, at: str | None, left: list[str]) -> None:
    assert _left(travels, RequestFilters(open_now=True), at=at) == left


def test_unseen_goes_by_what_was_chosen_before_the_request(travels: Histories) -> None:
    assert _left(travels, RequestFilters(unseen=True), at="2013-01-01T19:00") == ["i1", "i2"]
    assert _left(travels, RequestFilters(unseen=True)) == ["i2"]


def test_listed_items_are_left_in_and_excluded_ones_out(travels: Histories) -> None:
    assert _left(travels, RequestFilters(only=["i0", "i2"], exclude=["i2"])) == ["i0"]


def test_no_filters_leave_everything_and_say_nothing(travels: Histories) -> None:
    query = question(travels, "Ada", RequestContext())
    selection = candidates(
        ItemFacts(travels.items), RequestFilters(), query, RequestContext(), query["item_idx"][:-1].to_numpy()
    )
    assert (selection.num_allowed, selection.reason) == (3, "")


@pytest.mark.parametrize(
    ("rows", "location", "tells"),
    [([FIRST], "context", True), ([FIRST], "outcome", False), ([NOWHERE], "context", False)],
)
def test_prompts_show_places_where_events_have_them_beforehand(
    make_histories: MakeHistories, rows: list[dict[str, Any]], location: str, tells: bool
) -> None:
    assert places_in_prompts(make_histories(rows, location=location)) == tells
