"""What every event store does, in SQL that SQLite and PostgreSQL share."""

from __future__ import annotations

import contextlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from ...errors import ConflictError, StoreError
from .event import Event, PastEvent

SCHEMA_VERSION = 1
COLUMNS = ("event_id", "user_id", *PastEvent.model_fields)
NAMES = ", ".join(COLUMNS)

T = TypeVar("T")


class Appended(NamedTuple):
    """How many events were new, and how many had been stored before with the same content."""

    accepted: int
    duplicates: int


class EventStore(ABC):
    """Events by user, safe to call from several threads. Every method raises StoreError where the store fails."""

    MOST_CONNECTIONS = 16  # at once; further threads wait
    SELECT = f"SELECT {NAMES} FROM whereupon_events"
    MARK = "?"  # stands for a value in a statement

    def __init__(self, place: str) -> None:
        """`place`: how to call the database in messages."""
        self._place = place
        self._turns = threading.BoundedSemaphore(self.MOST_CONNECTIONS)
        self._idle: list[Any] = []
        self._is_closed = False
        try:
            self._run(self._make_tables)
        except BaseException:
            self.close()
            raise

    def append(self, events: Sequence[Event]) -> Appended:
        """Store all events or none; once this returns they are on disk.

        After a StoreError it is unknown whether they were stored. Appending them again is safe in any case.

        Raises:
            ConflictError: an event's id was stored, or comes earlier in `events`, with other content.
        """
        new: dict[str, Event] = {}
        for event in events:
            check_same(event, new.setdefault(event.event_id, event))
        accepted = self._run(lambda connection: self._insert(connection, list(new.values()))) if new else 0
        return Appended(accepted, len(events) - accepted)

    def of_user(self, user_id: str, limit: int) -> list[Event]:
        """The user's `limit` latest events, by time and then in the order in which they were stored."""
        query = f"{self.SELECT} WHERE user_id = {self.MARK} ORDER BY time DESC, seq DESC LIMIT {self.MARK}"
        return [to_event(row) for row in reversed(self._rows(query, user_id, limit))]

    def forget(self, user_id: str) -> int:
        """Delete all events of a user; how many there were. Once this returns, the deletion is on disk."""
        return self._run(lambda connection: self._delete(connection, user_id))

    def all(self) -> list[Event]:
        """Every event, by time and then in the order in which they were stored."""
        return [to_event(row) for row in self._rows(f"{self.SELECT} ORDER BY time, seq")]

    def users(self) -> list[str]:
        """Every user with an event, in the order of the ids."""
        return [row[0] for row in self._rows("SELECT DISTINCT user_id FROM whereupon_events ORDER BY user_id")]

    def count(self) -> int:
        """How many events there are, of all users."""
        return int(self._rows("SELECT count(*) FROM whereupon_events")[0][0])

    def close(self) -> None:
        """Give up all connections, those in use as soon as they come back; the store cannot be used afterwards."""
        self._is_closed = True
        self._drop_idle()

    @abstractmethod
    def _connect(self) -> Any: ...

    @abstractmethod
    def _run(self, work: Callable[[Any], T]) -> T:
        """What `work` makes of a borrowed connection, with the database's errors as StoreError."""

    @abstractmethod
    def _make_tables(self, connection: Any) -> None:
        """Make the tables where there are none, and check their version."""

    @abstractmethod
    def _insert(self, connection: Any, new: list[Event]) -> int:
        """Store the events, each id once; how many were not there. Raises ConflictError."""

    def _delete(self, connection: Any, user_id: str) -> int:
        """Delete the events of a user; how many there were."""
        query = f"DELETE FROM whereupon_events WHERE user_id = {self.MARK}"
        return int(connection.execute(query, (user_id,)).rowcount)

    def _rows(self, query: str, *values: Any) -> list[Any]:
        return self._run(lambda connection: list(connection.execute(query, values).fetchall()))

    @contextlib.contextmanager
    def _borrow(self) -> Iterator[Any]:
        """A connection for this thread alone; after an exception it is closed, which rolls back what it began."""
        with self._turns:
            if self._is_closed:
                raise StoreError("The event store was closed; open it again.")
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
            if self._is_closed:
                self._drop_idle()

    def _drop_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _check_version(self, connection: Any) -> None:
        found = connection.execute("SELECT max(version) FROM whereupon_schema").fetchone()[0]
        if found != SCHEMA_VERSION:
            newer = found is not None and found > SCHEMA_VERSION
            advice = "update whereupon" if newer else "name another place, or move what is there out of the way"
            raise StoreError(
                f"{self._place} should hold events in schema {SCHEMA_VERSION} but has schema {found}; {advice}."
            )


def check_same(event: Event, known: Event) -> None:
    """Raises ConflictError unless both have the same content."""
    # As JSON, in which true is not 1.0.
    if event is not known and event.model_dump_json() != known.model_dump_json():
        raise ConflictError(
            f"The event {event.event_id!r} is stored already with other content; send the new content under a new id."
        )


def to_row(event: Event, time: datetime | str) -> list[Any]:
    """The values of COLUMNS, with `time` in the form of the database and the context as JSON text."""
    row = {**dict(event), "time": time, "context": json.dumps(event.context, ensure_ascii=False)}
    return [row[name] for name in COLUMNS]


def to_event(row: Sequence[Any]) -> Event:
    """The event of a row; nothing is checked a second time, since clocks and bounds may have changed meanwhile."""
    values = dict(zip(COLUMNS, row, strict=True))
    time = values["time"]
    values["time"] = (time if isinstance(time, datetime) else datetime.fromisoformat(time)).astimezone(UTC)
    values["context"] = json.loads(values["context"])
    return Event.model_construct(**values)
