"""What all stores have in common: columns, events as rows, and which events are the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ...errors import ConflictError, StoreError
from .event import Event, PastEvent

SCHEMA_VERSION = 1
COLUMNS = ("event_id", "user_id", *PastEvent.model_fields)
USERS = "SELECT DISTINCT user_id FROM whereupon_events ORDER BY user_id"


class Appended(NamedTuple):
    """How many events were new, and how many had been stored before with the same content."""

    accepted: int
    duplicates: int


def distinct(events: Sequence[Event]) -> list[Event]:
    """Each id once, in order. Raises ConflictError where an id comes with two contents."""
    first: dict[str, Event] = {}
    for event in events:
        check_same(event, first.setdefault(event.event_id, event))
    return list(first.values())


def check_same(event: Event, known: Event) -> None:
    """Raises ConflictError unless both have the same content."""
    # As JSON, in which true is not 1.0.
    if event is not known and event.model_dump_json() != known.model_dump_json():
        raise ConflictError(
            f"The event {event.event_id!r} came before with other content; an id names one event for good, "
            "so send what is new under a new id."
        )


def check_version(found: int | None, place: str) -> None:
    """Raises StoreError unless the schema found at `place` is the one that this version writes."""
    if found != SCHEMA_VERSION:
        newer = found is not None and found > SCHEMA_VERSION
        advice = "update whereupon" if newer else "name another place, or move what is there out of the way"
        raise StoreError(f"{place} should hold events in schema {SCHEMA_VERSION} but has schema {found}; {advice}.")


def to_row(event: Event) -> tuple[Any, ...]:
    """The values of COLUMNS; the context as JSON text."""
    row = {name: getattr(event, name) for name in COLUMNS}
    row["context"] = json.dumps(event.context, ensure_ascii=False)
    return tuple(row.values())


def to_event(row: Sequence[Any]) -> Event:
    """The event of a row; nothing is checked a second time, since clocks and bounds may have changed meanwhile."""
    values = dict(zip(COLUMNS, row, strict=True))
    time = values["time"]
    values["time"] = (time if isinstance(time, datetime) else datetime.fromisoformat(time)).astimezone(UTC)
    values["context"] = json.loads(values["context"])
    return Event.model_construct(**values)
