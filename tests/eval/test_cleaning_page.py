"""The page of `prepare`: every step with its count and an example, nothing fetched, nothing left unescaped."""

from pathlib import Path

import pytest

from whereupon.catalogue import CatalogueSettings
from whereupon.eval.cleaning_page import write_cleaning_page
from whereupon.histories import HistoriesSettings, PrepareReport, prepare
from whereupon.tests.eval.test_report_page import Page

EVENTS = """user_id,item_id,time,heat
ann,park,2024-01-01T08:00Z,20
ann,zoo,2024-01-02T08:00Z,
,park,2024-01-02T09:00Z,21
ann,park,<script>alert(1)</script>,21
ann,park,2024-01-03T08:00Z,999
bob,zoo,2024-01-04T08:00Z,22
"""


@pytest.fixture
def report(tmp_path: Path) -> PrepareReport:
    events = tmp_path / "events.csv"
    events.write_text(EVENTS)
    fields = {"heat": {"max": 60, "outliers": "empty", "missing": "mean"}}
    settings = {"events": {"path": events}, "context_columns": ["heat"], "clean": {"fields": fields}}
    return prepare(HistoriesSettings.model_validate(settings), CatalogueSettings(), tmp_path / "run")


def test_page_shows_each_step_with_its_count_and_an_example(report: PrepareReport) -> None:
    out = write_cleaning_page(report)
    assert out == report.run / "cleaning.html"
    text = Page(out.read_text(encoding="utf-8")).text
    for fact in (
        "66.7 % of 6 rows became events",
        "2 rows of all tables were rejected",
        "missing user events.csv 1",
        "row 3: user_id is empty",
        "row 4: <script>alert(1)</script>",
        "heat above 60 events.csv 1",
        "row 5: 999.0 → empty",
        "row 2: empty → 20.0",
        "events from events.csv",
    ):
        assert fact in " ".join(text.replace("\N{NARROW NO-BREAK SPACE}", " ").split())


def test_page_needs_no_script_and_no_other_file(report: PrepareReport) -> None:
    text = write_cleaning_page(report).read_text(encoding="utf-8")
    page = Page(text)
    assert not page.of("script")
    assert not page.of("img")
    assert [link["href"] for link in page.of("link")] == ["data:,"]
    assert "default-src 'none'" in text


def test_page_of_clean_data_says_that_nothing_was_done(tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id,time\nann,park,2024-01-01T08:00Z\n")
    settings = HistoriesSettings.model_validate({"events": {"path": events}, "time_zone": "Europe/Berlin"})
    report = prepare(settings, CatalogueSettings(), tmp_path / "run")
    assert not any(step.startswith(("rejected", "changed")) for step, _, _ in report.steps())
    assert "no row was rejected, and no cell was changed" in Page(write_cleaning_page(report).read_text()).text


def test_page_says_what_was_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEREUPON_PRIVACY_KEY", "a key of more than sixteen bytes")
    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id,time\nann,park,2024-01-01T08:07Z\nbob,park,2024-01-01T08:08Z\n")
    settings = HistoriesSettings.model_validate({"events": {"path": events}, "privacy": {"min_item_users": 2}})
    report = prepare(settings, CatalogueSettings(), tmp_path / "run")
    text = Page(write_cleaning_page(report).read_text(encoding="utf-8")).text
    for fact in ("2 users have pseudonyms", "rounded down to 15 minutes", "fewer than 2 users", "2024-01-01 08:00"):
        assert fact in text
    for raw in ("ann", "08:07", "more than sixteen"):
        assert raw not in text


def test_table_in_the_terminal_shows_brackets_of_the_data_as_they_are(report: PrepareReport) -> None:
    from rich.console import Console

    console = Console(width=200, record=True, quiet=False)
    with console.capture() as shown:
        console.print(report.table())
    assert "rejected, events.csv: missing user" in shown.get()
    assert "<script>alert(1)</script>" in shown.get()
    assert "changed, events.csv: heat above 60" in shown.get()
