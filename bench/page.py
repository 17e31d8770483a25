"""The page at `/` of the server: do people's journeys through it work, how quickly does it draw, and can all use it?

    make bench-page
    python bench/page.py --url URL --user ID --at TIME --pictures docs    # screenshots and a tour of a server's page

A tiny simulated town is trained for a few steps and served by the real server; each journey of
`tests/serve/page_journeys.py` runs on a freshly loaded page in a headless Chromium. Counted are failed journeys, errors
on the console, requests to anywhere else, and what axe-core finds at the end of each. The page itself marks the time
at which the answer's headers arrive and the one at which the first list is painted.

With --pictures: page.png and page-prompt.png, and tour.webp, an animated tour (see page_tour.py). The last scene of the
tour stores an event. Those in docs/ show user p0007 at 2024-02-24T15:00 of a town made by `whereupon simulate`.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import statistics
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from page_tour import take_tour
from playwright.sync_api import Browser, sync_playwright
from record import bar, record

import whereupon
from whereupon.config import load_config
from whereupon.tests import conftest
from whereupon.tests.chromium import chromium
from whereupon.tests.serve.page_journeys import JOURNEYS
from whereupon.tests.serve.page_visit import serving_places, visiting

JOURNEYS_ASKED, DRAWN_MS = 10, 200
DRAWN = "performance.getEntriesByName('answer-to-list').map(entry => entry.duration)"
WAIT_MS = 1500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="folder to write to instead of bench/results")
    parser.add_argument("--served", help="URL of such a server of the town that runs already (`serving_places`)")
    parser.add_argument("--url", help="take pictures of this server instead")
    parser.add_argument("--user", help="whose list is shown in the pictures")
    parser.add_argument("--at", help="the time of the request in the pictures, such as 2013-02-14T18:00")
    parser.add_argument("--pictures", type=Path, help="folder of the pictures")
    options = parser.parse_args()
    program = chromium()
    if program is None:
        print("There is no Chromium on this machine; install one, such as Debian's package chromium.", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        if options.url:
            take_pictures(browser, options.url, options.user, options.at, options.pictures)
            key = os.environ.get("WHEREUPON_ADMIN_KEY")
            take_tour(browser, options.url, key, options.user, options.at, options.pictures / "tour.webp")
            return 0
        with _served(options.served) as url:
            found = [journey_of(browser, url, journey) for journey in JOURNEYS]
        return _recorded(found, browser.version, options.output)


@contextlib.contextmanager
def _served(url: str | None) -> Iterator[str]:
    """The URL of a server of the town, by default of a new one."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory() as scratch, serving_places(_town(Path(scratch)), _run(scratch)) as served:
        yield served.url


def _town(folder: Path) -> Path:
    make_town = inspect.unwrap(conftest._make_town)(inspect.unwrap(conftest._make_model)())
    path: Path = make_town(folder / "town", people=4, days=12, head_dim=32)
    config = load_config(path, ["finetune.epochs=0.1", f"run={_run(folder)}"])
    whereupon.prepare(config)
    whereupon.finetune(config)
    return path


def _run(folder: Path | str) -> Path:
    return Path(folder) / "run"


def journey_of(browser: Browser, url: str, journey: Any) -> dict[str, Any]:
    """What happened on one journey."""
    with visiting(browser, url) as visit:
        failure = None
        try:
            journey(visit)
        except Exception:  # whatever it is, the other journeys go on
            failure = traceback.format_exc(limit=-3)
        return {"journey": journey.__name__, "failure": failure, "errors": visit.errors, "foreign": visit.foreign,
                "findings": visit.findings(), "drawn_ms": visit.page.evaluate(DRAWN)}  # fmt: skip


def _recorded(found: list[dict[str, Any]], browser: str, output: Path | None) -> int:
    done = sum(one["failure"] is None for one in found)
    num = {name: sum(len(one[name]) for one in found) for name in ("errors", "foreign", "findings")}
    first = [one["drawn_ms"][0] for one in found if one["drawn_ms"]]
    slowest = max(first, default=None)
    bars = [
        bar("journeys that end well", done, f"all {len(found)}, at least {JOURNEYS_ASKED}",
            done == len(found) >= JOURNEYS_ASKED),
        bar("console errors", num["errors"], "0", not num["errors"]),
        bar("requests elsewhere", num["foreign"], "0", not num["foreign"]),
        bar("serious findings of axe-core", num["findings"], "0", not num["findings"]),
        bar("milliseconds from the answer to the first list, slowest journey", slowest, f"at most {DRAWN_MS}",
            slowest is not None and slowest <= DRAWN_MS),
    ]  # fmt: skip
    return record("page", 5, bars, folder=output, browser=browser, journeys=found,
                  median_drawn_ms=statistics.median(first) if first else None)  # fmt: skip


def take_pictures(browser: Browser, url: str, user: str, at: str, folder: Path) -> None:
    """page.png: a list and the 24 hours of that day; page-prompt.png: the prompt, on a dark page."""
    for dark in (False, True):
        with visiting(browser, url, key=os.environ.get("WHEREUPON_ADMIN_KEY"), width=1440, dark=dark) as visit:
            page = visit.page
            visit.pick(user)
            page.fill("#at", at)
            visit.posted("/v1/questions", lambda page=page: page.press("#at", "Enter"))
            visit.answered()
            if dark:
                page.click("#tab-prompt")
                page.wait_for_timeout(WAIT_MS)
                page.locator(".more").screenshot(path=folder / "page-prompt.png")
            else:
                page.click("text=Show 24 hours")
                page.wait_for_selector(".hours")
                page.mouse.move(0, 0)
                page.wait_for_timeout(WAIT_MS)
                page.screenshot(path=folder / "page.png", full_page=True)


if __name__ == "__main__":
    sys.exit(main())
