"""Learning rates and the batches of a step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.finetune import FinetuneSettings
from whereupon.finetune.schedule import Schedule, micro_batches


def _rates(**settings: object) -> list[float]:
    """Of 100 steps, 10 of them warm-up."""
    chosen = FinetuneSettings.model_validate({"learning_rate": 1.0, "warmup_fraction": 0.1, **settings})
    schedule = Schedule(np.full(1, 1), chosen, 0, 1)
    return [schedule.learning_rate(step, 100) for step in range(101)]


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant", "wsd"])
def test_every_schedule_rises_in_a_line_to_its_peak(shape: str) -> None:
    assert _rates(schedule=shape)[:11] == pytest.approx([step / 10 for step in range(11)])


@pytest.mark.parametrize(
    ("shape", "middle", "end"),
    [("cosine", 0.55, 0.1), ("linear", 0.55, 0.1), ("constant", 1.0, 1.0), ("wsd", 1.0, 0.1)],
)
def test_schedule_goes_down_to_its_floor(shape: str, middle: float, end: float) -> None:
    rates = _rates(schedule=shape, floor=0.1)
    assert rates[55] == pytest.approx(middle)
    assert rates[100] == pytest.approx(end)
    assert max(rates) == pytest.approx(1.0)
    assert min(rates[10:]) == pytest.approx(end)


def test_wsd_is_stable_until_its_last_part() -> None:
    rates = _rates(schedule="wsd", decay_fraction=0.5)
    assert set(rates[10:56]) == {1.0}
    assert rates[78] == pytest.approx(22 / 45)


def test_accumulated_batches_make_fewer_steps_and_miss_no_window() -> None:
    length_W = np.random.default_rng(0).integers(50, 400, 40)
    plain = Schedule(length_W, FinetuneSettings(epochs=1, batch_tokens=800), 7, 1)
    added = Schedule(length_W, FinetuneSettings(epochs=1, batch_tokens=800, accumulate=3), 7, 2)
    assert added.num_steps() == -(-plain.num_steps() // 6)
    steps = [np.concatenate(batches) for batches, _ in added.steps()]
    assert sorted(np.concatenate(steps).tolist()) == list(range(40))


def test_step_of_two_processes_holds_the_windows_of_one_that_adds_two_batches() -> None:
    length_W = np.random.default_rng(0).integers(50, 400, 40)
    two = Schedule(length_W, FinetuneSettings(epochs=2, batch_tokens=800), 7, 2)
    one = Schedule(length_W, FinetuneSettings(epochs=2, batch_tokens=800, accumulate=2), 7, 1)
    for (mine, mark), (other, other_mark) in zip(one.steps(), two.steps(), strict=True):
        assert [batch.tolist() for batch in mine] == [batch.tolist() for batch in other]
        assert mark == other_mark
    assert two.step_after(3, 1) == 1  # three steps of one process that adds nothing up are three batches


@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=4), num_processes=st.integers(1, 3), split=st.integers(1, 4)
)
def test_parts_of_a_step_hold_each_window_once_and_are_as_many_for_each_process(
    sizes: list[int], num_processes: int, split: int
) -> None:
    sizes = sizes * num_processes
    ends = np.cumsum(sizes)
    batches = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    rows = micro_batches(batches, num_processes, split)
    assert all(len(row) == num_processes and any(len(part) for part in row) for row in rows)
    assert sorted(window for row in rows for part in row for window in part.tolist()) == list(range(sum(sizes)))
    largest = max((len(part) for row in rows for part in row), default=0)
    assert largest == -(-max(sizes) // split)


def test_padding_is_what_the_longest_window_of_a_batch_adds_to_the_others() -> None:
    assert Schedule(np.full(9, 50), FinetuneSettings(batch_tokens=200), 7, 2).padding() == 0.0
    one_batch = Schedule(np.array([100, 50, 30]), FinetuneSettings(batch_tokens=300), 7, 1)
    assert one_batch.padding() == pytest.approx(1 - 180 / 300)
