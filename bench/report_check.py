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
from pathlib import Path
from typing import Any

from browser import Browser, browsing, chromium
from record import bar, record

from whereupon.eval.report import report

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
            with browsing(program) as browser:
                found, opened = _visits(browser, page, folder)
                bars += found
        else:
            print(
                "There is no Chromium on this machine: the page was written and weighed but not opened; install one, "
                "such as Debian's package chromium, for the other bars.", file=sys.stderr,
            )  # fmt: skip
    return record("report_check", 7, bars, wall_s=seconds, opened=opened)


def _visits(browser: Browser, page: Path, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    bad = folder / "bad.html"
    bad.write_text(BAD_PAGE)
    noticed = browser.open(bad.as_uri())
    bad.unlink()
    is_noticed = any("on purpose" in error for error in noticed.errors) and len(noticed.requests) == 1
    errors, requests, loads, sideways = [], [], {}, 0
    for name, width, dark in (
        ("light", WIDE, False),
        ("dark", WIDE, True),
        ("phone", PHONE, False),
        ("phone-dark", PHONE, True),
    ):
        browser.look(width, 900, dark=dark)
        visit = browser.open(page.as_uri())
        errors += visit.errors
        requests += visit.requests
        loads[name] = visit.load_s
        sideways = max(sideways, int(browser.value("document.documentElement.scrollWidth")) - width)
        browser.screenshot(folder / f"{name}.png")
    bars = [
        bar("page made to fail is noticed", float(is_noticed), "1", is_noticed),
        bar("console errors", len(errors), "0", not errors),
        bar("network requests", len(requests), "0", not requests),
        bar("pixels wider than its window", sideways, "0", sideways <= 0),
    ]
    told = str(browser.value("document.querySelector('.lead').textContent"))
    return bars, {"says": told, "load_s": loads, "errors": errors[:5], "requests": requests[:5],
                  "browser": _version(browser)}  # fmt: skip


def _version(browser: Browser) -> str:
    return str(browser.value("navigator.userAgent")).rpartition("Chrome/")[2]


if __name__ == "__main__":
    sys.exit(main())
