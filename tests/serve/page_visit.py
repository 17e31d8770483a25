"""A visit to the page at `/` of a server, in Chromium, where all that goes wrong is noted; and a server for visits."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from whereupon.tests.serve.processes import Server, serving

API_KEY, ADMIN_KEY = "a5k", "adm1n"
WIDE, PHONE = 1280, 390
PATIENCE_MS = 300_000
"""Enough for machines that do other things too."""
# Chromium writes one for each answer that is an error, which a journey may be about.
_STATUS = "Failed to load resource: the server responded with a status of"
# The town's five places, with what the town itself does not have; one title is an attack.
PLACES = [
    {"item_id": "cinema", "title": "Old Cinema", "category": "culture", "latitude": 52.50, "longitude": 13.40},
    {"item_id": "park", "title": "City Park", "category": "outdoors", "latitude": 52.52, "longitude": 13.42},
    {"item_id": "bar1", "title": "Bar One", "category": "bar", "latitude": 52.51, "longitude": 13.38},
    {"item_id": "bar2", "title": "Bar Two", "category": "bar", "latitude": 52.49, "longitude": 13.41},
    {"item_id": "bar3", "title": "Bar <img src=x onerror=alert(1)>", "category": "bar", "latitude": 52.53,
     "longitude": 13.39},
]  # fmt: skip


@dataclass
class Visit:
    """An open page, requests that went elsewhere, and errors; `refusals` are answers of the server with an error."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def findings(self) -> list[str]:
        """Serious and critical findings of axe-core on the page as it stands."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found if one["impact"] in ("serious", "critical")
        ]

    def pick(self, user: str) -> None:
        """Ask for a known user, by the keyboard."""
        self.page.fill("#user", user)
        self.page.press("#user", "Enter")
        self.answered()

    def answered(self) -> None:
        """Wait until a list is drawn and no request is open."""
        self.page.wait_for_selector("#list .item")
        self.page.wait_for_selector("#answer[aria-busy=false]")

    def posted(self, path: str, act: Any, **context: str) -> Any:
        """The body of the request to `path`, with these values of its context, that follows an act.

        The page waits shortly after each change, so requests of earlier changes may come in between.
        """

        def is_meant(one: Any) -> bool:
            if one.method != "POST" or not one.url.endswith(path):
                return False
            said = json.loads(one.post_data or "{}").get("context", {})
            return all(said.get(name) == value for name, value in context.items())

        with self.page.expect_request(is_meant) as caught:
            act()
        return json.loads(caught.value.post_data or "{}")


@contextlib.contextmanager
def visiting(
    browser: Browser, url: str, *, key: str | None = ADMIN_KEY, width: int = WIDE, dark: bool = False, scale: float = 1
) -> Iterator[Visit]:
    """The page of a server, loaded, with a key in its session; closed at the end. `scale`: pixels for a CSS pixel."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce",
        device_scale_factor=scale,
    )  # fmt: skip
    context.set_default_timeout(PATIENCE_MS)
    if key:
        context.add_init_script(f"sessionStorage.setItem('whereupon-key', '{key}')")
    page = context.new_page()
    seen = Visit(page, url)
    page.on("request", lambda one: seen.foreign.append(one.url) if not one.url.startswith((url, "data:")) else None)
    page.on("console", lambda one: _note(seen, one.type, one.text))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("dialog", lambda dialog: (seen.errors.append(f"a dialog: {dialog.message}"), dialog.accept()))
    page.goto(url)
    page.wait_for_selector("html[data-ready]")
    try:
        yield seen
    finally:
        context.close()


def _note(seen: Visit, kind: str, text: str) -> None:
    if kind in ("error", "assert", "warning"):
        (seen.refusals if text.startswith(_STATUS) else seen.errors).append(text)


@contextlib.contextmanager
def serving_places(config: Path, run: Path) -> Iterator[Server]:
    """A real server of the tiny town with both keys, whose places have coordinates and categories."""
    keys = {"WHEREUPON_API_KEY": API_KEY, "WHEREUPON_ADMIN_KEY": ADMIN_KEY}
    patient = ["serve.explain_seconds=600"]  # so that no reason is left out on a machine that does other things too
    with serving(config, run, patient, environment=keys) as served:
        called(served.url, f"/v1/catalogues/{served.model}", {"items": PLACES}, "PUT")
        yield served


def called(url: str, path: str, body: Any, method: str) -> Any:
    """What a route answers to the admin key."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN_KEY}"}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, content, headers, method=method)
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)
