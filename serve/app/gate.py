"""What must happen between requests: those at work end first, and others wait until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Any number of requests may be at work, except while `between_requests` runs."""

    def __init__(self) -> None:
        self._num_at_work = 0
        self._open, self._idle = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._idle.set()

    @property
    def is_open(self) -> bool:
        """Whether a request would not wait."""
        return self._open.is_set()

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Around all the work of a request."""
        while not self.is_open:
            await self._open.wait()
        self._num_at_work += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._num_at_work -= 1
            if not self._num_at_work:
                self._idle.set()

    @asynccontextmanager
    async def between_requests(self) -> AsyncIterator[None]:
        """Around what must not happen during a request; one at a time."""
        self._open.clear()
        try:
            await self._idle.wait()
            yield
        finally:
            self._open.set()
