"""Opening hours at a local minute: past midnight, around the week, unreadable, and against a loop over days."""

import sys
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue import opening_hours
from whereupon.catalogue.opening_hours import CLOSED, OPEN, UNKNOWN, Timetable
from whereupon.errors import CatalogueError

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
SHOP = "Mo-Fr 09:00-17:00; Sa 10:00-14:00"
CLUB = "Fr-Sa 22:00-04:00"


def _state(text: str, local: str) -> int:
    return int(Timetable([text]).states(datetime.fromisoformat(local))[0])


@pytest.mark.parametrize(
    ("text", "local", "state"),
    [  # 2024-01-01 is a Monday
        ("24/7", "2024-01-01T00:00", OPEN),
        ("24/7", "2024-01-07T23:59:59.999", OPEN),
        (SHOP, "2024-01-01T08:59:59", CLOSED),
        (SHOP, "2024-01-01T09:00", OPEN),
        (SHOP, "2024-01-01T16:59", OPEN),
        (SHOP, "2024-01-01T17:00", CLOSED),
        (SHOP, "2024-01-06T13:59", OPEN),
        (SHOP, "2024-01-06T14:00", CLOSED),
        (SHOP, "2024-01-07T12:00", CLOSED),
        ("Sa-Mo 10:00-12:00", "2024-01-07T11:00", OPEN),  # Saturday to Monday, around the week
        ("Sa-Mo 10:00-12:00", "2024-01-01T11:00", OPEN),
        ("Sa-Mo 10:00-12:00", "2024-01-02T11:00", CLOSED),
        ("Mo 09:00-12:00,13:00-17:00", "2024-01-01T12:30", CLOSED),
        ("Mo 09:00-12:00,13:00-17:00", "2024-01-01T13:30", OPEN),
        ("Mo-Su 08:00-20:00; We off", "2024-01-03T12:00", CLOSED),
        ("Mo 23:30-24:00", "2024-01-01T23:29", CLOSED),
        ("Mo 23:30-24:00", "2024-01-01T23:59", OPEN),
        (f"  {SHOP}\n", "2024-01-01T10:00", OPEN),
        ("unknown", "2024-01-01T10:00", UNKNOWN),
        ("Mo 10:00-12:00 unknown", "2024-01-01T11:00", UNKNOWN),
        ("Mo 10:00-12:00 unknown", "2024-01-01T12:00", CLOSED),
        ("Jul-Aug 10:00-12:00", "2024-07-03T11:00", OPEN),
        ("Jul-Aug 10:00-12:00", "2024-01-03T11:00", CLOSED),
        ("PH off; 10:00-12:00", "2024-12-25T11:00", OPEN),  # public holidays are days like others
        ("24/7", "9999-12-31T23:59", OPEN),
    ],
)
def test_state_is_that_of_the_local_minute(text: str, local: str, state: int) -> None:
    assert _state(text, local) == state


@pytest.mark.parametrize(
    ("local", "state"),
    [
        ("2024-01-05T03:00", CLOSED),  # the night from Thursday to Friday
        ("2024-01-05T22:00", OPEN),
        ("2024-01-06T03:59", OPEN),
        ("2024-01-06T04:00", CLOSED),
        ("2024-01-07T00:00", OPEN),
        ("2024-01-07T03:59", OPEN),
        ("2024-01-07T22:00", CLOSED),
        ("2024-01-08T00:30", CLOSED),
    ],
)
@pytest.mark.parametrize("text", [CLUB, "Fr-Sa 22:00-28:00", "Fr,Sa 22:00-24:00; Sa,Su 00:00-04:00, Sa 22:00-24:00"])
def test_night_belongs_to_the_day_on_which_it_began(text: str, local: str, state: int) -> None:
    assert _state(text, local) == state


def test_night_from_sunday_goes_on_into_monday() -> None:
    assert [_state("Su 22:00-02:00", f"2024-01-0{day}T01:00") for day in (7, 8, 9)] == [CLOSED, OPEN, CLOSED]


@pytest.mark.parametrize(
    "text",
    ["", "foo", "9-5", "Mo-Fr 09:00-25:99", "Mo-Fr 09:00–17:00", "\x00", "täglich 9 Uhr", "Mo" * 5000],  # noqa: RUF001
)
def test_text_that_is_no_opening_hours_is_unknown_and_marked(text: str) -> None:
    table = Timetable(["24/7", text, "off"])
    assert table.unreadable_D.tolist() == [False, True, False]
    assert table.states(datetime(2024, 1, 1, 10)).tolist() == [OPEN, UNKNOWN, CLOSED]


@given(st.lists(st.text(max_size=30) | st.lists(st.sampled_from([*DAYS, " ", "-", ",", ";", "09:00", "26:00", "off", "+", "||", "PH", "week", "53", "[", "]", "easter", "sunset", "Feb 30"]), max_size=10).map("".join), max_size=3), st.datetimes())  # fmt: skip  # noqa: E501
@settings(deadline=None)
def test_no_text_and_no_time_is_a_crash(texts: list[str], local: datetime) -> None:
    table = Timetable(texts)
    states = table.states(local)
    assert states.shape == (len(texts),)
    assert set(states.tolist()) <= {CLOSED, OPEN, UNKNOWN}
    assert (states[table.unreadable_D] == UNKNOWN).all()


def test_no_texts_have_no_states() -> None:
    assert Timetable([]).states(datetime(2024, 1, 1)).tolist() == []
    assert Timetable([]).unreadable_D.tolist() == []


rules = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1439), st.integers(1, 1440))


def _text(rule: tuple[int, int, int, int]) -> str:
    first, last, start, length = rule
    end = start + length
    return f"{DAYS[first]}-{DAYS[last]} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"


def _is_open(rule: tuple[int, int, int, int], local: datetime) -> bool:
    """Whether today's hours or what is left of yesterday's hold the minute."""
    first, last, start, length = rule
    for back in (0, 1):
        day = local.date() - timedelta(days=back)
        minute = (local - datetime.combine(day, datetime.min.time())) // timedelta(minutes=1)
        if (day.weekday() - first) % 7 <= (last - first) % 7 and start <= minute < start + length:
            return True
    return False


@given(st.lists(rules, min_size=1, max_size=4), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))
@settings(deadline=None)
def test_weekly_hours_are_those_of_a_loop_over_days(weekly: list[tuple[int, int, int, int]], local: datetime) -> None:
    states = Timetable([_text(rule) for rule in weekly]).states(local)
    assert states.tolist() == [OPEN if _is_open(rule, local) else CLOSED for rule in weekly]


def test_each_text_is_laid_out_once_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    table, laid_out = Timetable([SHOP, CLUB]), list[date]()
    changes = opening_hours._changes
    monkeypatch.setattr(opening_hours, "_changes", lambda hours, day: laid_out.append(day) or changes(hours, day))
    for minute in (0, 30, 59):
        table.states(datetime(2024, 1, 1, 9, minute))
    assert laid_out == [date(2024, 1, 1)] * 2
    for day in (2, 3, 4, 5, 1):  # the first day is forgotten by then
        table.states(datetime(2024, 1, day))
    assert laid_out == [date(2024, 1, day) for day in (1, 2, 3, 4, 5, 1) for _ in range(2)]
    assert table.states(datetime(2024, 1, 1, 9)).tolist() == [OPEN, CLOSED]


def test_missing_package_is_reported_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opening_hours", None)
    with pytest.raises(CatalogueError, match=r"opening-hours-py, .* pip install 'whereupon\[hours\]'\.$"):
        Timetable([SHOP]).states(datetime(2024, 1, 1))


def test_states_are_small_integers() -> None:
    assert Timetable([SHOP]).states(datetime(2024, 1, 1)).dtype == np.int8
