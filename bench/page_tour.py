"""A tour of the page as one animated picture: a screenshot for each scene, with a caption and its subject framed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser

from whereupon.tests.serve.page_visit import Visit, visiting

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in CSS pixels of the whole page."""

WIDTH, HEIGHT, STRIP = 1200, 720, 76
"""Of the picture in pixels, and of the strip with the caption below it."""
VIEWPORT, SCALE = 1280, 2
MARGIN: Final = 14
LEAST_WIDTH: Final = 700
"""CSS pixels across the picture, so that letters are at most 1.7 times as large as on the page."""
BACK, TEXT, FAINT, MARK = "#0b3c40", "#ffffff", "#4f8286", "#d9541e"
WAIT_MS = 1200
EVERYTHING: Final = ".question, .answer, .side"
RECTANGLES = """css => [...document.querySelectorAll(css)]
    .map(one => one.getBoundingClientRect()).filter(one => one.width)
    .map(one => [one.left + scrollX, one.top + scrollY, one.right + scrollX, one.bottom + scrollY])"""


@dataclass(frozen=True)
class Scene:
    """What is done, what the picture shows and frames (CSS selectors), and for how long."""

    caption: str
    act: Callable[[Visit], None]
    shown: str
    framed: str
    seconds: float = 2.4


def scenes(user: str, at: str) -> list[Scene]:
    """The tour for a user and a local time of the request, such as 2024-02-24T15:00."""
    later = (datetime.fromisoformat(at) + timedelta(hours=7)).isoformat(timespec="minutes")
    return [
        Scene("Choose a user. Map and list show the history.", lambda visit: visit.pick(user), EVERYTHING,
              ".question fieldset:first-child, .side", 3.0),
        Scene("Set time, place and weather.", lambda visit: _ask(visit, at), EVERYTHING,
              ".question fieldset:nth-of-type(2), #map"),
        Scene("The most probable of all items, proved exact.", _nothing, ".answer", ".answer"),
        Scene("How the list changes over the day.", _hours, ".more", ".hours"),
        Scene("The same user at another time, in other weather.", lambda visit: _compare(visit, later), ".more",
              "#compared"),
        Scene("The prompt, line by line, as the model reads it.", lambda visit: visit.page.click("#tab-prompt"),
              ".more", ".prompt"),
        Scene("“Chosen” stores the event ...", _nothing, ".answer", ".item:first-child .acts", 1.5),
        Scene("... and the list moves on.", _choose, EVERYTHING, "#certificate, #past > li:first-child li"),
        Scene("Someone new, described by two events: why this list?", _why_for_someone_new, EVERYTHING,
              ".question fieldset:first-child, .why[open]", 3.0),
    ]  # fmt: skip


def take_tour(browser: Browser, url: str, key: str | None, user: str, at: str, path: Path) -> None:
    """Visit the page of a server, do what the scenes say, and write an animated WebP."""
    plan = scenes(user, at)
    frames = []
    with visiting(browser, url, key=key, width=VIEWPORT, scale=SCALE) as visit:
        for at_scene, scene in enumerate(plan):
            scene.act(visit)
            visit.page.mouse.move(0, 0)
            visit.page.wait_for_timeout(WAIT_MS)
            visit.answered()
            shown, framed = (visit.page.evaluate(RECTANGLES, css) for css in (scene.shown, scene.framed))
            whole = Image.open(io.BytesIO(visit.page.screenshot(full_page=True)))
            frames.append(frame(whole.convert("RGB"), shown, framed, scene.caption, at_scene, len(plan)))
    durations_ms = [round(1000 * scene.seconds) for scene in plan]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations_ms, loop=0, quality=88, method=4)


def frame(
    whole: Image.Image, shown: Sequence[Box], framed: Sequence[Box], caption: str, at: int, num: int
) -> Image.Image:
    """The part of a page that is shown, its subject framed, above a strip with the caption and a dot for each scene."""
    left, top, right, bottom = region(shown, whole.width / SCALE, whole.height / SCALE)
    zoom = WIDTH / (right - left)
    box = (left * SCALE, top * SCALE, right * SCALE, bottom * SCALE)
    made = Image.new("RGB", (WIDTH, HEIGHT + STRIP), BACK)
    made.paste(whole.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box))
    draw = ImageDraw.Draw(made)
    for x0, y0, x1, y1 in framed:
        edge = ((x0 - left) * zoom - 7, (y0 - top) * zoom - 7, (x1 - left) * zoom + 7, (y1 - top) * zoom + 7)
        inside = (max(edge[0], 3), max(edge[1], 3), min(edge[2], WIDTH - 4), min(edge[3], HEIGHT - 4))
        draw.rounded_rectangle(inside, radius=12, outline=MARK, width=4)
    draw.rectangle((0, HEIGHT, WIDTH, HEIGHT + STRIP), fill=BACK)
    middle = HEIGHT + STRIP / 2
    draw.text((30, middle), caption, TEXT, ImageFont.load_default(30), anchor="lm")
    for dot in range(num):
        x = WIDTH - 30 - 22 * (num - 1 - dot)
        draw.circle((x, middle), 6, fill=TEXT if dot <= at else FAINT)
    return made


def region(boxes: Sequence[Box], width: float, height: float) -> Box:
    """The part of a page that is as wide as these boxes, in the picture's proportions; long boxes are cut below."""
    left, top = (min(box[side] for box in boxes) - MARGIN for side in (0, 1))
    right, bottom = (max(box[side] for box in boxes) + MARGIN for side in (2, 3))
    across = min(max(right - left, LEAST_WIDTH), width, height * WIDTH / HEIGHT)
    down = across * HEIGHT / WIDTH
    x = min(max((left + right - across) / 2, 0), width - across)
    y = min(max(min(top, (top + bottom - down) / 2), 0), height - down)
    return x, y, x + across, y + down


def _nothing(visit: Visit) -> None:
    """The list that stands there is shown from nearer."""


def _ask(visit: Visit, at: str) -> None:
    page = visit.page
    page.fill("#at", at)
    page.select_option("#sky", "rain")
    page.fill("#degrees", "6")
    box = page.locator("#map").bounding_box()
    assert box is not None, "the items of the tour have coordinates"
    x, y = box["x"] + 0.45 * box["width"], box["y"] + 0.6 * box["height"]
    visit.posted("/v1/questions", lambda: page.mouse.click(x, y), at=at, weather="rain, 6 C")


def _hours(visit: Visit) -> None:
    visit.page.click("#tab-hours")
    visit.page.click("text=Show 24 hours")
    visit.page.wait_for_selector(".hours")


def _compare(visit: Visit, later: str) -> None:
    page = visit.page
    page.click("#tab-compare")
    page.fill("#other-at", later)
    page.select_option("#other-sky", "clear")
    page.click("text=Compare")
    page.wait_for_selector("#compared .columns")


def _choose(visit: Visit) -> None:
    visit.page.click("#list .item:first-child >> text=Chosen")
    visit.page.wait_for_selector("#certificate:has-text('was stored')")
    visit.answered()


def _why_for_someone_new(visit: Visit) -> None:
    page = visit.page
    titles = page.locator("#list .title").all_inner_texts()[:2]
    page.check("text=Someone new")
    visit.answered()
    for num, title in enumerate(titles, start=1):
        page.type("#event-item", title)
        page.click(f"#event-found >> text={title}")
        page.wait_for_selector(f"#certificate:has-text('{num} events')")
    page.click("#explain")
    page.wait_for_selector(".why[open]")
    visit.answered()
