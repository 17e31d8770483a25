"""A bound on the bodies of all requests, before anything of them is parsed."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .http_errors import error_response


class BodyLimit:
    """ASGI middleware: 413 for a body of more than `max_bytes`, declared or sent."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            await self._refuse(scope, receive, send)
            return
        received, is_over, has_begun = 0, False, False

        async def counted() -> Message:
            nonlocal received, is_over
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                is_over = True
                return {"type": "http.disconnect"}  # whoever reads the body stops
            return message

        async def answered(message: Message) -> None:
            nonlocal has_begun
            if is_over and not has_begun:
                return
            has_begun = True
            await send(message)

        try:
            await self.app(scope, counted, answered)
        except Exception:
            if not is_over:
                raise
        if is_over and not has_begun:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"A request may have at most {self.max_bytes:,} bytes; send less at once."
        await error_response(message, 413, headers={"Connection": "close"})(scope, receive, send)
