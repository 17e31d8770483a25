"""Which client a request is from, for fair shares of turns.

A client is an API key at an address, or the name that a gateway gives in a header. Only a hash of it is kept, with a
salt that is drawn at each start. No log or metric shows it.
"""

from __future__ import annotations

import hashlib
import secrets
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""The client of the request that is being answered; "" without a client, as in a batch."""
_SALT = secrets.token_bytes(16)


class Clients:
    """ASGI middleware: sets `CLIENT`. `header`: the one that names the client, where a gateway sets it."""

    def __init__(self, app: ASGIApp, header: str | None) -> None:
        self.app, self.header = app, header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            CLIENT.set(client_of(scope, self.header))
        await self.app(scope, receive, send)


def client_of(scope: Scope, header: str | None) -> str:
    """A hash of what `header` says; where that is missing, of the API key and the address."""
    headers = Headers(scope=scope)
    if header and (named := headers.get(header)):
        said = f"named {named}"
    else:
        address = (scope.get("client") or ("",))[0]
        said = f"key {headers.get('Authorization', '')} at {address}"
    return hashlib.blake2b(said.encode("utf-8", "surrogateescape"), key=_SALT, digest_size=16).hexdigest()
