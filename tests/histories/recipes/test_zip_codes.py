"""States and time zones of postal codes."""

import itertools
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from whereupon.histories.recipes.zip_codes import _UNITED_STATES, places_of


@pytest.mark.parametrize(
    ("code", "place", "time_zone"),
    [
        ("10001", "New York", "America/New_York"),
        ("00501", "New York", "America/New_York"),
        ("90210", "California", "America/Los_Angeles"),
        ("60614", "Illinois", "America/Chicago"),
        ("80302", "Colorado", "America/Denver"),
        ("85711", "Arizona", "America/Phoenix"),
        ("20500", "Washington, D.C.", "America/New_York"),
        ("20101", "Virginia", "America/New_York"),
        ("73301", "Texas", "America/Chicago"),
        ("79901", "Texas", "America/Denver"),
        ("37201", "Tennessee", "America/Chicago"),
        ("37902", "Tennessee", "America/New_York"),
        ("96813", "Hawaii", "Pacific/Honolulu"),
        ("55455-0110", "Minnesota", "America/Chicago"),
        ("554550110", "Minnesota", "America/Chicago"),
        (" 99801 ", "Alaska", "America/Anchorage"),
        ("m5v 2t6", "Ontario", "America/Toronto"),
        ("V6B4Y8", "British Columbia", "America/Vancouver"),
    ],
)
def test_code_has_its_state_and_time_zone(code: str, place: str, time_zone: str) -> None:
    assert places_of(pl.Series([code])).row(0) == (place, time_zone)


@pytest.mark.parametrize("code", [None, "", "00000", "99999", "09645", "96349", "1234", "123456", "SW1A 1AA", "26900"])
def test_code_of_nowhere_has_no_place(code: str | None) -> None:
    assert places_of(pl.Series([code], dtype=pl.String)).row(0) == (None, None)


def test_order_and_repetitions_are_kept() -> None:
    assert places_of(pl.Series(["10001", "x", "90210", "10001"]))["place"].to_list() == [
        "New York", None, "California", "New York",
    ]  # fmt: skip


def test_ranges_are_in_order_and_do_not_overlap_and_zones_exist() -> None:
    bounds = [bound for first, last, *_ in _UNITED_STATES for bound in (first, last)]
    assert bounds == sorted(bounds)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(_UNITED_STATES))
    assert all(ZoneInfo(row[3]) for row in _UNITED_STATES)
    states = {row[2] for row in _UNITED_STATES}
    assert len(states) == 50 + 4  # and Washington, D.C., Puerto Rico, the Virgin Islands and Guam
