import io

import pytest
from rich.console import Console

from whereupon import console
from whereupon.finetune import progress
from whereupon.finetune.progress import TrainingProgress


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is said, as into a file of 40 columns, every step rather than every half minute."""
    written = io.StringIO()
    monkeypatch.setattr(progress, "talk", Console(file=written, width=40, highlight=False))
    monkeypatch.setattr(console, "talk", progress.talk)
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    return written


def test_line_of_a_log_shows_step_smoothed_loss_and_rates(log: io.StringIO) -> None:
    bar = TrainingProgress(1200)
    with bar.bar:
        bar.step(1, 2.0, num_events=30, num_tokens=500, seconds=2.0)
        bar.step(2, 1.0, num_events=10, num_tokens=1100, seconds=2.0)
    assert log.getvalue().splitlines() == [
        "step 1/1200: loss 2.000, 15.0 events/s, 250 tokens/s",
        "step 2/1200: loss 1.980, 10.0 events/s, 400 tokens/s",  # 0.98 * 2 + 0.02 * 1; rates over all steps
    ]
    assert bar.loss == pytest.approx(1.98)


def test_resumed_run_goes_on_smoothing(log: io.StringIO) -> None:
    bar = TrainingProgress(10, first=5, loss=2.0)
    with bar.bar:
        bar.step(6, 1.0, 1, 1, 1.0)
    assert log.getvalue().startswith("step 6/10: loss 1.980")


def test_process_that_is_not_the_first_says_nothing(log: io.StringIO) -> None:
    bar = TrainingProgress(10, enabled=False)
    with bar.bar:
        bar.step(1, 1.0, 1, 1, 1.0)
    assert log.getvalue() == ""


def test_lines_are_half_a_minute_apart(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 30.0)
    bar = TrainingProgress(10)
    with bar.bar:
        bar.step(1, 1.0, 1, 1, 1.0)
    assert log.getvalue() == ""


def test_bracket_in_a_path_is_no_markup(log: io.StringIO) -> None:
    console.say("runs/[red]/adapter cannot be read")
    assert log.getvalue() == "runs/[red]/adapter cannot be read\n"
