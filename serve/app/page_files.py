"""The page at `/` for people who look at recommendations: static files, under a strict content security policy.

The page asks the same routes as any client. Its files hold no data, so they need no key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

FOLDER: Final = Path(__file__).parent / "page"
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked again each time, so that files of two versions are never mixed
}


class PageFiles(StaticFiles):
    """The files of the page with its headers, to be mounted at `/page`."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """As by default, with the headers."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


page_router = APIRouter()


@page_router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page itself."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)
