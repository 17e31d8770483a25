"""Events in a PostgreSQL database, which several servers may share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import StoreError
from .event import Event
from .event_store import COLUMNS, NAMES, SCHEMA_VERSION, EventStore, T, check_same, to_event, to_row

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError:
    raise StoreError(
        "Events at a postgresql:// URL need psycopg, which is not installed; run `pip install 'whereupon[postgres]'`."
    ) from None

SILENCE_S = 10  # how long a server may take to answer a connection or to acknowledge what is sent
SCHEMA_LOCK = 0x77686572  # "wher": two servers that start at once must not both make the tables

_TABLES = (
    "CREATE TABLE whereupon_schema (version integer NOT NULL)",
    "CREATE SEQUENCE whereupon_events_seq",
    """CREATE TABLE whereupon_events (
        seq bigint PRIMARY KEY, event_id text NOT NULL UNIQUE, user_id text NOT NULL, item_id text NOT NULL,
        time timestamptz NOT NULL, utc_offset_minutes integer, latitude double precision, longitude double precision,
        event text, value double precision, context json NOT NULL)""",
    "CREATE INDEX whereupon_events_of_user ON whereupon_events (user_id, time, seq)",
    f"INSERT INTO whereupon_schema VALUES ({SCHEMA_VERSION})",
)
_NUMBERS = "SELECT nextval('whereupon_events_seq') FROM generate_series(1, %s)"
_INSERT = (
    f"INSERT INTO whereupon_events (seq, {NAMES}) VALUES (%s{', %s' * len(COLUMNS)}) ON CONFLICT (event_id) DO NOTHING"
)

Connection = psycopg.Connection[tuple[Any, ...]]


class _LostError(StoreError):
    """The connection broke: the same call may be made once more on a new one."""


class PostgresStore(EventStore):
    """A lost connection is made anew once: every call of a store is safe to repeat."""

    MOST_CONNECTIONS = 8
    SELECT = EventStore.SELECT.replace("context", "context::text")
    MARK = "%s"

    def __init__(self, url: str) -> None:
        self._settings, place = _settings(url)
        super().__init__(place)

    def _connect(self) -> Connection:
        try:
            # Statements prepared on the server would not survive a pooler such as pgbouncer.
            return psycopg.connect(**self._settings, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise StoreError(
                f"{self._place} should take connections but did not ({self._reason(error)}); check that it runs, and "
                "the URL."
            ) from None

    def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._run_once(work)
        except _LostError:  # as all idle connections are where the server was restarted
            self._drop_idle()
            return self._run_once(work)

    def _run_once(self, work: Callable[[Connection], T]) -> T:
        with self._borrow() as connection:
            try:
                return work(connection)
            except psycopg.Error as error:
                kind = _LostError if connection.closed else StoreError
                reason = self._reason(error)
                raise kind(f"{self._place} should keep events but refused ({reason}); see its log.") from None

    def _make_tables(self, connection: Connection) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
            # First, as `CREATE ... IF NOT EXISTS` needs the right to create also where nothing is to be created.
            if connection.execute("SELECT to_regclass('whereupon_schema')").fetchone() == (None,):
                for statement in _TABLES:
                    connection.execute(statement)
            self._check_version(connection)

    def _insert(self, connection: Connection, new: list[Event]) -> int:
        with connection.transaction(), connection.cursor() as cursor:
            numbers = sorted(row[0] for row in cursor.execute(_NUMBERS, (len(new),)))
            # In the order of their ids: of two servers that insert the same ones, neither then holds what the other
            # waits for. The order of the events is that of their numbers all the same.
            rows = [(number, *to_row(event, event.time)) for number, event in zip(numbers, new, strict=True)]
            rows.sort(key=lambda row: str(row[1]))
            cursor.executemany(_INSERT, rows)
            accepted = cursor.rowcount
            if accepted < len(new):
                by_id = {event.event_id: event for event in new}
                for row in cursor.execute(f"{self.SELECT} WHERE event_id = ANY(%s)", (list(by_id),)):
                    check_same(by_id[row[0]], to_event(row))
        return accepted

    def _reason(self, error: psycopg.Error) -> str:
        """What the server says, in a line, without its details, which may quote ids, and without the password."""
        return _hidden(error.diag.message_primary or " ".join(str(error).split()), self._settings)


def _settings(url: str) -> tuple[dict[str, Any], str]:
    """What to connect with, and how to call the place in messages. Raises StoreError; never shows what it found."""
    expected = "The URL for events should read postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise StoreError(f"{expected} but cannot be read; write special characters in it as %XX.") from None
    place = {name: str(given.get(name) or "") for name in ("host", "port", "dbname")}
    if any("@" in value for value in place.values()):  # so that a part of the password is taken for host or database
        raise StoreError(f"{expected} but has a surplus @; write special characters in the password as %XX.")
    timeouts = {"connect_timeout": SILENCE_S, "tcp_user_timeout": SILENCE_S * 1000}
    host = place["host"] + (f":{place['port']}" if place["port"] else "")
    called = f"PostgreSQL at {host or 'this machine'}" + (f", database {place['dbname']}," if place["dbname"] else "")
    return {**timeouts, "client_encoding": "utf8", "application_name": "whereupon", **given}, _hidden(called, given)


def _hidden(text: str, settings: Mapping[str, Any]) -> str:
    """The text without the password, wherever that stands in it."""
    password = settings.get("password")
    return text.replace(password, "***") if password else text
