"""Events that happened since the histories were prepared, kept in SQLite or PostgreSQL."""

import re
from pathlib import Path

from ...errors import StoreError
from .event_store import EventStore

__all__ = ["EventStore", "open_store"]


def open_store(address: str | Path) -> EventStore:
    """The store at a `postgresql://` URL, else in a SQLite file; it is made where there is none.

    Raises:
        StoreError: the store cannot be reached or read, or was written by a newer version. Shows no password.
    """
    if str(address).startswith(("postgresql://", "postgres://")):
        from .postgres import PostgresStore  # here, as psycopg comes with an extra

        return PostgresStore(str(address))
    scheme = re.match(r"[\w.+-]+(?=://)", str(address))
    if scheme:  # and not the rest, which may hold a password
        raise StoreError(f"serve.events should be a file or a postgresql:// URL, not {scheme[0]}://; change it.")
    from .sqlite import SqliteStore

    return SqliteStore(Path(address))
