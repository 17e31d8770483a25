import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from whereupon.eval.report import pictures
from whereupon.eval.report.pictures import (
    CONTENDER,
    OPPONENT,
    Look,
    Scale,
    estimate,
    labels,
    line,
    mark,
    number,
    picture,
    polyline,
    rows,
    rule,
    spread,
    tag,
    ticks,
    whisker,
)
from whereupon.eval.report.statistics import Estimate

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
        mark(CONTENDER, value, 0)


def test_scale_maps_its_ends_and_may_run_backwards() -> None:
    scale = Scale(10, 20, 100, 0)
    assert [scale(10), scale(15), scale(20), scale(25)] == [100, 50, 0, -50]


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 1, 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.55, 6, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (-0.031, 0.012, 5, [-0.03, -0.02, -0.01, 0.0, 0.01]),
        (1, 20, 5, [5.0, 10.0, 15.0, 20.0]),
        (0, 4113, 3, [0.0, 2000.0, 4000.0]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, most: int, expected: list[float]) -> None:
    assert ticks(low, high, most) == pytest.approx(expected, abs=1e-12)


@given(low=sizes, extent=st.floats(1e-3, 1e6), most=st.integers(5, 12))
def test_ticks_lie_within_evenly_and_are_few(low: float, extent: float, most: int) -> None:
    found = ticks(low, low + extent, most)
    slack = 1e-6 * (abs(low) + extent)
    assert 2 <= len(found) <= most + 1
    assert low - slack <= found[0] <= found[-1] <= low + extent + slack
    gaps = [b - a for a, b in pairwise(found)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3, abs=slack) for gap in gaps)


def test_labels_share_their_decimals_and_have_a_true_minus() -> None:
    assert labels([-0.1, 0.0, 0.25]) == ["−0.10", "0.00", "0.25"]  # noqa: RUF001
    assert labels([0.0, 1000.0]) == ["0", "1,000"]
    assert labels([0.0, 0.25, 0.5], "%") == ["0\u202f%", "25\u202f%", "50\u202f%"]


def test_labels_that_touch_are_moved_apart() -> None:
    assert spread([10, 11, 50], 4, 100) == pytest.approx([10, 14, 50])


def test_labels_stay_below_the_highest_place() -> None:
    assert spread([99, 100], 5, 100) == pytest.approx([95, 100])


@given(st.lists(st.floats(0, 200), min_size=1, max_size=9), st.floats(0.5, 20))
def test_spread_keeps_order_gaps_and_bounds(wanted: list[float], gap: float) -> None:
    found = spread(wanted, gap, 200)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [found[i] for i in order]
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(placed))
    assert placed[-1] <= 200


def test_picture_shows_what_it_shows_and_an_ornament_hides() -> None:
    shown = ET.fromstring(picture(10, 20, [rule(0, 0, 1, 1, "grid")], "A <line>"))
    assert (shown.get("role"), shown.get("aria-label"), shown.get("viewBox")) == ("img", "A <line>", "0 0 10 20")
    ornament = ET.fromstring(picture(10, 20, [], None))
    assert (ornament.get("role"), ornament.get("aria-hidden")) == (None, "true")


@pytest.mark.parametrize(("look", "name"), [(CONTENDER, "circle"), (OPPONENT, "polygon")])
def test_mark_has_its_shape(look: Look, name: str) -> None:
    found = ET.fromstring(mark(look, 5, 5))
    assert (found.tag, found.get("class")) == (name, f"mark {look.name}")


def test_whisker_has_caps_across_its_direction() -> None:
    assert 'd="M1 5L9 5M1 2L1 8M9 2L9 8"' in whisker((1, 5), (9, 5), CONTENDER)
    assert 'd="M5 1L5 9M2 1L8 1M2 9L8 9"' in whisker((5, 1), (5, 9), CONTENDER)


def test_line_through_one_point_is_nothing() -> None:
    assert polyline([(1, 2)], "series") == ""


def test_axes_draw_a_line_and_a_name_at_each_tick() -> None:
    scale = Scale(0, 2, 0, 100)
    for axis, names in (
        (pictures.x_axis(scale, [0, 1, 2], ["a", "b", "<c>"], 0, 50, "x"), ["<c>", "a", "b", "x"]),
        (pictures.y_axis(Scale(0, 2, 100, 0), 0, 50, "x"), ["0.0", "0.5", "1.0", "1.5", "2.0", "x"]),
    ):
        whole = ET.fromstring(f"<g>{axis}</g>")
        assert len(whole.findall("line")) == len(names) - 1
        assert sorted(found.text or "" for found in whole.findall("text")) == names


SURE, UNSURE = Estimate(0.5, 0.4, 0.7, 100, 9), Estimate(0.2, math.nan, math.nan, 1, 1)
NOTHING = Estimate(math.inf, math.nan, math.nan, 1, 1)


def test_estimate_without_interval_has_no_whisker_and_what_is_infinite_is_not_drawn() -> None:
    x = Scale(0, 1, 0, 100)
    assert 'cx="50"' in estimate(SURE, CONTENDER, x, 5)
    assert 'd="M40 5L70 5' in estimate(SURE, CONTENDER, x, 5)
    assert "whisker" not in estimate(UNSURE, CONTENDER, x, 5)
    assert 'width="20"' in estimate(UNSURE, CONTENDER, x, 5, as_bar=True)
    assert estimate(NOTHING, CONTENDER, x, 5) == ""


def test_row_has_its_name_its_estimates_and_its_note() -> None:
    each = [("<rain>", (SURE, UNSURE), "9"), ("sun", (SURE, None), "8")]
    root = ET.fromstring(rows(each, -0.1, 1, left=80, width=300, title="nDCG", said="all"))
    assert {"<rain>", "sun", "nDCG", "9", "8"} <= {found.text for found in root.findall("text")}
    assert (len(root.findall("circle")), len(root.findall("polygon")), len(root.findall("path"))) == (2, 1, 2)
    assert len(root.findall("line[@class='zero']")) == 1


@pytest.mark.parametrize(("shade", "name", "number_of"), [(True, "polygon", 1), (False, "path", 2)])
def test_line_leaves_out_what_is_infinite_and_shows_intervals(shade: bool, name: str, number_of: int) -> None:
    points = [(0.0, SURE), (10.0, NOTHING), (20.0, UNSURE), (30.0, SURE)]
    root = ET.fromstring(f"<g>{line(CONTENDER, points, Scale(0, 1, 100, 0), shade=shade)}</g>")
    assert (len(root.findall("circle")), len(root.findall(name))) == (3, number_of)
