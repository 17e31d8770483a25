"""Event stores: SQLite and a real PostgreSQL keep the same promises; what fails is said in a sentence."""

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whereupon.bench.postgres_cluster import Cluster, postgres_programs
from whereupon.errors import ConflictError, StoreError
from whereupon.recommend.store import EventStore, open_store
from whereupon.recommend.store.event import Event
from whereupon.recommend.store.event_store import COLUMNS

START = datetime(2026, 3, 1, tzinfo=UTC)
PASSWORD = "hush!hush"


def made(event_id: str, user_id: str = "u1", item_id: str = "i1", minute: int = 0, **fields: Any) -> Event:
    time = START + timedelta(minutes=minute)
    return Event(event_id=event_id, user_id=user_id, item_id=item_id, time=time, **fields)


def ids(events: Sequence[Event]) -> list[str]:
    return [event.event_id for event in events]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with Cluster(durable=False) as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgres"])
def new_address(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes the address of one more empty store."""
    if request.param == "sqlite":
        files = iter(range(1_000_000))
        return lambda: str(tmp_path / "events" / f"{next(files)}.sqlite")
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_place


@pytest.fixture
def address(new_address: Callable[[], str]) -> str:
    return new_address()


@pytest.fixture
def store(address: str) -> Iterator[EventStore]:
    store = open_store(address)
    yield store
    store.close()


def test_event_comes_back_as_it_was_after_the_store_is_opened_again(store: EventStore, address: str) -> None:
    full = made(
        "e1", "ü/1 ?", "喫茶店", 7, utc_offset_minutes=-330, latitude=-0.1 + 0.2, longitude=179.999999,
        event="check-in", value=1e-300,
        context={"rain": True, "mood": "'; DROP TABLE \\u0000 %s", "guests": 3.0, "note": None},
    )  # fmt: skip
    bare = made("e2", "ü/1 ?", minute=8)
    assert store.append([full, bare]) == (2, 0)
    store.close()
    again = open_store(address)
    assert again.of_user("ü/1 ?", 10) == [full, bare]
    assert again.of_user("ü/1 ?", 10)[0].model_dump_json() == full.model_dump_json()
    again.close()


def test_events_come_by_time_then_as_they_were_stored_and_a_limit_keeps_the_latest(store: EventStore) -> None:
    store.append([made("z", minute=5), made("b", minute=9), made("a", minute=5)])
    store.append([made("early", minute=1), made("0", minute=5), made("other", "u2", minute=6)])
    assert ids(store.of_user("u1", 10)) == ["early", "z", "a", "0", "b"]
    assert ids(store.of_user("u1", 2)) == ["0", "b"]
    assert store.of_user("nobody", 10) == []
    assert store.count() == 6


def test_same_event_again_is_a_duplicate_and_changes_nothing(store: EventStore) -> None:
    events = [made("e1", value=1.0), made("e2", context={"a": 1.0})]
    assert store.append(events) == (2, 0)
    assert store.append([*events, made("e3"), made("e3")]) == (1, 3)
    assert ids(store.of_user("u1", 10)) == ["e1", "e2", "e3"]
    assert store.append([]) == (0, 0)


@pytest.mark.parametrize(
    "changed",
    [
        made("e1", "u2"), made("e1", item_id="i2"), made("e1", minute=1), made("e1", value=0.0),
        made("e1", context={"a": True}), made("e1", context={}), made("e1", utc_offset_minutes=0),
    ],
)  # fmt: skip
def test_known_id_with_other_content_refuses_the_whole_batch(store: EventStore, changed: Event) -> None:
    store.append([made("e1", context={"a": 1.0})])
    with pytest.raises(ConflictError, match="event 'e1' is stored already with other content"):
        store.append([made("e0"), changed, made("e2")])
    assert ids(store.of_user("u1", 10)) == ["e1"]


def test_one_id_with_two_contents_in_a_batch_refuses_it(store: EventStore) -> None:
    with pytest.raises(ConflictError, match="'e1'"):
        store.append([made("e1"), made("e2"), made("e1", item_id="i2")])
    assert store.count() == 0


def test_threads_that_append_the_same_events_store_each_once(store: EventStore) -> None:
    batches = [[made(f"e{(n * step) % 40}") for n in range(40)] for step in (1, 3, 7, 9, 11, 13, 17, 39)]
    with ThreadPoolExecutor(len(batches)) as threads:
        answers = list(threads.map(store.append, batches))
    assert sum(answer.accepted for answer in answers) == store.count() == 40
    assert sum(answer.duplicates for answer in answers) == 40 * 7


def test_reader_amid_writers_sees_whole_batches_only(store: EventStore) -> None:
    ended = threading.Event()

    def write(writer: int) -> None:
        for batch in range(10):
            store.append([made(f"{writer}-{batch}-{n}", f"u{writer}", minute=batch) for n in range(4)])

    def read() -> int:
        num_reads = 0
        while not ended.is_set() or not num_reads:
            assert len(store.of_user("u0", 1000)) % 4 == 0
            num_reads += 1
        return num_reads

    with ThreadPoolExecutor(4) as threads:
        reads = threads.submit(read)
        for written in [threads.submit(write, writer) for writer in range(3)]:
            written.result()
        ended.set()
        assert reads.result() > 0
    assert store.count() == 3 * 10 * 4


def test_many_that_open_a_new_store_at_once_agree(address: str) -> None:
    def use(number: int) -> None:
        store = open_store(address)
        store.append([made(f"e{number}"), made("all")])
        store.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(use, range(6)))
    store = open_store(address)
    assert store.count() == 7
    store.close()


def test_store_of_a_newer_schema_is_refused_and_left_alone(address: str) -> None:
    open_store(address).close()
    set_version(address, 2)
    with pytest.raises(StoreError, match="schema 1 but has schema 2; update whereupon"):
        open_store(address)
    set_version(address, 1)
    open_store(address).close()


def set_version(address: str, version: int) -> None:
    statement = f"UPDATE whereupon_schema SET version = {version}"
    if address.startswith("postgresql://"):
        with psycopg.connect(address) as connection:
            connection.execute(statement)
    else:
        other = sqlite3.connect(address)
        other.execute(statement)
        other.commit()
        other.close()


def test_closed_store_says_so_and_can_be_closed_again(store: EventStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.append([made("e1")])


@st.composite
def batches(draw: st.DrawFn) -> list[list[Event]]:
    """Batches over few ids, users, minutes and contents: most hold duplicates, some hold conflicts."""
    event = st.builds(
        made,
        st.sampled_from(["a", "b", "c", "d", "E", "e"]),
        st.sampled_from(["u1", "u2"]),
        minute=st.integers(0, 1),
        value=st.sampled_from([None, None, 0.5]),
    )
    return draw(st.lists(st.lists(event, max_size=5), max_size=5))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=batches(), limit=st.integers(1, 4))
def test_any_batches_leave_what_a_dictionary_would_hold(
    new_address: Callable[[], str], batches: list[list[Event]], limit: int
) -> None:
    store, model = open_store(new_address()), {}
    for batch in batches:
        after = dict(model)
        agrees = all(after.setdefault(event.event_id, event) == event for event in batch)
        if agrees:
            assert store.append(batch) == (len(after) - len(model), len(batch) - len(after) + len(model))
            model = after
        else:
            with pytest.raises(ConflictError):
                store.append(batch)
    for user in ("u1", "u2"):
        known = sorted((event for event in model.values() if event.user_id == user), key=lambda event: event.time)
        assert store.of_user(user, limit) == known[-limit:]
    assert store.count() == len(model)
    store.close()


def test_sqlite_keeps_a_log_and_flushes_every_commit(tmp_path: Path) -> None:
    from whereupon.recommend.store.sqlite import SqliteStore

    store = SqliteStore(tmp_path / "events.sqlite")
    with store._borrow() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    store.close()


def test_sqlite_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    path.write_text("user_id,item_id\n" * 100)
    with pytest.raises(StoreError, match=r"events\.sqlite should keep events but is no SQLite file"):
        open_store(path)
    assert path.read_text() == "user_id,item_id\n" * 100


def test_sqlite_file_that_is_damaged_later_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    store = open_store(path)
    store.append([made(f"e{n}", context={"note": "x" * 400}) for n in range(200)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 4 :] = b"\xff" * (len(content) - 4096 * 4)
    path.write_bytes(content)
    store = open_store(path)
    with pytest.raises(StoreError, match=r"events\.sqlite should keep events but is damaged"):
        store.of_user("u1", 1000)
    store.close()


def test_sqlite_file_that_another_process_holds_is_said_to_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whereupon.recommend.store.sqlite.BUSY_S", 0.05)
    path = tmp_path / "events.sqlite"
    store = open_store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="is locked by another process"):
        store.append([made("e1")])
    other.execute("ROLLBACK")
    other.close()
    assert store.append([made("e1")]) == (1, 0)
    store.close()


def test_sqlite_that_runs_out_of_space_stores_nothing_and_goes_on_later(tmp_path: Path) -> None:
    from whereupon.recommend.store.sqlite import SqliteStore

    store = SqliteStore(tmp_path / "events.sqlite")
    with store._borrow() as connection:  # the only one so far, so that it is the next one's, too
        connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StoreError, match="lies on a full disk; free some space"):
        store.append([made(f"e{n}", context={"note": "x" * 400}) for n in range(200)])
    assert store.count() == 0
    assert store.append([made("e1")]) == (1, 0)
    store.close()


def test_sqlite_in_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/events\.sqlite .* cannot be opened; check its folder"):
        open_store(tmp_path / "file" / "events.sqlite")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path)


def test_name_that_sqlite_takes_for_memory_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(":memory:").close()
    assert (tmp_path / ":memory:").is_file()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"mysql://me:{PASSWORD}@host/db", r"not mysql://;"),
        (f"postgresql+psycopg://me:{PASSWORD}@host/db", r"not postgresql\+psycopg://;"),
        (f"postgresql://me:{PASSWORD}%zz@host/db", "cannot be read"),
        (f"postgresql://me:a@{PASSWORD}@host/db", "surplus @"),
        (f"postgresql://me:{PASSWORD}/a@host/db", "surplus @"),
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1/db", "PostgreSQL at 127.0.0.1:1, database db, should take"),
        (f"postgresql://me:{PASSWORD}@/db?host=/nowhere", "PostgreSQL at /nowhere, database db, should take"),
        (f"postgres://me@/db?host=/{PASSWORD}&password={PASSWORD}", r"at /\*\*\*, database db, should take"),
    ],
)
def test_url_that_leads_nowhere_is_refused_without_its_password(
    url: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoreError, match=said) as raised:
        open_store(url)
    shown = [str(raised.value), repr(raised.value), *capfd.readouterr()]
    assert not any("hush" in text for text in shown)


def test_postgres_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "whereupon.recommend.store.postgres", raising=False)
    with pytest.raises(StoreError, match=r"pip install 'whereupon\[postgres\]'"):
        open_store("postgresql://me@host/db")


def test_postgres_that_restarts_is_found_again_and_one_that_is_gone_is_said_to_be(cluster: Cluster) -> None:
    store = open_store(cluster.new_place())
    store.append([made("e1")])
    cluster.kill()
    with pytest.raises(StoreError, match="should take connections but did not"):
        store.append([made("e2")])
    cluster.start()
    assert store.append([made("e1"), made("e2")]) == (1, 1)
    assert ids(store.of_user("u1", 10)) == ["e1", "e2"]
    store.close()


def test_postgres_connections_that_are_ended_are_made_anew_by_every_thread(cluster: Cluster) -> None:
    url = cluster.new_place()
    store = open_store(url)
    with ThreadPoolExecutor(4) as threads, psycopg.connect(url, autocommit=True) as other:
        list(threads.map(lambda n: store.append([made(f"a{n}")]), range(8)))
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'whereupon'"
        assert other.execute(ended).fetchone()[0] > 0
        list(threads.map(lambda n: store.append([made(f"b{n}")]), range(8)))
    assert store.count() == 16
    store.close()


def test_postgres_account_that_may_write_but_not_create_can_use_what_is_there(cluster: Cluster) -> None:
    url = cluster.new_place()
    with psycopg.connect(url) as connection:
        place = connection.execute("SELECT current_schema()").fetchone()[0]
        connection.execute("CREATE ROLE clerk LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA {place} TO clerk")
    theirs = url.replace("postgres@", "clerk@", 1)
    with pytest.raises(StoreError, match=r"refused \(permission denied for schema place"):
        open_store(theirs)
    open_store(url).close()
    with psycopg.connect(url) as connection:
        connection.execute("GRANT SELECT ON whereupon_schema, whereupon_events TO clerk")
        connection.execute("GRANT INSERT ON whereupon_events TO clerk")
        connection.execute("GRANT USAGE ON whereupon_events_seq TO clerk")
    store = open_store(theirs)
    assert store.append([made("e1")]) == (1, 0)
    store.close()


def test_tables_have_a_column_for_every_field() -> None:
    assert sorted(COLUMNS) == sorted(Event.model_fields)
    assert COLUMNS[:2] == ("event_id", "user_id")  # where the stores look for the id


# Forgetting


def test_forgotten_user_has_no_events_and_others_keep_theirs(store: EventStore) -> None:
    store.append([made("e1"), made("e2", minute=1), made("e3", user_id="u2")])
    assert store.forget("u1") == 2
    assert store.of_user("u1", 10) == []
    assert ids(store.of_user("u2", 10)) == ["e3"]
    assert store.users() == ["u2"]
    assert store.forget("u1") == 0
    assert store.append([made("e1")]).accepted == 1, "who comes back is stored again"


def test_forgotten_events_are_in_no_file_of_a_sqlite_store(tmp_path: Path) -> None:
    store = open_store(tmp_path / "events.sqlite")
    store.append([made(f"e{number}", user_id="remarkable-name", minute=number) for number in range(200)])
    store.forget("remarkable-name")
    found = [file.name for file in tmp_path.iterdir() if b"remarkable-name" in file.read_bytes()]
    store.close()
    assert found == []
