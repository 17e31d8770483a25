"""Connections to a database that threads take turns with."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from ...errors import StoreError


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Connections(Generic[C]):
    """At most `most` connections at once; further threads wait.

    A connection that is not `reusable` when it comes back (lost, or amid a transaction) is closed.
    """

    def __init__(self, connect: Callable[[], C], reusable: Callable[[C], bool], most: int) -> None:
        self._connect, self._reusable = connect, reusable
        self._turns = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[C] = []
        self._closed = False

    @contextlib.contextmanager
    def borrow(self, *, fresh: bool = False) -> Iterator[C]:
        """A connection for this thread alone; with `fresh`, a new one, and all idle ones are given up.

        Raises:
            StoreError: `close` was called.
        """
        with self._turns:
            if fresh:
                self._drop_idle()
            connection = self._take() or self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def close(self) -> None:
        """Close all connections; those in use as soon as they come back."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def _take(self) -> C | None:
        with self._lock:
            if self._closed:
                raise StoreError("The event store was closed; open it again.")
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: C) -> None:
        with self._lock:
            if not self._closed and self._reusable(connection):
                self._idle.append(connection)
                return
        connection.close()

    def _drop_idle(self) -> None:
        with self._lock:
            dropped, self._idle = self._idle, []
        for connection in dropped:
            connection.close()
