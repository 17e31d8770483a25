"""Two keys: one that asks, and one that administers."""

from __future__ import annotations

import hashlib
import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .http_errors import error_response

GUARDED = ("/v1", "/v2", "/inference", "/cohere")
"""Paths that need a key; those of vLLM's own middleware, which knows one key only."""


class Keys:
    """ASGI middleware: 401 without a right key, 403 where the key only asks.

    `asking` opens all guarded routes but those that `needs_admin` names, `admin` opens all. Without an admin key, the
    asking one opens all; without an asking key, asking is free. Keys come as `Authorization: Bearer KEY`.
    """

    def __init__(self, app: ASGIApp, asking: str | None, admin: str | None) -> None:
        self.app = app
        self._asking, self._admin = _digest(asking), _digest(admin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope.get("method") == "OPTIONS":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        problem = self._problem(scope.get("method", "GET"), path, Headers(scope=scope).get("Authorization"))
        if problem is None:
            await self.app(scope, receive, send)
            return
        status, sentence = problem
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        await error_response(sentence, status, headers=headers)(scope, receive, send)

    def _problem(self, method: str, path: str, header: str | None) -> tuple[int, str] | None:
        if not path.startswith(GUARDED):
            return None
        given = _given(header)
        is_admin, asks = _same(given, self._admin), _same(given, self._asking)
        if is_admin or (asks and self._admin is None):
            return None
        if self._admin is not None and needs_admin(method, path):
            if asks:
                return 403, "This key asks only; changes and what is known of users need the key that administers."
            return 401, "The key that administers is missing or wrong: send it as Authorization: Bearer KEY."
        if asks or self._asking is None:
            return None
        return 401, "The API key is missing or wrong: send it as Authorization: Bearer KEY."


def needs_admin(method: str, path: str) -> bool:
    """Whether a request changes the catalogue, reads what is known of a user, or deletes it."""
    if path.startswith("/v1/catalogues"):
        return method not in ("GET", "HEAD")
    return path.startswith(("/v1/events/", "/v1/users", "/v1/questions"))


def _given(header: str | None) -> bytes | None:
    scheme, _, key = (header or "").partition(" ")
    return _digest(key) if scheme.lower() == "bearer" else None


def _digest(key: str | None) -> bytes | None:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest() if key else None


def _same(given: bytes | None, expected: bytes | None) -> bool:
    return given is not None and expected is not None and secrets.compare_digest(given, expected)
