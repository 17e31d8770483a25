"""A throw-away PostgreSQL server: made in a folder of its own, reached through a socket there, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

START_LIMIT_S = 300.0
POLL_S = 0.05


def postgres_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest one; None where PostgreSQL is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which("postgres")
    folders = [*reversed(debian), *([Path(found).resolve().parent] if found else [])]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class Cluster:
    """`with Cluster() as cluster: psycopg.connect(cluster.new_place())`.

    Root cannot run PostgreSQL; the user postgres does then. Without `durable` the disk is not flushed: faster, and a
    killed server loses nothing by it, only a machine without power would.

    Raises RuntimeError where PostgreSQL is not installed or does not start.
    """

    def __init__(self, *, durable: bool = True) -> None:
        programs = postgres_programs()
        if programs is None:
            raise RuntimeError("PostgreSQL is not installed")
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="whereupon-postgres-"))  # short: a socket's path has 107 bytes
        self._data, self._log = self._folder / "data", self._folder / "log"
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self._options = [f"unix_socket_directories={self._folder}", "listen_addresses="]
        self._options += [] if durable else ["fsync=off"]
        self._num_places = 0
        self._server: subprocess.Popen[bytes] | None = None
        try:
            options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
            self._call(self._programs / "initdb", "--pgdata", self._data, *options).wait()
            self.start()
        except BaseException:
            self.close()
            raise

    def new_place(self) -> str:
        """The URL of one more empty place for tables: a schema, as a database would take 7 MB and a second."""
        self._num_places += 1
        create = f"CREATE SCHEMA place{self._num_places}"
        if self._call(self._programs / "psql", "-h", self._folder, "-U", "postgres", "-c", create).wait():
            raise RuntimeError(f"PostgreSQL made no schema: {self._log_tail()}")
        options = quote(f"-c search_path=place{self._num_places}", safe="")
        return f"postgresql://postgres@/postgres?host={quote(str(self._folder), safe='')}&options={options}"

    def start(self) -> None:
        """Start the server and wait until it takes connections, after it has recovered if it was killed."""
        ended = time.monotonic() + START_LIMIT_S
        self._server = self._start_once()
        while self._call(self._programs / "pg_isready", "--quiet", "--host", self._folder).wait():
            if self._server.poll() is not None:  # the last of a killed one's processes may still be there
                self._server = self._start_once()
            if time.monotonic() > ended:
                raise RuntimeError(f"PostgreSQL did not start: {self._log_tail()}")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL to all processes of the server at once."""
        assert self._server is not None
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text().split()
        for pid in (self._server.pid, *map(int, children)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._server.wait()

    def close(self) -> None:
        """End the server and remove its folder."""
        if self._server is not None and self._server.poll() is None:
            self.kill()  # an orderly end would write down what is thrown away
        shutil.rmtree(self._folder)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _start_once(self) -> subprocess.Popen[bytes]:
        options = [part for option in self._options for part in ("-c", option)]
        return self._call(self._programs / "postgres", "-D", self._data, *options)

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-500:]

    def _call(self, *command: str | Path) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                user=self._user, group=self._user, extra_groups=[] if self._user else None,
            )  # fmt: skip
