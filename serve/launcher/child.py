"""A server as a child process, in a process group that, with all that it starts, never outlives the launcher."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

STOP_S = 30.0  # for the requests that run
STOP_LOADING_S = 5.0
LINES_KEPT = 30
# The group's first process waits for the end of its input, which the launcher holds open. When the launcher is gone, be
# it by SIGKILL, it ends the group: vLLM's engine is a grandchild that nobody else would find.
_KEEPER = "trap '' TERM; cat >/dev/null; kill -s TERM 0; sleep 5; kill -s KILL 0"


class ServerProcess:
    """A running command, stopped by `close`; set `answers` where it may have requests by then.

    `child` is its process. Its output goes to a log file, and to stderr with `echo`; `tail` holds its last lines.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, echo: bool = False) -> None:
        self.answers = False
        self.tail: deque[str] = deque(maxlen=LINES_KEPT)
        self._echo = echo
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("wb")
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            process_group=0,
        )  # fmt: skip
        try:
            self.child = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                process_group=self._keeper.pid,
            )  # fmt: skip
        except BaseException:
            self._end_group()
            raise
        assert self.child.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.child.stdout,), daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Ask it to end, and if it does not, end it; then all that it started. A second Ctrl-C shortens the wait."""
        try:
            if self.child.poll() is None:
                if self.answers:
                    self.child.terminate()  # it alone: it stops its own children when no request needs them any more
                else:
                    os.killpg(self._keeper.pid, signal.SIGTERM)  # it would wait for its children to be loaded
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.child.wait(STOP_S if self.answers else STOP_LOADING_S)
        finally:
            self._end_group()
            self.child.wait()
            self._reader.join(timeout=5)  # it closes what it reads
            self._log.close()

    def _end_group(self) -> None:
        if self._keeper.returncode is None:  # else the group is gone, and its number may be another's
            os.killpg(self._keeper.pid, signal.SIGKILL)
            self._keeper.wait()
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self.tail.append(line.decode(errors="replace").rstrip("\n"))
                with contextlib.suppress(OSError, ValueError):  # a full disk must not stop a server
                    self._log.write(line)
                    self._log.flush()
                with contextlib.suppress(OSError, ValueError):  # nor must `whereupon serve --verbose 2>&1 | head`
                    if self._echo:
                        sys.stderr.write(self.tail[-1] + "\n")
