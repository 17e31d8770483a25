"""Journeys through the page at `/`, each on a freshly loaded page of one server: see `page_visit.serving_places`."""

from __future__ import annotations

from collections.abc import Callable

from whereupon.tests.serve.page_visit import Visit, called

DAY = "2024-01-20"


def known_user_gets_a_ranked_list_with_its_certificate(visit: Visit) -> None:
    page = visit.page
    page.click("#suggested >> text=p01")
    visit.answered()
    shares = [float(text.split()[-2]) for text in page.locator("#list .probability").all_inner_texts()]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < 3
    assert "exact" in page.inner_text("#certificate")
    assert page.inner_text("#answer-title") == "Next for user p01"
    assert page.input_value("#at") > "2024-01-1", "an hour after the last event"
    page.wait_for_selector("#past .in-prompt time")
    assert page.evaluate("document.scripts.length") == 1
    assert page.locator("text=onerror=alert(1)").count(), "a title is text, whatever stands in it"


def moment_and_weather_are_asked_about(visit: Visit) -> None:
    page = visit.page
    visit.pick("p00")
    page.fill("#at", f"{DAY}T12:00")
    page.select_option("#sky", "rain")
    page.fill("#degrees", "18")
    body = visit.posted("/v1/recommendations", lambda: page.press("#degrees", "Enter"))
    assert body["context"] == {"at": f"{DAY}T12:00", "weather": "rain, 18 C"}
    visit.answered()
    later = visit.posted("/v1/recommendations", lambda: page.click("text=+1 h"), at=f"{DAY}T13:00")
    assert later["context"]["weather"] == "rain, 18 C"
    visit.answered()


def chosen_item_is_stored_and_the_list_moves_on(visit: Visit) -> None:
    page = visit.page
    visit.pick("p02")
    before = page.inner_text("#certificate")
    page.fill("#at", f"{DAY}T12:00")
    title = page.inner_text("#list .item >> nth=0 >> .title")
    event = visit.posted("/v1/events", page.get_by_role("button", name=f"Chosen: {title}", exact=True).click)
    assert event["events"][0]["time"].startswith(f"{DAY}T12:00:00")
    page.wait_for_selector("#certificate:has-text('was stored')")
    visit.answered()
    assert page.input_value("#at") == f"{DAY}T13:00"
    assert page.inner_text("#certificate") != before
    page.wait_for_selector(f"#past h3:has-text('20 Jan') + ol:has-text('{title[:8]}')")
    stored = called(visit.url, "/v1/events/p02", None, "GET")["data"]
    assert stored[-1]["event_id"] == event["events"][0]["event_id"]


def reasons_stand_below_each_item_and_rankers_in_columns(visit: Visit) -> None:
    page = visit.page
    visit.pick("p00")
    page.click("#explain")
    page.wait_for_selector(".why")
    visit.answered()
    assert page.locator(".why").count() == page.locator("#list .item").count()
    assert "first with" in page.inner_text(".why >> nth=0 >> summary")
    names = page.locator(".why >> nth=0 >> .shares th").all_inner_texts()
    assert {"time", "weather", "model"} <= set(names)
    page.click("#tab-rankers")
    cells = page.locator(".rankers td:nth-child(2)").all_inner_texts()
    assert abs(sum(float(cell) for cell in cells if cell != "·") - 100) < 4


def someone_new_is_described_by_the_keyboard(visit: Visit) -> None:
    page = visit.page
    page.check("text=Someone new")
    visit.answered()
    assert "0 events" in page.inner_text("#certificate")
    page.type("#event-item", "cinema")
    page.wait_for_selector("#event-found button")
    body = visit.posted("/v1/recommendations", lambda: page.press("#event-item", "Enter"))
    assert [event["item_id"] for event in body["events"]] == ["cinema"]
    page.wait_for_selector("#certificate:has-text('1 events')")
    page.click("#described button")
    page.wait_for_selector("#certificate:has-text('0 events')")


def filters_and_left_out_items_change_the_list(visit: Visit) -> None:
    page = visit.page
    visit.pick("p00")
    page.click("#filters summary")
    page.select_option("#category", "bar")
    page.wait_for_selector("#certificate:has-text('of 3 items')")
    page.click("[aria-label='Leave out Bar One']")
    page.wait_for_selector("#certificate:has-text('of 2 items')")
    assert "2 set" in page.inner_text("#filters-said")
    page.click("#excluded button")
    page.wait_for_selector("#certificate:has-text('of 3 items')")
    page.fill("#k", "1")
    page.press("#k", "Enter")
    page.locator("#list .item").nth(1).wait_for(state="detached")
    assert page.locator("#list .item").count() == 1


def click_on_the_map_sets_the_place(visit: Visit) -> None:
    page = visit.page
    visit.pick("p00")
    page.wait_for_selector("#map")
    box = page.locator("#map").bounding_box()
    assert box is not None
    body = visit.posted(
        "/v1/recommendations", lambda: page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    )
    assert 52.4 < body["context"]["latitude"] < 52.6
    assert 13.3 < body["context"]["longitude"] < 13.5
    page.wait_for_selector(".about-item:has-text('m')")
    assert "first ranked" in str(page.get_attribute("#map", "aria-label"))
    page.click("#map-in")
    page.click("#no-place")
    assert page.input_value("#latitude") == ""


def twenty_four_hours_stand_side_by_side(visit: Visit) -> None:
    page = visit.page
    visit.pick("p00")
    page.focus("text=Show 24 hours")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hours")
    assert page.evaluate("document.activeElement.ariaLabel") == "24 hours", "the button is gone, the focus is not"
    assert page.locator(".hours thead th").count() == 25
    assert page.locator(".hours .first").count() == 24
    body = visit.posted("/v1/recommendations", lambda: page.click("[aria-label='Ask about 21:00']"))
    assert body["context"]["at"].endswith("T21:00")
    visit.answered()
    page.wait_for_selector(".selected-hour >> text=21")  # the strip stays, and so does the focus
    assert page.evaluate("document.activeElement.ariaLabel") == "Ask about 21:00"
    page.select_option("#sky", "rain")
    page.wait_for_selector("text=Show 24 hours")  # another question: the strip no longer holds


def two_moments_are_compared(visit: Visit) -> None:
    page = visit.page
    visit.pick("p00")
    page.fill("#at", f"{DAY}T12:00")
    visit.posted("/v1/recommendations", lambda: page.press("#at", "Tab"), at=f"{DAY}T12:00")
    visit.answered()
    page.click("#tab-compare")
    assert page.input_value("#other-at") == f"{DAY}T12:00"
    page.fill("#other-at", f"{DAY}T23:00")
    page.select_option("#other-sky", "snow")
    body = visit.posted("/v1/recommendations", lambda: page.click("text=Compare"), at=f"{DAY}T23:00")
    assert body["context"] == {"at": f"{DAY}T23:00", "weather": "snow"}
    page.wait_for_selector("#compared .columns")
    assert page.locator("#compared h3").count() == 2
    assert page.locator("#compared .item").count() == 10
    assert "snow" in page.inner_text("#compared h3 >> nth=1")


def prompt_is_shown_line_by_line_with_its_tokens(visit: Visit) -> None:
    page = visit.page
    visit.pick("p00")
    page.click("#tab-prompt")
    page.wait_for_selector(".prompt li.question")
    counts = [int(text) for text in page.locator(".prompt .number").all_inner_texts()]
    total = int(page.inner_text("#view-prompt strong").split(" of ")[0])
    assert sum(counts) == total
    assert page.locator(".prompt .question .field.time").count()
    assert page.locator(".prompt .event .field.title").count()


def catalogue_is_searched_and_edited(visit: Visit) -> None:
    page = visit.page
    page.click("#tab-catalogue")
    page.wait_for_selector(".rows")
    page.click("text=Add an item")
    for name, value in {"item_id": "zoo", "title": "Old Zoo", "category": "outdoors", "latitude": "95"}.items():
        page.fill(f"#field-{name}", value)
    page.click("#item-dialog >> text=Save")
    page.wait_for_selector("#item-dialog .problem:has-text('latitude')")  # there is no such place on earth
    page.fill("#field-latitude", "52.5")
    page.fill("#field-longitude", "13.4")
    page.click("#item-dialog >> text=Save")
    page.wait_for_selector("#catalogue-said:has-text('is saved')")
    page.fill("#catalogue-query", "zoo")
    page.wait_for_selector("#catalogue-said:has-text('1 to 1 of 1')")
    page.click("[aria-label='Edit Old Zoo']")
    page.fill("#field-title", "New Zoo")
    page.click("#item-dialog >> text=Save")
    page.wait_for_selector(".rows >> text=New Zoo")
    page.click("[aria-label='Take out New Zoo']")
    page.click("#item-dialog >> text=Take it out")
    page.wait_for_selector("#catalogue-said:has-text('is taken out')")
    assert "5 items" in page.inner_text("#about")


def health_and_load_are_shown(visit: Visit) -> None:
    page = visit.page
    visit.pick("p00")
    page.wait_for_selector("#state:has-text('ready')")
    page.click("#tab-server")
    page.wait_for_selector(".tiles")
    said = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
    assert int(said["Searches finished"].replace(",", "")) > 0
    assert said["Items"] == "5"


def keyboard_alone_is_enough(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(4):  # the other link to skip, the API key, the kind of person, the user id
        page.keyboard.press("Tab")
    page.keyboard.type("p03")
    page.keyboard.press("Enter")
    visit.answered()
    page.focus("#tab-hours")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "tab-server"
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#view-hours")


JOURNEYS: tuple[Callable[[Visit], None], ...] = (
    known_user_gets_a_ranked_list_with_its_certificate,
    moment_and_weather_are_asked_about,
    chosen_item_is_stored_and_the_list_moves_on,
    reasons_stand_below_each_item_and_rankers_in_columns,
    someone_new_is_described_by_the_keyboard,
    filters_and_left_out_items_change_the_list,
    click_on_the_map_sets_the_place,
    twenty_four_hours_stand_side_by_side,
    two_moments_are_compared,
    prompt_is_shown_line_by_line_with_its_tokens,
    catalogue_is_searched_and_edited,
    health_and_load_are_shown,
    keyboard_alone_is_enough,
)
