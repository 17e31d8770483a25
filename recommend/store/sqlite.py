"""Events in one SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from ...errors import StoreError
from .event import Event
from .event_store import COLUMNS, NAMES, SCHEMA_VERSION, EventStore, T, check_same, to_event, to_row

BUSY_S = 10.0  # how long to wait for another process that writes

_TABLES = (
    "CREATE TABLE IF NOT EXISTS whereupon_schema (version INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS whereupon_events (
        seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, item_id TEXT NOT NULL,
        time TEXT NOT NULL, utc_offset_minutes INTEGER, latitude REAL, longitude REAL, event TEXT, value REAL,
        context TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS whereupon_events_of_user ON whereupon_events (user_id, time, seq)",
    f"INSERT INTO whereupon_schema SELECT {SCHEMA_VERSION} WHERE NOT EXISTS (SELECT * FROM whereupon_schema)",
)
_INSERT = (
    f"INSERT INTO whereupon_events ({NAMES}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (event_id) DO NOTHING"
)

# By primary result code (sqlite.org/rescode.html): what was found, and what to do.
_PROBLEMS = {
    sqlite3.SQLITE_BUSY: f"is locked by another process for more than {BUSY_S:g} s; end that one or wait for it",
    sqlite3.SQLITE_FULL: "lies on a full disk; free some space",
    sqlite3.SQLITE_IOERR: "lies on a disk that fails or is full; check it",
    sqlite3.SQLITE_CORRUPT: "is damaged; bring back a copy or move it away",
    sqlite3.SQLITE_NOTADB: "is no SQLite file; name another one or move it away",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check its folder and who may write there",
    sqlite3.SQLITE_READONLY: "cannot be written; check who may write there",
}


class SqliteStore(EventStore):
    """Readers and the writer do not wait for each other (WAL), and a commit flushes the disk (FULL)."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser().absolute()  # so that neither chdir nor a name like :memory: is followed
        # Threads of this process queue here and not at SQLite's lock, which is waited for by polling.
        self._writing = threading.Lock()
        with contextlib.suppress(OSError):  # SQLite then says that it cannot open the file
            self._path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(str(self._path))

    def _insert(self, connection: sqlite3.Connection, new: list[Event]) -> int:
        accepted = 0
        with self._writing:
            connection.execute("BEGIN IMMEDIATE")
            for event in new:
                # Text of one width, so that its order is that of time.
                time = event.time.isoformat(timespec="microseconds")
                inserted = connection.execute(_INSERT, to_row(event, time)).rowcount
                accepted += inserted
                if not inserted:
                    known = connection.execute(f"{self.SELECT} WHERE event_id = ?", (event.event_id,)).fetchone()
                    check_same(event, to_event(known))
            connection.execute("COMMIT")
        return accepted

    def _delete(self, connection: sqlite3.Connection, user_id: str) -> int:
        with self._writing:
            connection.execute("PRAGMA secure_delete = ON")  # what was deleted is overwritten, and not only unlinked
            deleted = super()._delete(connection, user_id)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the log beside the file still has it
        return deleted

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        with self._writing:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _TABLES:
                connection.execute(statement)
            self._check_version(connection)
            connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            connection.execute("PRAGMA synchronous = FULL")
            if mode != "wal":
                raise StoreError(
                    f"{self._path} should lie on a local disk, where SQLite can keep a log beside it; move it."
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._borrow() as connection:
                return work(connection)
        except sqlite3.Error as error:
            known = _PROBLEMS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "cannot be used; look into it")
            raise StoreError(f"{self._path} should keep events but {known} ({error}).") from None
