"""Travellers between two airports, and a server for the town."""

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.config import Config, load_config
from whereupon.histories import Histories, build_histories
from whereupon.serve.merged import merged_weights
from whereupon.tests.serve.processes import Served, serving

MakeHistories = Callable[..., Histories]
AIRPORTS = {"EWR": (40.69, -74.17), "JFK": (40.64, -73.78)}


@pytest.fixture(scope="session")
def make_histories() -> MakeHistories:
    """Histories of dictionaries, one an event: `user`, `at` (local ISO time, UTC-5), `item`, and further columns.

    An `origin` puts the event at that airport.
    """

    def make_histories(rows: Sequence[dict[str, Any]], num_items: int = 3, location: str = "context") -> Histories:
        rows = sorted(rows, key=lambda row: (row["user"], row["at"]))
        users = sorted({row["user"] for row in rows})
        local = [datetime.fromisoformat(row["at"]) for row in rows]
        further = list(dict.fromkeys(name for row in rows for name in row if name not in ("user", "at", "item")))
        places = [AIRPORTS.get(row.get("origin", ""), (None, None)) for row in rows]
        events = pl.DataFrame(
            {
                "user_id": [row["user"] for row in rows],
                "item_id": [f"i{row['item']}" for row in rows],
                "user_idx": pl.Series([users.index(row["user"]) for row in rows], dtype=pl.Int32),
                "item_idx": pl.Series([row["item"] for row in rows], dtype=pl.Int32),
                "time": pl.Series(
                    [t.replace(tzinfo=UTC) + timedelta(hours=5) for t in local], dtype=pl.Datetime("us", "UTC")
                ),
                "local_time": pl.Series(local, dtype=pl.Datetime("us")),
                "split": ["train"] * len(rows),
                "latitude": pl.Series([place[0] for place in places], dtype=pl.Float64),
                "longitude": pl.Series([place[1] for place in places], dtype=pl.Float64),
                **{name: [row.get(name) for row in rows] for name in further},
            }
        )
        items = pl.DataFrame(
            {"item_id": [f"i{i}" for i in range(num_items)], "title": [f"Town {i}" for i in range(num_items)]}
        )
        context = [name for name in further if name in ("origin", "carrier")]
        return build_histories(events, items, {"location": location, "context_columns": context})

    return make_histories


@pytest.fixture(scope="session")
def merged_run(barely_trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the tiny town with merged weights, which are found again in any copy of it. Never changed."""
    run = tmp_path_factory.mktemp("merged") / "town"
    shutil.copytree(barely_trained.parent / "run", run)
    with merged_weights(load_config(barely_trained, [f"run={run}"]), "float32"):
        return run


@pytest.fixture
def town_config(barely_trained: Path, merged_run: Path, tmp_path: Path) -> Callable[..., Config]:
    """The tiny town with merged weights, in a run folder of its own."""

    def town_config(*overrides: str) -> Config:
        run = tmp_path / "town"
        if not run.exists():
            shutil.copytree(merged_run, run)
        return load_config(barely_trained, [f"run={run}", "serve.port=0", *overrides])

    return town_config


@pytest.fixture(scope="session")
def served_town(barely_trained: Path, merged_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The one real server of most tests, called `town`: vLLM takes half a minute to start, or more."""
    run = tmp_path_factory.mktemp("served") / "town"
    shutil.copytree(merged_run, run)
    with serving(barely_trained, run) as served:
        yield served
        assert served.stop(signal.SIGTERM) == 0
        assert served.left_after(10) == []


@pytest.fixture(scope="session")
def server(served_town: Served) -> str:
    """The URL of a real `whereupon serve` for the tiny town."""
    return served_town.url
