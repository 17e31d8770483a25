"""Routes of vLLM that answer without the catalogue: off, unless `serve.plain_routes` is true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from .http_errors import error_response

SAID: Final = (
    "This server answers from its catalogue only: name it in vllm_xargs, or use /v1/recommendations; the operator can "
    "open vLLM's own routes by serve.plain_routes."
)
ABOUT: Final = (
    "/metrics", "/health", "/ping", "/version", "/load", "/v1/models", "/docs", "/docs/oauth2-redirect", "/redoc",
    "/openapi.json",
)  # fmt: skip
"""Routes about the server, which cannot be used to query the model."""


class OwnRoutes:
    """ASGI middleware: 404 for all routes but `own` and those of ABOUT; a path that no route has goes on its way."""

    def __init__(self, app: ASGIApp, own: Sequence[BaseRoute]) -> None:
        self.app, self.own = app, own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and self._is_closed(scope):
            if scope["type"] == "http":
                await error_response(SAID, 404)(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": SAID})
            return
        await self.app(scope, receive, send)

    def _is_closed(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.rstrip("/") in ABOUT or _leads(self.own, scope):
            return False
        return _leads(scope["app"].routes, scope)


def _leads(routes: Sequence[BaseRoute], scope: Scope) -> bool:
    """Whether one of the routes has the path, whatever the method."""
    return any(route.matches(scope)[0] != Match.NONE for route in routes)
