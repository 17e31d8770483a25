"""A function in a process of its own: its answer, its memory, and its end beyond a limit."""

import sys
from pathlib import Path

import pytest
from fresh import fresh

MODULE = """
import time
from fresh import start_over

EARLY = bytearray(80 * 2**20)

def twice(number):
    start_over()
    return 2 * number

def fill(mib):
    start_over()
    return len(bytearray(mib * 2**20))

def sleep(s):
    start_over()
    time.sleep(s)

def fail():
    start_over()
    raise ValueError("the moon is made of cheese")
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "played.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_value_comes_back() -> None:
    outcome = fresh("played", "twice", {"number": 21}, limit_s=60, limit_gib=1)
    assert (outcome.value, outcome.problem) == (42, None)


def test_memory_counts_from_the_start_over_only() -> None:
    outcome = fresh("played", "fill", {"mib": 64}, limit_s=60, limit_gib=1)
    assert 60 * 2**20 < outcome.added_bytes < 75 * 2**20
    assert outcome.peak_bytes > 140 * 2**20


def test_function_beyond_its_time_is_ended() -> None:
    outcome = fresh("played", "sleep", {"s": 60}, limit_s=0.2, limit_gib=1)
    assert outcome.problem == "did not finish within 0.2 s"
    assert outcome.wall_s < 30


def test_function_beyond_its_memory_is_ended() -> None:
    outcome = fresh("played", "sleep", {"s": 60}, limit_s=60, limit_gib=0.05)
    assert outcome.problem == "took more than 0.05 GiB"


def test_function_that_fails_says_why() -> None:
    outcome = fresh("played", "fail", {}, limit_s=60, limit_gib=1)
    assert outcome.problem == "failed: ValueError: the moon is made of cheese"
