"""How many searches run at once, and how many requests may wait for theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException

from . import metrics


class ConcurrencyLimit:
    """At most `searches` searches run at once; others wait for their turn, first come, first served.

    A request may have any number of searches. At most twice as many requests as searches are taken at once, so that a
    request waits for about as long as it runs, and the rest are refused before anything is computed for them.
    """

    def __init__(self, searches: int) -> None:
        self.searches = searches
        self._requests, self._running = 0, 0
        self._turns = asyncio.Semaphore(searches)
        metrics.RUNNING.set_function(lambda: self._running)

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Around all the work of a request. Raises HTTPException 429 where too many requests are at work or wait."""
        if self._requests >= 2 * self.searches:
            metrics.REFUSED.inc()
            message = f"{self._requests} requests are running or waiting, which is the most; ask again in a moment."
            raise HTTPException(429, message, {"Retry-After": "1"})
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @asynccontextmanager
    async def search(self) -> AsyncIterator[None]:
        """Around one search of a request."""
        async with self._turns:
            self._running += 1
            try:
                yield
            except BaseException:
                metrics.ABANDONED.inc()
                raise
            finally:
                self._running -= 1
