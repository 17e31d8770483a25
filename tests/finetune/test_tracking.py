"""What is seen of a training: steps.jsonl, the learning curve and trackers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from whereupon.config import Config
from whereupon.finetune.curve import draw_curve, learning_curve
from whereupon.finetune.progress import TrainingProgress, read_steps
from whereupon.finetune.train import finetune

Town = Callable[..., Config]
SHORT = ("finetune.epochs=2", "finetune.validations_per_epoch=1", "finetune.batch_tokens=400")


@pytest.mark.slow
def test_steps_are_written_every_few_of_them_and_before_each_validation(town: Town) -> None:
    folder = finetune(town(*SHORT, "finetune.log_every=2"))
    steps = read_steps(folder)
    marks = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    last = marks[-1]
    assert [line["step"] for line in steps] == sorted({*range(2, last + 1, 2), *marks})
    assert all(line.keys() == {"step", "loss", "learning_rate", "tokens_per_s", "titles_per_s"} for line in steps)
    assert all(line["loss"] > 0 and line["tokens_per_s"] > line["titles_per_s"] > 0 for line in steps)


@pytest.mark.slow
def test_losses_do_not_depend_on_how_often_they_are_looked_at(town: Town) -> None:
    often, rare = (finetune(town(*SHORT, f"finetune.log_every={n}", run=str(n))) for n in (1, 7))
    assert (often / "log.jsonl").read_text() == (rare / "log.jsonl").read_text()


@pytest.mark.slow
def test_steps_taken_again_after_an_interruption_stand_there_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is that of a validation, some steps before."""
    config, step = town(*SHORT, "finetune.log_every=1"), TrainingProgress.step

    def interrupted(self: TrainingProgress, now: int, *numbers: Any) -> None:
        if now == 4:
            raise KeyboardInterrupt
        step(self, now, *numbers)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)
    assert [line["step"] for line in read_steps(config.run / "adapters" / "0001")] == [1, 2, 3]
    folder = finetune(config)
    numbers = [line["step"] for line in read_steps(folder)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_steps(tmp_path) == [{"step": 1, "loss": 2.0}]
    assert read_steps(tmp_path / "nowhere") == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own
def test_tensorboard_has_what_the_files_have(town: Town) -> None:
    config = town(*SHORT, "finetune.log_every=2", "finetune.track=[tensorboard]")
    folder = finetune(config)
    [events] = (config.run / "tracking" / "0001").glob("*/events.out*")
    found = EventAccumulator(str(events)).Reload()
    steps = read_steps(folder)
    assert [one.step for one in found.Scalars("train/loss")] == [line["step"] for line in steps]
    assert [one.value for one in found.Scalars("train/loss")] == pytest.approx([line["loss"] for line in steps])
    assert "validation/nDCG_at_10" in found.Tags()["scalars"]


def test_curve_is_a_picture_of_every_panel() -> None:
    drawn = ElementTree.fromstring(learning_curve({"loss": [(1, 2.0), (5, 1.0)], "validation nDCG@10": [(5, 0.5)]}))
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"loss", "validation nDCG@10", "step"} <= set(words)
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 1  # one point is no line


def test_curve_of_constant_values_has_a_scale() -> None:
    assert "polyline" in str(learning_curve({"loss": [(1, 2.0), (2, 2.0)]}))


def test_curve_of_nothing_is_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    draw_curve(tmp_path)
    assert not (tmp_path / "curve.svg").exists()
