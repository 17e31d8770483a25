"""How long a training will take, before it is begun."""

import re
from collections.abc import Callable

import pytest

from whereupon.config import Config
from whereupon.finetune import dataset
from whereupon.finetune.estimate import estimate
from whereupon.finetune.train import finetune
from whereupon.tests.texts import says

Town = Callable[..., Config]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_estimate_counts_all_steps_and_leaves_no_adapter(
    town: Town, capsys: pytest.CaptureFixture[str], accumulate: int
) -> None:
    config = town("finetune.epochs=2", "finetune.batch_tokens=400", f"finetune.accumulate={accumulate}")
    found = estimate(config)
    [examples] = (config.run / "examples").iterdir()
    assert examples.is_dir()
    assert found.tokens_per_s > 0
    assert found.num_steps == 4 // accumulate
    assert not (config.run / "adapters").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(says("memory of the largest step", "decision edges", f"{found.num_steps} steps"), said)


def test_estimate_on_top_of_rankers_leaves_no_examples_that_the_training_would_not_read(town: Town) -> None:
    config = town("priors=[popularity]", "finetune.epochs=1", "finetune.batch_tokens=400")
    assert estimate(config).tokens_per_s > 0
    assert not (config.run / "examples").exists()


@pytest.mark.slow
def test_training_reads_the_examples_of_the_estimate(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    config = town("finetune.epochs=0.5", "finetune.batch_tokens=400", "finetune.validation_events=4")
    estimate(config)
    monkeypatch.setattr(dataset, "make_examples", lambda *_: pytest.fail("the examples are there"))
    finetune(config)
