import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from whereupon.eval.report import svg
from whereupon.eval.report.svg import (
    Scale,
    Shape,
    bar,
    dot,
    labels,
    number,
    picture,
    polyline,
    rule,
    spread,
    tag,
    ticks,
    whisker,
)

sizes = st.floats(-1e6, 1e6, allow_nan=False)


def test_attributes_are_escaped_and_named_as_in_svg() -> None:
    found = tag("line", class_="a", stroke_width=1.5, title=None, aria_label='"<Bar> & Co"')
    assert found == '<line class="a" stroke-width="1.5" aria-label="&#34;&lt;Bar&gt; &amp; Co&#34;"/>'


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("g", "<b>", Markup("<b/>")) == "<g>&lt;b&gt;<b/></g>"


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, "1"), (1.25, "1.2"), (-0.04, "0"), (-0.06, "-0.1"), (1234.56, "1234.6")]
)
def test_coordinate_is_a_tenth_of_a_pixel_and_short(value: float, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_coordinate_that_no_browser_draws_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        dot(value, 0, 1, "mark")


def test_scale_maps_its_ends_and_may_run_backwards() -> None:
    scale = Scale(10, 20, 100, 0)
    assert [scale(10), scale(15), scale(20), scale(25)] == [100, 50, 0, -50]


@pytest.mark.parametrize(("low", "high"), [(1, 1), (0, math.nan), (0, math.inf)])
def test_scale_without_extent_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="two different finite ends"):
        Scale(low, high, 0, 1)


@pytest.mark.parametrize(
    ("low", "high", "about", "expected"),
    [
        (0, 1, 5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.55, 5, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (-0.031, 0.012, 5, [-0.03, -0.02, -0.01, 0.0, 0.01]),
        (1, 20, 5, [5.0, 10.0, 15.0, 20.0]),
        (0, 4113, 3, [0.0, 2000.0, 4000.0]),
        (3, 3, 5, [3]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, about: int, expected: list[float]) -> None:
    assert ticks(low, high, about) == pytest.approx(expected, abs=1e-12)


@given(low=sizes, extent=st.floats(1e-3, 1e6), about=st.integers(2, 12))
def test_ticks_lie_within_evenly_and_are_few(low: float, extent: float, about: int) -> None:
    found = ticks(low, low + extent, about)
    slack = 1e-6 * (abs(low) + extent)
    assert 1 <= len(found) <= 2.5 * about + 1
    assert low - slack <= found[0] <= found[-1] <= low + extent + slack
    gaps = [b - a for a, b in pairwise(found)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3, abs=slack) for gap in gaps)


def test_labels_share_their_decimals_and_have_a_true_minus() -> None:
    assert labels([-0.1, 0.0, 0.25]) == ["−0.10", "0.00", "0.25"]  # noqa: RUF001
    assert labels([0.0, 1000.0]) == ["0", "1,000"]
    assert labels([0.0, 0.25, 0.5], "%") == ["0\u202f%", "25\u202f%", "50\u202f%"]


def test_labels_that_touch_are_moved_apart_evenly() -> None:
    assert spread([10, 10, 50], 4, 0, 100) == pytest.approx([8, 12, 50])


def test_labels_stay_inside_where_there_is_room() -> None:
    assert spread([99, 100], 5, 0, 100) == pytest.approx([95, 100])
    assert spread([-7, 3], 2, 0, 100) == pytest.approx([0, 3])


@given(st.lists(st.floats(0, 200), min_size=1, max_size=9), st.floats(0.5, 20))
def test_spread_keeps_order_gaps_and_bounds(wanted: list[float], gap: float) -> None:
    found = spread(wanted, gap, 0, 200)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [found[i] for i in order]
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(placed))
    assert placed[0] >= -1e-9
    assert placed[-1] <= 200 + 1e-6 or gap * (len(wanted) - 1) > 200


@given(st.lists(st.integers(0, 12), min_size=2, max_size=4), st.integers(1, 4))
def test_spread_is_as_near_as_can_be(wanted: list[int], gap: int) -> None:
    """Against all placements on a fine grid: none that keeps the gaps is nearer."""
    found = spread(wanted, gap, -100, 100)
    cost = sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for shift in (-0.5, 0.5):
        for place in range(len(order)):  # any of the upper ones moved together, up or down
            moved = list(found)
            for index in order[place:]:
                moved[index] += shift
            ordered = [moved[i] for i in order]
            if all(b - a >= gap - 1e-9 for a, b in pairwise(ordered)):
                assert sum((a - b) ** 2 for a, b in zip(moved, wanted, strict=True)) >= cost - 1e-9


def test_picture_tells_what_it_shows_and_an_ornament_hides() -> None:
    shown = ET.fromstring(picture(10, 20, [rule(0, 0, 1, 1, "grid")], "A <line>"))
    assert (shown.get("role"), shown.get("aria-label"), shown.get("viewBox")) == ("img", "A <line>", "0 0 10 20")
    ornament = ET.fromstring(picture(10, 20, [], None))
    assert (ornament.get("role"), ornament.get("aria-hidden")) == (None, "true")


@pytest.mark.parametrize(("shape", "name"), [("circle", "circle"), ("square", "rect"), ("diamond", "polygon")])
def test_mark_has_its_shape_and_tells_its_value(shape: Shape, name: str) -> None:
    found = ET.fromstring(dot(5, 5, 3, "mark", shape, "0.5 & more"))
    assert (found.tag, found.findtext("title")) == (name, "0.5 & more")


def test_whisker_has_caps_across_its_direction() -> None:
    assert 'd="M1 5L9 5M1 2L1 8M9 2L9 8"' in whisker((1, 5), (9, 5), "whisker")
    assert 'd="M5 1L5 9M2 1L8 1M2 9L8 9"' in whisker((5, 1), (5, 9), "whisker")


def test_line_through_one_point_is_nothing() -> None:
    assert polyline([(1, 2)], "series") == ""


def test_axes_draw_a_line_and_a_name_at_each_tick() -> None:
    scale = Scale(0, 2, 0, 100)
    for axis in (
        svg.x_axis(scale, [0, 1, 2], ["a", "b", "<c>"], 0, 50, "x"),
        svg.y_axis(scale, [0, 1, 2], ["a", "b", "<c>"], 0, 50, "x"),
    ):
        whole = ET.fromstring(f"<g>{axis}</g>")
        assert len(whole.findall("line")) == 3
        assert sorted(found.text or "" for found in whole.findall("text")) == ["<c>", "a", "b", "x"]


def test_all_marks_together_are_well_formed() -> None:
    body = [
        bar(0, 0, -3, 5, "bar", "t"),
        svg.area([(0, 0), (1, 1)], [(0, 2), (1, 3)], "band"),
        svg.text(0, 0, "a"),
    ]
    root = ET.fromstring(picture(10, 10, [svg.join(body)], "all"))
    assert root.find("rect") is not None
    assert root.find("rect").get("width") == "0"  # type: ignore[union-attr]
