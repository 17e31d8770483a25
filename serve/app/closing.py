"""How the server ends: requests that run are answered first."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, FastAPI


def closing_router(close: Callable[[], None]) -> APIRouter:
    """A router without routes: included into vLLM's app, it changes what SIGTERM and SIGINT do, and calls `close`."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _finish_requests_first(app):
            yield
        close()

    return APIRouter(lifespan=lifespan)


@contextlib.asynccontextmanager
async def _finish_requests_first(app: FastAPI) -> AsyncIterator[None]:
    """Let a signal end the HTTP server, which waits for its requests, and only then the engine.

    vLLM does it the other way round, and even where it is told to wait, the engine takes no new requests from then on:
    a search that has asked for its first nodes would fail at the next ones.
    """
    server = getattr(app.state, "server", None)
    if server is None:  # an app that somebody else serves
        yield
        return

    def leave() -> None:
        server.should_exit = True

    # vLLM has set its own handlers by now: it makes the task that runs this, then sets them, then lets the task begin.
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, leave)
    yield
