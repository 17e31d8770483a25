"""Events in one SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import StoreError
from .connections import Connections
from .event import Event
from .rows import COLUMNS, SCHEMA_VERSION, USERS, Appended, check_same, check_version, distinct, to_event, to_row

BUSY_S = 10.0  # how long to wait for another process that writes
MAX_CONNECTIONS = 16

_TABLES = (
    "CREATE TABLE IF NOT EXISTS whereupon_schema (version INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS whereupon_events (
        seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, item_id TEXT NOT NULL,
        time TEXT NOT NULL, utc_offset_minutes INTEGER, latitude REAL, longitude REAL, event TEXT, value REAL,
        context TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS whereupon_events_of_user ON whereupon_events (user_id, time, seq)",
)
_NAMES = ", ".join(COLUMNS)
_INSERT = (
    f"INSERT INTO whereupon_events ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (event_id) DO NOTHING"
)
_BY_ID = f"SELECT {_NAMES} FROM whereupon_events WHERE event_id = ?"
_OF_USER = f"SELECT {_NAMES} FROM whereupon_events WHERE user_id = ? ORDER BY time DESC, seq DESC LIMIT ?"

# By primary result code (sqlite.org/rescode.html): what was found, and what to do.
_PROBLEMS = {
    sqlite3.SQLITE_BUSY: f"is locked by another process for more than {BUSY_S:g} s; end that one or wait for it",
    sqlite3.SQLITE_FULL: "lies on a full disk; make room",
    sqlite3.SQLITE_IOERR: "lies on a disk that fails or is full; check it",
    sqlite3.SQLITE_CORRUPT: "is damaged; bring back a copy or move it away",
    sqlite3.SQLITE_NOTADB: "is no SQLite file; name another one or move it away",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check its folder and who may write there",
    sqlite3.SQLITE_READONLY: "cannot be written; check who may write there",
}


class SqliteStore:
    """See EventStore. Readers and the writer do not wait for each other (WAL), and a commit flushes the disk (FULL)."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser().absolute()  # so that neither chdir nor a name like :memory: is followed
        self._connections = Connections(self._connect, lambda one: not one.in_transaction, MAX_CONNECTIONS)
        # Threads of this process queue here and not at SQLite's lock, which is waited for by asking again and again.
        self._writing = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self._path.parent} should be a folder for events but cannot be made ({error}); name another one."
            ) from None
        try:
            self._check_schema()
        except BaseException:
            self.close()
            raise

    def append(self, events: Sequence[Event]) -> Appended:
        """See EventStore."""
        new, accepted = distinct(events), 0
        with self._transaction() as connection:
            for event in new:
                inserted = connection.execute(_INSERT, _cells(event)).rowcount
                accepted += inserted
                if not inserted:
                    check_same(event, to_event(connection.execute(_BY_ID, (event.event_id,)).fetchone()))
        return Appended(accepted, len(events) - accepted)

    def of_user(self, user_id: str, limit: int) -> list[Event]:
        """See EventStore."""
        with self._borrow() as connection:
            rows = connection.execute(_OF_USER, (user_id, limit)).fetchall()
        return [to_event(row) for row in reversed(rows)]

    def users(self) -> list[str]:
        """See EventStore."""
        with self._borrow() as connection:
            return [str(row[0]) for row in connection.execute(USERS)]

    def count(self) -> int:
        """See EventStore."""
        with self._borrow() as connection:
            return int(connection.execute("SELECT count(*) FROM whereupon_events").fetchone()[0])

    def close(self) -> None:
        """See EventStore."""
        self._connections.close()

    def _check_schema(self) -> None:
        with self._transaction() as connection:
            for statement in _TABLES:
                connection.execute(statement)
            versions = [int(row[0]) for row in connection.execute("SELECT version FROM whereupon_schema")]
            if not versions:
                connection.execute("INSERT INTO whereupon_schema VALUES (?)", (SCHEMA_VERSION,))
            check_version(max(versions, default=SCHEMA_VERSION), str(self._path))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            connection.close()
            raise
        if mode != "wal":
            connection.close()
            raise StoreError(
                f"{self._path} should lie on a local disk, where SQLite can keep a log beside it; move it."
            )
        return connection

    @contextlib.contextmanager
    def _borrow(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connections.borrow() as connection:
                yield connection
        except sqlite3.Error as error:
            raise self._problem(error) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: a connection that comes back amid its transaction is closed, which rolls it back."""
        with self._writing, self._borrow() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _problem(self, error: sqlite3.Error) -> StoreError:
        known = _PROBLEMS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "cannot be used; look into it")
        return StoreError(f"{self._path} should keep events but {known} ({error}).")


def _cells(event: Event) -> tuple[Any, ...]:
    """A row whose time is text of one width, so that its order is that of time."""
    row = to_row(event)
    at = COLUMNS.index("time")
    return (*row[:at], event.time.isoformat(timespec="microseconds"), *row[at + 1 :])
