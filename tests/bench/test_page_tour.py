"""Which part of a page a scene of the tour shows, and what is drawn over it."""

import pytest
from page_tour import BACK, HEIGHT, LEAST_WIDTH, MARGIN, MARK, SCALE, STRIP, WIDTH, Box, frame, region, scenes
from PIL import Image, ImageColor

PAGE = (1280.0, 2000.0)


@pytest.mark.parametrize(
    ("box", "left", "width"),
    [
        ((0, 0, 1280, 700), 0, 1280), ((100, 900, 400, 950), 0, LEAST_WIDTH), ((300, 100, 1100, 300), 286, 828),
        ((1000, 1900, 1280, 2000), 580, LEAST_WIDTH),
    ],
    ids=["as wide as the page", "small and at the left edge", "in the middle", "at the lower right corner"],
)  # fmt: skip
def test_region_has_the_proportions_of_the_picture_and_stays_on_the_page(box: Box, left: float, width: float) -> None:
    x0, y0, x1, y1 = region([box], *PAGE)
    assert (x0, x1 - x0) == pytest.approx((left, width))
    assert (x1 - x0) / (y1 - y0) == pytest.approx(WIDTH / HEIGHT)
    assert 0 <= y0 <= max(box[1] - MARGIN, 0)
    assert y1 <= PAGE[1] + 1e-6


def test_long_list_is_cut_below_not_above() -> None:
    _, top, _, bottom = region([(0, 300, 700, 1900)], *PAGE)
    assert top == 300 - MARGIN
    assert bottom < 1900


def test_frame_marks_the_subject_above_a_strip_with_a_caption() -> None:
    page = Image.new("RGB", (1280 * SCALE, 800 * SCALE), "white")
    made = frame(page, [(0, 0, 1280, 760)], [(320, 192, 640, 384)], "A caption", 0, 3)
    assert made.size == (WIDTH, HEIGHT + STRIP)
    colours = {colour for _, colour in made.getcolors(100_000) or []}
    assert {ImageColor.getrgb(colour) for colour in ("white", BACK, MARK)} <= colours
    assert made.getpixel((round(300 * WIDTH / 1280), HEIGHT // 2)) == (255, 255, 255)
    strip = made.crop((0, HEIGHT, WIDTH // 2, HEIGHT + STRIP))
    assert len(strip.getcolors(100_000) or []) > 2, "letters stand in the strip"


def test_scenes_last_about_twenty_seconds_and_compare_with_a_later_time() -> None:
    plan = scenes("p0007", "2024-02-24T15:00")
    assert 15 <= sum(scene.seconds for scene in plan) <= 25
    assert len({scene.caption for scene in plan}) == len(plan)
