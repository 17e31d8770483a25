"""The check of reports must see what it is there to see. Runs where there is a Chromium."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, sync_playwright
from report_check import BAD_PAGE, visit

from whereupon.eval.report import report
from whereupon.tests.chromium import chromium
from whereupon.tests.eval.report_town import write_town

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium())


def test_errors_requests_and_dialogs_of_a_page_are_noticed(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8>{BAD_PAGE}<script>alert('hello')</script>")
    seen = visit(browser, page.as_uri())
    assert any("on purpose" in error for error in seen.errors)
    assert any("hello" in error for error in seen.errors)
    assert seen.requests == ["http://127.0.0.1:9/none.png"]


def test_report_with_hostile_titles_is_quiet_and_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    run = write_town(tmp_path / "town")
    items = pl.read_parquet(run / "histories" / "items.parquet")
    hostile = pl.concat_str(pl.lit("<script>alert(1)</script><img src=x onerror=alert(2)>"), "title")
    items.with_columns(title=hostile).write_parquet(run / "histories" / "items.parquet")
    seen = visit(browser, report([run], run / "report.html").as_uri())
    assert (seen.errors, seen.requests) == ([], [])
    assert seen.page.evaluate("document.scripts.length + document.images.length") == 0
    assert str(seen.page.text_content(".example h4")).startswith("<script>alert(1)</script>")
