"""The bars of bench/student.py."""

import student

TEACHER = {"layers": 30, "nDCG@10": 0.55}


def test_student_that_is_fast_and_almost_as_good_keeps_both_bars() -> None:
    row = {"layers": 15, "nDCG@10": 0.545, "requests_per_s": 3.6, "teacher_requests_per_s": 2.0}
    speed, lost = student.bars_of(TEACHER, row)
    assert (speed["value"], speed["ok"], lost["ok"]) == (1.8, True, True)
    assert lost["value"] == 0.55 - 0.545


def test_student_that_is_slow_or_worse_misses_them() -> None:
    row = {"layers": 25, "nDCG@10": 0.53, "requests_per_s": 2.4, "teacher_requests_per_s": 2.0}
    assert [one["ok"] for one in student.bars_of(TEACHER, row)] == [False, False]
