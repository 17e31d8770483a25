"""What an event may be, and what it becomes."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from whereupon.recommend.store.event import MAX_CONTEXT_COLUMNS, Event

PLAIN = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "time": "2026-03-01T18:30:00Z"}


def made(**fields: Any) -> Event:
    return Event.model_validate({**PLAIN, **fields})


def fault(**fields: Any) -> tuple[str, str]:
    """Where the only fault of an event lies, and what is said of it."""
    with pytest.raises(ValidationError) as raised:
        made(**fields)
    errors = raised.value.errors()
    assert len(errors) == 1
    return ".".join(map(str, errors[0]["loc"])), errors[0]["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("text", "utc_offset_minutes"),
    [
        ("2026-03-01T18:30:00Z", None),
        ("2026-03-01T18:30:00+00:00", None),
        ("2026-03-01T20:30:00+02:00", 120),
        ("2026-03-01 13:00-0530", -330),
    ],
)
def test_time_is_kept_in_utc_and_its_offset_is_the_users_unless_it_is_zero(
    text: str, utc_offset_minutes: int | None
) -> None:
    event = made(time=text)
    assert event.time == datetime(2026, 3, 1, 18, 30, tzinfo=UTC)
    assert event.time.tzinfo is UTC
    assert event.utc_offset_minutes == utc_offset_minutes


def test_offset_that_is_given_counts_more_than_that_of_the_time() -> None:
    assert made(time="2026-03-01T18:30:00+00:00", utc_offset_minutes=60).utc_offset_minutes == 60
    assert made(time="2026-03-01T18:30:00+02:00", utc_offset_minutes=0).utc_offset_minutes == 0


def test_datetime_with_a_time_zone_is_taken_as_well() -> None:
    time = datetime(2026, 3, 1, 18, 30, 0, 123456, timezone(timedelta(hours=2)))
    assert (made(time=time).time, made(time=time).utc_offset_minutes) == (time, 120)


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2026-03-01T18:30:00", "should say its offset"),
        ("2026-03-01", "should say its offset"),
        ("yesterday", "should be a time in ISO 8601"),
        (1772389800, "should be a time in ISO 8601"),
        (None, "should be a time in ISO 8601"),
        ("0001-01-01T00:00:00+14:00", "should lie between 1900 and a day from now"),
        ((datetime.now(UTC) + timedelta(days=2)).isoformat(), "should lie between 1900 and a day from now"),
    ],
)
def test_time_without_offset_or_beyond_all_bounds_is_refused(time: Any, said: str) -> None:
    where, message = fault(time=time)
    assert where == "time"
    assert said in message


def test_time_within_a_day_from_now_is_taken() -> None:
    soon = datetime.now(UTC) + timedelta(hours=23)
    assert made(time=soon.isoformat()).time == soon


@pytest.mark.parametrize("name", ["event_id", "user_id", "item_id", "event"])
@pytest.mark.parametrize("text", ["", "  ", "x" * 201, "a\nb", "a\x00b", "a\x7fb", "a\u2028b", "\ud800", 5])
def test_label_that_is_empty_long_or_unprintable_is_refused(name: str, text: Any) -> None:
    assert fault(**{name: text})[0] == name


def test_label_loses_surrounding_spaces_and_keeps_every_script() -> None:
    assert made(item_id="  喫茶店 №5 👩‍🍳 ").item_id == "喫茶店 №5 👩‍🍳"


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"latitude": 90.1, "longitude": 0}, "latitude"),
        ({"latitude": 0, "longitude": -180.1}, "longitude"),
        ({"latitude": float("nan"), "longitude": 0}, "latitude"),
        ({"latitude": "40.7", "longitude": 0}, "latitude"),
        ({"latitude": 40.7}, ""),
        ({"longitude": 40.7}, ""),
        ({"value": float("inf")}, "value"),
        ({"value": True}, "value"),
        ({"utc_offset_minutes": 841}, "utc_offset_minutes"),
        ({"utc_offset_minutes": 7.5}, "utc_offset_minutes"),
        ({"time": "2026-03-01T18:30:00+15:00"}, "utc_offset_minutes"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_number_that_is_none_or_out_of_range_is_refused(fields: dict[str, Any], where: str) -> None:
    assert fault(**fields)[0] == where


def test_context_keeps_its_kinds_in_the_order_of_names() -> None:
    context = made(context={"rain": True, "mood": " fine ", "guests": 3, "note": None}).context
    assert json.dumps(context) == '{"guests": 3.0, "mood": "fine", "note": null, "rain": true}'


@pytest.mark.parametrize(
    "context",
    [
        {"a": [1]}, {"a": {"b": 1}}, {"a": float("nan")}, {"a": 2**53 + 1}, {"a": "x" * 501}, {"a": "b\nc"},
        {"": 1}, {"a\nb": 1}, {"x" * 201: 1}, {"time": "now"}, {"event_id": "e2"},
        {str(n): n for n in range(MAX_CONTEXT_COLUMNS + 1)}, [], "rain",
    ],
)  # fmt: skip
def test_context_that_is_nested_large_or_unprintable_is_refused(context: Any) -> None:
    assert fault(context=context)[0].startswith("context")


def test_integer_that_no_float_holds_is_reported_to_become_text() -> None:
    assert "write it as text" in fault(context={"tweet": 2**60 + 1})[1]
