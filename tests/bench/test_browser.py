"""The browser that opens reports: it must notice what it is there to notice. Runs where there is a Chromium."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from browser import Browser, browsing, chromium
from report_check import BAD_PAGE

from whereupon.eval.report import report
from whereupon.tests.eval.report_town import write_town

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing(str(chromium())) as browser:
        yield browser


def _page(folder: Path, text: str) -> str:
    (folder / "page.html").write_text(f"<!doctype html><meta charset=utf-8><link rel=icon href='data:,'>{text}")
    return (folder / "page.html").as_uri()


def test_errors_and_requests_of_a_page_are_noticed(browser: Browser, tmp_path: Path) -> None:
    visit = browser.open(_page(tmp_path, BAD_PAGE))
    assert any("on purpose" in error for error in visit.errors)
    assert visit.requests == ["http://127.0.0.1:9/none.png"]


def test_dialog_is_noticed_and_does_not_hold_the_page_up(browser: Browser, tmp_path: Path) -> None:
    visit = browser.open(_page(tmp_path, "<script>alert('hello')</script>"))
    assert visit.errors == ["a dialog: hello"]


def test_report_with_hostile_titles_is_quiet_and_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    run = write_town(tmp_path / "town")
    items = pl.read_parquet(run / "histories" / "items.parquet")
    hostile = pl.concat_str(pl.lit("<script>alert(1)</script><img src=x onerror=alert(2)>"), "title")
    items.with_columns(title=hostile).write_parquet(run / "histories" / "items.parquet")
    visit = browser.open(report([run], run / "report.html").as_uri())
    assert (visit.errors, visit.requests) == ([], [])
    assert browser.value("document.scripts.length + document.images.length") == 0
    assert browser.value("document.querySelector('.example h4').textContent").startswith("<script>alert(1)</script>")


def test_quiet_page_is_quiet_after_a_loud_one(browser: Browser, tmp_path: Path) -> None:
    visit = browser.open(_page(tmp_path, "<p>Nothing happens here."))
    assert (visit.errors, visit.requests) == ([], [])


def test_page_can_be_asked_for_dark_and_for_narrow(browser: Browser, tmp_path: Path) -> None:
    browser.look(390, 800, dark=True)
    browser.open(_page(tmp_path, "<meta name=viewport content='width=device-width'>"))
    assert browser.value("matchMedia('(prefers-color-scheme: dark)').matches") is True
    assert browser.value("innerWidth") == 390
    browser.look(1000, 800)
    assert browser.value("matchMedia('(prefers-color-scheme: dark)').matches") is False


def test_screenshot_is_as_tall_as_the_page(browser: Browser, tmp_path: Path) -> None:
    browser.look(400, 300)
    browser.open(_page(tmp_path, "<style>body {margin: 0}</style><div style='height: 1234px'></div>"))
    browser.screenshot(tmp_path / "shot.png")
    header = (tmp_path / "shot.png").read_bytes()[:24]
    assert header[1:4] == b"PNG"
    assert int.from_bytes(header[20:24], "big") == 1234
