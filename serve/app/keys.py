"""Two keys: the API key for queries, and the admin key."""

from __future__ import annotations

import hashlib
import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .http_errors import error_response

GUARDED = ("/v1", "/v2", "/inference", "/cohere")
"""Paths that need a key; those of vLLM's own middleware, which knows one key only."""


class Keys:
    """ASGI middleware: 401 without a right key, 403 where the key may query only.

    `query` opens all guarded routes but those that `needs_admin` names, `admin` opens all. Without an admin key, the
    query key opens all; without a query key, queries need none. Keys come as `Authorization: Bearer KEY`.
    """

    def __init__(self, app: ASGIApp, query: str | None, admin: str | None) -> None:
        self.app = app
        self._query, self._admin = _digest(query), _digest(admin)

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
        is_admin, is_query = _same(given, self._admin), _same(given, self._query)
        if is_admin or (is_query and self._admin is None):
            return None
        if self._admin is not None and needs_admin(method, path):
            if is_query:
                return 403, "This key may query only; changes and what is known of users need the admin key."
            return 401, "The admin key is missing or wrong: send it as Authorization: Bearer KEY."
        if is_query or self._query is None:
            return None
        return 401, "The API key is missing or wrong: send it as Authorization: Bearer KEY."


def needs_admin(method: str, path: str) -> bool:
    """Whether a request changes catalogue or adapter, reads what is known of a user, or deletes it."""
    if path.startswith(("/v1/catalogues", "/v1/adapters")):
        return method not in ("GET", "HEAD")
    return path.startswith(("/v1/events/", "/v1/users", "/v1/questions"))


def _given(header: str | None) -> bytes | None:
    scheme, _, key = (header or "").partition(" ")
    return _digest(key) if scheme.lower() == "bearer" else None


def _digest(key: str | None) -> bytes | None:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest() if key else None


def _same(given: bytes | None, expected: bytes | None) -> bool:
    return given is not None and expected is not None and secrets.compare_digest(given, expected)
