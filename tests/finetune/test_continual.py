"""An adapter goes on learning from newer events, with older windows mixed in, and is never replaced by a worse one."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from whereupon.config import Config, load_config
from whereupon.decode.adapter_card import read_card
from whereupon.decode.adapters import current_adapter
from whereupon.errors import DataError, ModelError
from whereupon.finetune import FinetuneSettings
from whereupon.finetune.continual import replayed
from whereupon.finetune.schedule import Schedule
from whereupon.finetune.train import finetune
from whereupon.histories import prepare

SMALL = ("prompts.budget_tokens=110", "finetune.rank=2", "finetune.validation_events=8")


def _settings(share: float) -> FinetuneSettings:
    return FinetuneSettings(epochs=2, batch_tokens=800, replay_share=share)


@pytest.mark.parametrize(("share", "old"), [(0.0, 0), (0.5, 10), (0.75, 30), (0.9, 40)])
def test_replay_takes_all_new_windows_and_the_requested_share_of_old_ones(share: float, old: int) -> None:
    old_W = np.arange(50) < 40
    chosen = replayed(old_W, _settings(share), np.random.default_rng(1))
    assert len(np.unique(chosen)) == len(chosen) == 10 + old
    assert set(range(40, 50)) <= set(chosen.tolist())


def test_every_epoch_replays_other_old_windows() -> None:
    old_W = np.arange(50) < 40
    schedule = Schedule(np.full(50, 100), _settings(0.5), 7, 1, old_W)
    epochs = [np.sort(np.concatenate(schedule.batches(epoch))) for epoch in (0, 1)]
    assert [len(windows) for windows in epochs] == [20, 20]
    assert not np.array_equal(*epochs)
    assert len(list(schedule.steps())) == schedule.num_steps() == sum(len(schedule.batches(e)) for e in (0, 1))


@pytest.fixture(name="grown")
def _grown(make_town: Callable[..., Path], tmp_path: Path) -> Callable[..., Config]:
    """A town that an adapter was trained in, and whose events go on for days afterwards."""
    path = make_town(tmp_path / "town", people=3, days=20)
    events = pl.read_csv(tmp_path / "town" / "events.csv", try_parse_dates=True)
    first = events["time"].min()
    assert first is not None
    early = events.filter(pl.col("time") < first + timedelta(days=10))  # type: ignore[operator]

    def grown(*overrides: str) -> Config:
        return load_config(path, [*SMALL, "finetune.epochs=1", *overrides])

    config = grown()
    early.write_csv(tmp_path / "early.csv")
    before = load_config(path, [*SMALL, f"histories.events.path={tmp_path / 'early.csv'}"])
    for one in (before, config):
        prepare(one.histories, one.catalogue, one.run, one.seed)
        if one is before:
            finetune(before)
    return grown


@pytest.mark.slow
def test_training_from_an_adapter_begins_with_its_weights_and_keeps_the_best(grown: Callable[..., Config]) -> None:
    config = grown("finetune.learning_rate=1e-12")
    first, second = current_adapter(config.run), finetune(config, "0001")
    assert (first.name, second.name) == ("0001", "0002")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    log = [json.loads(line) for line in (second / "log.jsonl").read_text().splitlines()]
    assert log[0]["step"] == 0
    card, earlier = read_card(second), read_card(first)
    assert card["started_from"] == earlier["adapter_hash"]
    assert card["trained_until"] > earlier["trained_until"]
    assert card["validation"]["nDCG@10"] >= log[0]["nDCG@10"]
    with pytest.raises(DataError, match="no training events after"):  # 0002 has seen them all
        finetune(config, "0002")


@pytest.mark.slow
def test_adapter_that_does_not_fit_is_refused_as_a_start(grown: Callable[..., Config], tmp_path: Path) -> None:
    config = grown()
    with pytest.raises(ModelError, match=r"finetune\.rank 2 but this run has 4.*set finetune\.rank to 2"):
        finetune(grown("finetune.rank=4"), "0001")
    with pytest.raises(ModelError, match="There is no trained adapter"):
        finetune(config, "0009")
    later = tmp_path / "later"
    shutil.copytree(config.run / "adapters" / "0001", later)
    card = json.loads((later / "whereupon.json").read_text())
    for until, expected in (("2030-01-01T00:00:00+00:00", "may have seen validation events"), (None, "up to which")):
        said = {key: value for key, value in card.items() if key != "trained_until"}
        (later / "whereupon.json").write_text(json.dumps(said | ({"trained_until": until} if until else {})))
        with pytest.raises(ModelError, match=expected):
            finetune(config, str(later))
