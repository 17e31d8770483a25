"""The steps of a training: how many, of which batches, and at which learning rate."""

import numpy as np
import pytest
import torch
from transformers import (
    get_cosine_schedule_with_warmup,
)

from whereupon.finetune import FinetuneSettings
from whereupon.finetune.schedule import Schedule

pytestmark = pytest.mark.slow  # all together


def _schedule(epochs: float, num_processes: int = 1) -> Schedule:
    length_W = np.random.default_rng(0).integers(50, 400, 40)
    return Schedule(length_W, FinetuneSettings(epochs=epochs, batch_tokens=1000), 7, num_processes)


def test_steps_are_those_of_whole_epochs_and_a_share_of_the_last() -> None:
    per_epoch = [len(_schedule(1).batches(epoch)) for epoch in range(2)]
    assert _schedule(1).num_steps() == per_epoch[0]
    assert _schedule(1.5).num_steps() == per_epoch[0] + round(per_epoch[1] / 2)
    assert _schedule(0.001).num_steps() == 1


def test_steps_name_the_batches_of_each_process_and_the_validations() -> None:
    schedule = Schedule(
        np.full(5, 1000), FinetuneSettings(epochs=1.5, batch_tokens=1000, validations_per_epoch=1), 7, 2
    )
    steps = list(schedule.steps())
    assert [is_mark for _, is_mark in steps] == [False, False, True, False, True]  # after the epoch, and at the end
    assert [[len(batch) for batch in batches] for batches, _ in steps] == [[1, 1], [1, 1], [1, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize(("step", "there", "here", "expected"), [
    (0, 2, 1, 0), (2, 2, 1, 4), (3, 2, 1, 5), (4, 2, 1, 7), (5, 1, 2, 3), (4, 1, 2, 2), (3, 1, 3, 1), (10, 1, 2, 6),
])  # fmt: skip
def test_step_of_other_processes_is_found_by_the_batches_done(step: int, there: int, here: int, expected: int) -> None:
    """Five batches an epoch, two epochs."""
    schedule = Schedule(np.full(5, 1000), FinetuneSettings(epochs=2, batch_tokens=1000), 7, here)
    assert schedule.step_after(step, there) == expected


def test_learning_rate_is_that_of_transformers() -> None:
    schedule = _schedule(1)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=schedule.settings.learning_rate)
    reference = get_cosine_schedule_with_warmup(optimizer, int(0.05 * 97), 97)
    found, expected = [], []
    for step in range(98):
        found.append(schedule.learning_rate(step, 97))
        expected.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    assert found == expected


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_share_an_epoch_evenly_and_miss_no_window(num_processes: int) -> None:
    batches = _schedule(1, num_processes).batches(0)
    assert len(batches) % num_processes == 0
    assert sorted(np.concatenate(batches).tolist()) == list(range(40))  # none twice
    assert _schedule(1, num_processes).num_steps() == len(batches) // num_processes
