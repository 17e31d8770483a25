"""The nightly loop of examples/production: feedback becomes training data, and a better adapter is in use."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from whereupon.config import load_config
from whereupon.decode.adapter_card import read_card
from whereupon.decode.adapters import current_name
from whereupon.finetune.train import finetune
from whereupon.histories import prepare
from whereupon.recommend.store import open_store
from whereupon.recommend.store.event import Event

SMALL = ("prompts.budget_tokens=110", "finetune.rank=2", "finetune.validation_events=8", "finetune.epochs=0.2")


def test_shop_of_the_nightly_loop_is_a_valid_configuration(root: Path) -> None:
    config = load_config(root / "examples" / "production" / "shop.yaml")
    assert config.run == root / "examples" / "production" / "runs" / "shop"


@pytest.mark.slow
def test_night_trains_on_stored_events_and_its_adapter_is_in_use(
    root: Path, make_town: Callable[..., Path], tmp_path: Path
) -> None:
    config_path = make_town(tmp_path / "town", people=3, days=16)
    folder = config_path.parent
    (folder / "events").mkdir()
    events = pl.read_csv(folder / "events.csv")
    early = events["time"] < "2024-01-11"
    events.filter(early).write_csv(folder / "events" / "log.csv")
    sets = [*SMALL, f"histories.events.path={folder / 'events'}"]
    config = load_config(config_path, sets)
    prepare(config.histories, config.catalogue, config.run, config.seed)
    first = finetune(config)
    store, later = open_store(config.events_address), events.filter(~early)
    store.append([
        Event(event_id=f"e{n}", user_id=user, item_id=item, time=datetime.fromisoformat(time))
        for n, (user, item, time) in enumerate(later.iter_rows())
    ])  # fmt: skip
    store.close()
    sh = shutil.which("sh")
    assert sh is not None
    settings = " ".join(f"--set {one}" for one in [*sets, "finetune.learning_rate=0.005", "finetune.epochs=1"])
    done = subprocess.run(
        [sh, str(root / "examples" / "production" / "nightly.sh"), str(config_path)],
        env={**os.environ, "WHEREUPON": f"{sys.executable} -m whereupon.cli", "SETTINGS": settings,
             "RUN": str(config.run), "PYTHONPATH": str(root.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = read_card(config.run / "adapters" / "0002")
    assert card["started_from"] == read_card(first)["adapter_hash"]
    assert datetime.fromisoformat(card["trained_until"]) > datetime(2024, 1, 11).astimezone() - timedelta(days=1)
    assert ("servers use it now" in done.stdout) == (card["step"] > 0)
    assert current_name(config.run) == "0002"
    assert (config.run / "evaluation" / "test" / "summary.json").is_file()
