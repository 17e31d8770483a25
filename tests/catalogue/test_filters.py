"""Filters as values, what they leave, and the sentence that says so."""

import json
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue import Filters, ItemFacts, Selection, select_items
from whereupon.errors import CatalogueError

NIGHT = datetime(2024, 1, 6, 3)  # a Saturday
HERE = {"near_latitude": 52.52, "near_longitude": 13.405}


def _town() -> ItemFacts:
    """Two bars, a café and a kiosk in Berlin, a bar in Potsdam, and a ghost of which nothing is known."""
    return ItemFacts(
        pl.DataFrame(
            {
                "item_id": ["bar", "pub", "cafe", "kiosk", "potsdam", "ghost"],
                "latitude": [52.52, 52.521, 52.519, 52.522, 52.39, None],
                "longitude": [13.405, 13.405, 13.406, 13.404, 13.06, None],
                "category": ["Bar", "Bar", "Café", "Kiosk", "Bar", None],
                "opening_hours": ["Fr-Sa 20:00-04:00", "Mo-Fr 10:00-18:00", "unknown", "9 to 5", "24/7", None],
            }
        )
    )


@pytest.fixture
def town() -> ItemFacts:
    return _town()


def _left(facts: ItemFacts, **values: Any) -> list[str]:
    allowed_I = select_items(facts, Filters(**values), np.array([0, 2, 0])).allowed_I
    return facts.items.filter(allowed_I)["item_id"].to_list()


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({}, ["bar", "pub", "cafe", "kiosk", "potsdam", "ghost"]),
        ({"near_km": 2, **HERE}, ["bar", "pub", "cafe", "kiosk"]),
        ({"near_km": 50, **HERE}, ["bar", "pub", "cafe", "kiosk", "potsdam"]),
        ({"category": "bar"}, ["bar", "pub", "potsdam"]),
        ({"category": ["Bar", "CAFÉ"]}, ["bar", "pub", "cafe", "potsdam"]),
        ({"open_at": NIGHT}, ["bar", "potsdam"]),
        ({"open_at": NIGHT, "keep_unknown_hours": True}, ["bar", "cafe", "kiosk", "potsdam", "ghost"]),
        ({"keep_unknown_hours": True}, ["bar", "pub", "cafe", "kiosk", "potsdam", "ghost"]),
        ({"unseen": True}, ["pub", "kiosk", "potsdam", "ghost"]),
        ({"only": ["ghost", "bar", "ghost"]}, ["bar", "ghost"]),
        ({"only": []}, []),
        ({"exclude": ["ghost", "bar"]}, ["pub", "cafe", "kiosk", "potsdam"]),
        ({"exclude": []}, ["bar", "pub", "cafe", "kiosk", "potsdam", "ghost"]),
        ({"only": ["bar", "pub"], "exclude": ["bar"]}, ["pub"]),
        ({"near_km": 2, **HERE, "category": "bar", "open_at": NIGHT}, ["bar"]),
        ({"near_km": 2, **HERE, "category": "bar", "open_at": NIGHT, "unseen": True}, []),
    ],
)
def test_filters_leave_what_fits_them_all(town: ItemFacts, values: dict[str, Any], left: list[str]) -> None:
    assert _left(town, **values) == left


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, ""),
        (
            {"near_km": 2, **HERE, "category": "bar", "open_at": NIGHT, "unseen": True},
            "Of 6 items, 4 are within 2 km of 52.5200,13.4050 (1 without coordinates), 2 of these are of category bar, "
            "1 of these is open at 2024-01-06 03:00 local time, none of these is new to this user.",
        ),
        (
            {"near_km": 0.5, "near_latitude": 0, "near_longitude": 0, "category": "bar", "unseen": True},
            "Of 6 items, none is within 0.5 km of 0.0000,0.0000 (1 without coordinates).",
        ),
        (
            {"open_at": NIGHT},
            "Of 6 items, 2 are open at 2024-01-06 03:00 local time (1 without opening hours, 1 with opening hours that "
            "cannot be read, 1 with opening hours that do not say).",
        ),
        (
            {"open_at": NIGHT, "keep_unknown_hours": True, "exclude": ["bar", "pub"]},
            "Of 6 items, 5 are open at 2024-01-06 03:00 local time (1 without opening hours and kept, 1 with opening "
            "hours that cannot be read and kept, 1 with opening hours that do not say and kept), 4 of these are not "
            "among the 2 excluded.",
        ),
        ({"only": ["ghost"]}, "Of 6 items, 1 is among the 1 listed."),
        ({"only": ["ghost"], "category": "Kiosk"},
         "Of 6 items, 1 is of category Kiosk (1 without category), none of these is among the 1 listed."),
        ({"category": ["Bar", "Kiosk"]}, "Of 6 items, 4 are of category Bar or Kiosk (1 without category)."),
        ({"category": ["bar", "BAR", "Bar", "kiosk"]},
         "Of 6 items, 4 are of category bar, BAR or 2 others (1 without category)."),
    ],
)  # fmt: skip
def test_reason_counts_filter_by_filter_and_what_nothing_is_known_of(
    town: ItemFacts, values: dict[str, Any], reason: str
) -> None:
    selection = select_items(town, Filters(**values), np.array([0]))
    assert selection.reason == reason
    assert selection.num_allowed == sum(selection.allowed_I)


def test_catalogue_of_one_item_is_reported_in_the_singular() -> None:
    facts = ItemFacts(pl.DataFrame({"item_id": ["bar"], "category": ["Bar"]}))
    assert select_items(facts, Filters(category="bar")).reason == "Of 1 item, 1 is of category bar."
    none = select_items(facts, Filters(only=[]))
    assert (none.num_allowed, none.reason) == (0, "Of 1 item, none is among the 0 listed.")


def test_filter_behind_an_empty_one_is_still_checked(town: ItemFacts) -> None:
    with pytest.raises(CatalogueError, match="There is no item 'barr'"):
        select_items(town, Filters(category="bar", only=[], exclude=["barr"]))


def test_unseen_without_a_history_is_a_defect(town: ItemFacts) -> None:
    with pytest.raises(ValueError, match="`unseen` needs"):
        select_items(town, Filters(unseen=True))


def test_empty_history_has_seen_nothing(town: ItemFacts) -> None:
    assert select_items(town, Filters(unseen=True), np.array([], np.int64)).num_allowed == 6


@pytest.mark.parametrize("item", [-1, 6])
def test_history_of_another_catalogue_is_a_defect(town: ItemFacts, item: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 5"):
        select_items(town, Filters(unseen=True), np.array([1, item]))


single: dict[str, st.SearchStrategy[Any]] = {
    "near": st.builds(lambda km: {"near_km": km, **HERE}, st.sampled_from([0.05, 2.0, 50.0])),
    "category": st.builds(lambda names: {"category": names}, st.lists(st.sampled_from(["bar", "KIOSK"]), min_size=1)),
    "open": st.builds(
        lambda at, keep: {"open_at": at, "keep_unknown_hours": keep},
        st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 8)),
        st.booleans(),
    ),
    "unseen": st.builds(lambda on: {"unseen": on}, st.booleans()),
    "only": st.builds(lambda ids: {"only": ids}, st.lists(st.sampled_from(["bar", "pub", "kiosk", "ghost"]))),
    "exclude": st.builds(lambda ids: {"exclude": ids}, st.lists(st.sampled_from(["bar", "potsdam", "ghost"]))),
}


@given(st.fixed_dictionaries({}, optional=single), st.lists(st.integers(0, 5)))
@settings(deadline=None)
def test_several_filters_are_the_intersection_of_each_alone(parts: dict[str, dict[str, Any]], seen: list[int]) -> None:
    facts = _town()
    seen_idx = np.array(seen, np.int64)

    def selected(values: dict[str, Any]) -> Selection:
        return select_items(facts, Filters(**values), seen_idx)

    together = selected({name: value for part in parts.values() for name, value in part.items()})
    expected = set(range(6)).intersection(*(np.flatnonzero(selected(part).allowed_I) for part in parts.values()))
    assert set(np.flatnonzero(together.allowed_I)) == expected
    assert not together.reason or (" none " in together.reason) == (not expected)


# Filters as values


ALL = {
    "near_km": 1.5, **HERE, "category": ["Bar", "Café"], "open_at": "2024-01-06T03:00:00", "keep_unknown_hours": 1,
    "unseen": 1, "only": ["a", "b"], "exclude": ["c"],
}  # fmt: skip


def test_flat_filters_are_strings_numbers_and_lists_and_come_back() -> None:
    filters = Filters.read(ALL)
    assert filters.flat() == ALL
    assert all(type(value) is not bool for value in filters.flat().values())
    assert Filters.read(json.loads(json.dumps(filters.flat()))) == filters
    assert (Filters().flat(), Filters.read({})) == ({}, Filters())
    assert Filters.read({"only": []}).flat() == {"only": []}


@given(st.fixed_dictionaries({}, optional=single))
def test_any_filters_come_back_from_their_flat_form(parts: dict[str, dict[str, Any]]) -> None:
    filters = Filters(**{name: value for part in parts.values() for name, value in part.items()})
    assert Filters.read(json.loads(json.dumps(filters.flat()))) == filters


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"near": 2}, "There is no filter 'near'; did you mean near_km?"),
        ({"zzz": 2}, "There is no filter 'zzz'; known are near_km, near_latitude,"),
        ({"near_km": 2}, "The filters should name near_km, near_latitude and near_longitude together or none"),
        (
            {"near_km": 0, **HERE},
            "The filter near_km should be greater than 0 (found 0); correct it.",
        ),
        (
            {"near_km": "inf", **HERE},
            "The filter near_km should be a finite number (found 'inf')",
        ),
        ({"near_km": 1, **HERE, "near_latitude": 91}, "The filter near_latitude should be less"),
        ({"category": []}, "The filter category should have at least 1 item"),
        ({"only": [3]}, "The filter only.0 should be a valid string (found 3)"),
        ({"open_at": "soon"}, "The filter open_at should be a valid datetime"),
        ({"open_at": "2024-01-06T03:00Z"}, "The filter open_at should not have timezone info"),
        ({"open_at": 1704510000}, "The filter open_at should not have timezone info"),
    ],
)
def test_filters_that_cannot_be_read_are_one_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        Filters.read(values)
    assert str(refused.value).startswith(said)
