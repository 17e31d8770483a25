"""Where events are kept: what every store does, and which one an address means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ...errors import StoreError
from .event import Event
from .rows import Appended

_POSTGRES = ("postgresql://", "postgres://")


class EventStore(Protocol):
    """Events by user, safe to call from several threads. Every method raises StoreError where the store fails."""

    def append(self, events: Sequence[Event]) -> Appended:
        """Store all events or none; once this returns they are on disk.

        After a StoreError it is unknown whether they were stored. Appending them again is safe in any case.

        Raises:
            ConflictError: an event's id was stored, or comes earlier in `events`, with other content.
        """
        ...

    def of_user(self, user_id: str, limit: int) -> list[Event]:
        """The user's `limit` latest events, by time and then in the order in which they were stored."""
        ...

    def users(self) -> list[str]:
        """Every user with an event, in the order of the ids."""
        ...

    def count(self) -> int:
        """How many events there are, of all users."""
        ...

    def close(self) -> None:
        """Give up all connections; nothing can be asked afterwards."""
        ...


def open_store(address: str | Path) -> EventStore:
    """The store at a `postgresql://` URL, else in a SQLite file; it is made where there is none.

    Raises:
        StoreError: the store cannot be reached or read, or was written by a newer version. Tells no password.
    """
    if str(address).startswith(_POSTGRES):
        from .postgres import PostgresStore  # here, as psycopg comes with an extra

        return PostgresStore(str(address))
    scheme = re.match(r"[\w.+-]+(?=://)", str(address))
    if scheme:  # and not the rest, which may hold a password
        raise StoreError(f"Events should go to a file or a postgresql:// URL, not to {scheme[0]}://; name such a one.")
    from .sqlite import SqliteStore

    return SqliteStore(Path(address))
