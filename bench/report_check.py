"""Is the report whole, quick, small and self-contained? Opens it in a headless Chromium, if there is one.

    python bench/report_check.py RUN... [--out FOLDER]

RUN are run folders that `whereupon evaluate` has ranked in. Writes bench/results/report_check.json with one bar for
each of: CPU seconds to write (of the wall clock other programs take their share), megabytes, and of the page opened
from disk its errors on the console, its network requests, and pixels that it is wider than its window; without a
Chromium these are skipped, which is said. Screenshots (wide and phone, light and dark) land in FOLDER. Exits with 1 if
a bar is missed. A page made to fail is opened first: a check that sees nothing there would be worth nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from record import bar, record

from whereupon.eval.report import report
from whereupon.tests.chromium import chromium

SECONDS, MEGABYTES = 30.0, 3.0
PHONE, WIDE = 390, 1280
BAD_PAGE = "<script>console.error('on purpose')</script><img src='http://127.0.0.1:9/none.png'>"


def main() -> int:
    """Write, weigh, open; the exit status."""
    parser = argparse.ArgumentParser(description="Check the HTML report of some runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=None, help="keep report and screenshots here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (given.out or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        began, cpu = time.perf_counter(), time.process_time()
        page = report(given.runs, folder / "report.html")
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        size = page.stat().st_size / 1e6
        bars = [
            bar("CPU seconds to write", cpu_s, f"at most {SECONDS:g}", cpu_s <= SECONDS),
            bar("megabytes", size, f"below {MEGABYTES:g}", size < MEGABYTES),
        ]
        opened: dict[str, Any] = {}
        if program := chromium():
            with sync_playwright() as playwright:
                found, opened = _visits(playwright.chromium.launch(executable_path=program), page, folder)
            bars += found
        else:
            print(
                "There is no Chromium on this machine: the page was written and weighed but not opened; install one, "
                "such as Debian's package chromium, for the other bars.", file=sys.stderr,
            )  # fmt: skip
    return record("report_check", 7, bars, wall_s=seconds, opened=opened)


@dataclass
class Visit:
    """A page, the addresses it requested beside its own, and its errors and warnings."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    load_s: float = 0.0


def visit(browser: Browser, url: str, width: int = WIDE, *, dark: bool = False) -> Visit:
    """Load a page in a window of this width and watch it for another second."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    seen = Visit(page)
    page.on("request", lambda one: seen.requests.append(one.url) if one.url != url and one.url[:5] != "data:" else None)
    page.on("console", lambda one: seen.errors.append(one.text) if one.type in ("error", "assert", "warning") else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("dialog", lambda dialog: (seen.errors.append(f"a dialog: {dialog.message}"), dialog.accept()))
    began = time.perf_counter()
    page.goto(url)
    seen.load_s = time.perf_counter() - began
    page.wait_for_timeout(1000)
    return seen


def _visits(browser: Browser, page: Path, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    bad = folder / "bad.html"
    bad.write_text(BAD_PAGE)
    noticed = visit(browser, bad.as_uri())
    bad.unlink()
    is_noticed = any("on purpose" in error for error in noticed.errors) and len(noticed.requests) == 1
    visits = {}
    for name, width, dark in (
        ("light", WIDE, False),
        ("dark", WIDE, True),
        ("phone", PHONE, False),
        ("phone-dark", PHONE, True),
    ):
        visits[name] = visit(browser, page.as_uri(), width, dark=dark)
        visits[name].page.screenshot(path=folder / f"{name}.png", full_page=True)
    errors = [error for one in visits.values() for error in one.errors]
    requests = [request for one in visits.values() for request in one.requests]
    sideways = max(
        int(one.page.evaluate("document.documentElement.scrollWidth - innerWidth")) for one in visits.values()
    )
    bars = [
        bar("page made to fail is noticed", float(is_noticed), "1", is_noticed),
        bar("console errors", len(errors), "0", not errors),
        bar("network requests", len(requests), "0", not requests),
        bar("pixels wider than its window", sideways, "0", sideways <= 0),
    ]
    lead = visits["light"].page.text_content(".lead")
    return bars, {"says": lead, "load_s": {name: one.load_s for name, one in visits.items()}, "errors": errors[:5],
                  "requests": requests[:5], "browser": browser.version}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
