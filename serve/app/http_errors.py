"""Errors as OpenAI's clients know them, for our routes; and a bound on bodies, for vLLM's own routes too."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import ConflictError, StoreError, WhereuponError

_MAX_SHOWN_CHARS = 60
# What pydantic adds to the place of an error for each type that a value might have had, such as list[int].
_TYPE = re.compile(r"str|int|float|bool|.*\[.*\]")
_MEANING = {
    400: "The request is malformed or cannot be answered as it is; nothing was changed.",
    401: "The API key is missing or wrong.",
    403: "The API key may query only; this needs the admin key.",
    404: "There is no such user, catalogue or adapter.",
    409: "An event id is stored already with other content, or an adapter is not finished; nothing was changed.",
    413: "The request is too large; nothing was stored.",
    429: "Too many requests are running or waiting; Retry-After says when to come back.",
    503: "The model or the event store does not work now; the same request is safe to send again later.",
}
_log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="One sentence: what was expected, what was found, what to do.")
    type: str = Field(description="invalid_request_error, or server_error where the request is not to blame.")
    param: str | None = Field(description="The part of the request that is meant, such as events[3].time.")
    code: int = Field(description="The HTTP status.")


class ErrorBody(BaseModel):
    """An error in the format of OpenAI's API."""

    error: ErrorDetail


def error_response(
    message: str, status: int, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error in OpenAI's format."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = ErrorDetail(message=_encodable(message), type=kind, param=param and _encodable(param), code=status)
    return JSONResponse(ErrorBody(error=error).model_dump(), status, headers)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's OpenAPI says of the errors that any route may answer with, and of further `statuses`."""
    said: dict[int | str, dict[str, Any]] = {
        401: {"model": ErrorBody, "description": _MEANING[401]},
        "4XX": {"model": ErrorBody, "description": _MEANING[400]},  # keeps FastAPI from promising a 422
    }
    return said | {status: {"model": ErrorBody, "description": _MEANING[status]} for status in (400, 503, *statuses)}


class OpenAIErrorRoute(APIRoute):
    """Answers a request that is malformed, or a WhereuponError, in OpenAI's format: `APIRouter(route_class=...)`."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As any route, but a 405 names the methods of all routes of the path."""
        if scope["method"] in self.methods:
            await super().handle(scope, receive, send)
            return
        routes = (route for route in scope["app"].routes if route.matches(scope)[0] != Match.NONE)
        allowed = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
        message = f"This path has no {scope['method']}; use {allowed}."
        await error_response(message, 405, headers={"Allow": allowed})(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with its errors turned into answers."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return _invalid(error.errors())
            except (HTTPException, WhereuponError) as error:
                return _refusal(error)

        return answer


def _refusal(error: HTTPException | WhereuponError) -> JSONResponse:
    """The answer to a request that raised an error which its sender can understand."""
    if isinstance(error, HTTPException):
        sentence = f"{str(error.detail).removesuffix('.')}."  # FastAPI's own have no full stop
        return error_response(sentence, error.status_code, headers=error.headers)
    if isinstance(error, StoreError):  # where the database is and what ails it is for its owner alone
        _log.error("%s", error)
        message = "The event store does not work now; see the server's log. The same request may be sent again."
        return error_response(message, 503, headers={"Retry-After": "1"})
    return error_response(str(error), 409 if isinstance(error, ConflictError) else 400)


def _invalid(errors: Sequence[Mapping[str, Any] | str]) -> JSONResponse:
    """The first field with an error in pydantic's words; of a value that may have several types, for all of them.

    A text instead of an error is vLLM's, of a body that is said not to be JSON.
    """
    found = [error for error in errors if not isinstance(error, str)]
    if not found:
        return error_response("The body should be a JSON object, with Content-Type: application/json.", 400)
    error = found[0]
    param = _param(error["loc"])
    if error["type"] == "json_invalid":
        return error_response(f"The body should be JSON but is not, at character {error['loc'][-1]}.", 400)
    if param is None and error["type"] == "value_error":  # of several fields together
        sentence = str(error["msg"]).removeprefix("Value error, ").removesuffix(".").replace("\n", " ")
        return error_response(f"{sentence[:1].upper()}{sentence[1:]}.", 400)
    if param is None:
        return error_response("The body should be a JSON object, with Content-Type: application/json.", 400)
    said = dict.fromkeys(str(one["msg"]).removeprefix("Value error, ") for one in found if _param(one["loc"]) == param)
    return error_response(f"{param}: {'; or '.join(said)}{_found(error.get('input'))}.", 400, param)


def _param(location: Sequence[str | int]) -> str | None:
    """`events[3].time` for ("body", "events", 3, "time"); None for the body as a whole."""
    parts = [part for part in location[1:] if not _TYPE.fullmatch(str(part))]
    names = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts]
    return "".join(names).lstrip(".")[:200] or None


def _found(value: Any) -> str:
    if not isinstance(value, str | int | float | None):
        return ""
    shown = repr(value) if isinstance(value, str) else str(value)
    return f" (found {shown[:_MAX_SHOWN_CHARS]}{'...' if len(shown) > _MAX_SHOWN_CHARS else ''})"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class BodyLimit:
    """ASGI middleware: 413 for a body of more than `max_bytes`, declared or sent."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(declared) if declared.isdigit() and int(declared) > self.max_bytes else 0
        read: deque[Message] = deque()
        while size <= self.max_bytes and (not read or read[-1].get("more_body")):
            read.append(await receive())
            size += len(read[-1].get("body", b""))
        if size > self.max_bytes:
            sentence = f"A request may have at most {self.max_bytes:,} bytes; send less at once."
            refused = error_response(sentence, 413, headers={"Connection": "close"})
            await refused(scope, receive, send)
            return

        async def again() -> Message:
            return read.popleft() if read else await receive()

        await self.app(scope, again, send)
