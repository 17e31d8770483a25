"""How long a training will take, before it is begun."""

import re
from collections.abc import Callable

import pytest

from whereupon.config import Config
from whereupon.finetune.estimate import estimate
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
