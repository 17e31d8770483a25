"""The routes of events over HTTP, without a model: the process that `events.py` kills.

    python bench/event_server.py ADDRESS PORT

Router, store and settings are those of the product, where vLLM's server mounts the same router; so is uvicorn.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI

from whereupon.recommend.private_store import PrivateStore
from whereupon.recommend.store import open_store
from whereupon.serve.app.routes import event_router, the_store
from whereupon.serve.settings import ServeSettings


def main(address: str, port: int) -> None:
    """Serve until killed."""
    store = open_store(address)
    app = FastAPI()
    # The bound is that of reading, too, and the bench reads all that a user has.
    app.dependency_overrides[the_store] = lambda: PrivateStore(store, None)
    app.include_router(event_router(ServeSettings(max_events=1_000_000)))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
