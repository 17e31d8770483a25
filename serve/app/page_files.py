"""The page at `/` for people who look at recommendations: static files, under a strict content security policy.

The page uses the same routes as any client. Its files hold no data, so they need no key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.staticfiles import StaticFiles

from .http_errors import OpenAIErrorRoute

FOLDER: Final = Path(__file__).parent / "page"
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # requested again each time, so that files of two versions are never mixed
}


_FILES: Final = StaticFiles(directory=FOLDER)

page_router = APIRouter(route_class=OpenAIErrorRoute)


@page_router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page itself."""
    return await _file("index.html", request)


@page_router.get("/page/{name}", include_in_schema=False)
async def page_file(name: str, request: Request) -> Response:
    """What the page is made of. Raises HTTPException 404 for another name."""
    return await _file(name, request)


async def _file(name: str, request: Request) -> Response:
    response = await _FILES.get_response(name, request.scope)
    response.headers.update(HEADERS)
    return response
