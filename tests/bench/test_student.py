"""The bars of bench/student.py."""

from collections.abc import Callable

import student

from whereupon.config import Config

TEACHER = {"layers": 30, "nDCG@10": 0.55}


def test_student_that_is_fast_and_almost_as_good_keeps_both_bars() -> None:
    row = {"layers": 15, "nDCG@10": 0.545, "requests_per_s": 3.6, "teacher_requests_per_s": 2.0}
    speed, lost = student.bars_of(TEACHER, row)
    assert (speed["value"], speed["ok"], lost["ok"]) == (1.8, True, True)
    assert lost["value"] == 0.55 - 0.545


def test_student_that_is_slow_or_worse_misses_them() -> None:
    row = {"layers": 25, "nDCG@10": 0.53, "requests_per_s": 2.4, "teacher_requests_per_s": 2.0}
    assert [one["ok"] for one in student.bars_of(TEACHER, row)] == [False, False]


def test_quality_and_speed_are_those_of_runs_that_are_trained(town_copy: Callable[..., Config]) -> None:
    config = town_copy("evaluate.baselines=[]")
    quality = student._quality(config, 3)
    assert quality["events"] == 3
    assert 0 <= quality["nDCG@10"] <= 1
    speed = student._speed(config, config, 2)
    assert speed["users"] == 2
    assert min(speed["teacher_requests_per_s"], speed["requests_per_s"]) > 0
