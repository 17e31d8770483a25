"""The page at `/` in Chromium, against the real server. Runs where there is a Chromium."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from whereupon.tests.chromium import chromium
from whereupon.tests.serve.page_journeys import JOURNEYS
from whereupon.tests.serve.page_visit import API_KEY, PHONE, Visit, serving_places, visiting

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium())


@pytest.fixture(scope="module")
def served_places(barely_trained: Path, merged_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the one server of all journeys."""
    import shutil

    run = tmp_path_factory.mktemp("page") / "town"
    shutil.copytree(merged_run, run)
    with serving_places(barely_trained, run) as served:
        yield served.url


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda one: one.__name__)
def test_journey(journey: Callable[[Visit], None], browser: Browser, served_places: str) -> None:
    with visiting(browser, served_places) as visit:
        journey(visit)
        assert visit.findings() == []
    assert (visit.errors, visit.foreign) == ([], [])


def test_unknown_user_is_a_sentence(browser: Browser, served_places: str) -> None:
    with visiting(browser, served_places) as visit:
        visit.page.fill("#user", "nemo")
        visit.page.press("#user", "Enter")
        visit.page.wait_for_selector("#problem:has-text('No events of user')")
        assert visit.findings() == []
    assert visit.errors == []


def test_api_key_shows_the_list_and_says_what_it_may_not(browser: Browser, served_places: str) -> None:
    with visiting(browser, served_places, key=API_KEY) as visit:
        visit.pick("p00")
        assert visit.page.locator("#list .item").count() == 5
        visit.page.wait_for_selector("#past-about:has-text('the admin key')")
        assert visit.page.locator("#past time").count() == 0
        assert visit.page.locator("#suggested button").count() == 0
    assert visit.errors == []


def test_missing_key_is_requested_and_kept_in_the_session_alone(browser: Browser, served_places: str) -> None:
    with visiting(browser, served_places, key=None) as visit:
        page = visit.page
        page.wait_for_selector("#key-dialog[open]")
        assert visit.findings() == []
        page.fill("#key", "wrong")
        page.press("#key", "Enter")
        page.wait_for_selector("#key-problem:has-text('refused')")
        page.fill("#key", API_KEY)
        page.press("#key", "Enter")
        page.wait_for_selector("#about:has-text('5 items')")
        visit.pick("p00")
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    assert visit.errors == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_phone_shows_all_without_scrolling_sideways(browser: Browser, served_places: str, dark: bool) -> None:
    with visiting(browser, served_places, width=PHONE, dark=dark) as visit:
        visit.pick("p00")
        visit.page.click("#explain")
        visit.page.wait_for_selector(".why")
        for tab in ("hours", "compare", "rankers", "prompt", "catalogue", "server"):
            visit.page.click(f"#tab-{tab}")
            assert visit.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, tab
            assert visit.findings() == []
    assert visit.errors == []


def test_script_beside_the_page_does_not_run(browser: Browser, served_places: str) -> None:
    """Else the content security policy, which the journeys keep, might be none."""
    with visiting(browser, served_places) as visit:
        visit.page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
        )
        assert visit.page.evaluate("window.ran") is None
        assert any("Content Security Policy" in error for error in visit.errors)
