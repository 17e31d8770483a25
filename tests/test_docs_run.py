"""The commands and Python blocks of README and docs/ run, in order, on a small shop with a tiny model.

Left out, and only parsed in `test_docs.py`: what needs a server, vLLM, a network or a package manager.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.tests.doc_blocks import GENERATED, PAGES, ROOT, Block, blocks, commands
from whereupon.tests.test_docs import parsed

TINY = {  # what makes the configuration of README train in seconds
    "model": {"base": "./model", "device": "cpu"},
    "prompts": {"budget_tokens": 200, "profile_tokens": 32},
    "finetune": {"epochs": 0.2, "batch_tokens": 1024, "mixed_precision": "no", "validations_per_epoch": 0},
    "evaluate": {"baselines": ["popularity", "own counts", "transitions"]},
}
STACK = {"priors": ["own counts", "transitions"]}
SETTINGS: dict[str, dict[str, Any]] = {"priors.md": STACK, "production.md": STACK}  # where a page needs more
SKIPPED = ("serve", "fetch", "weather", "export-events")  # vLLM; a network; events that a server has stored
TITLES = {"SKU-1": "Bar, East Village", "SKU-2": "Music Venue, Lower East Side", "SKU-3": "Coffee Shop, Chelsea"}
USERS, DAYS = ("42", "43", "44", "45"), 42


@pytest.fixture(scope="session")
def trained_shop(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables and the configuration of README's five steps, prepared and barely trained."""
    folder = tmp_path_factory.mktemp("shop")
    write_tables(folder)
    make_model(
        folder / "model", [f"Saturday evening 7 cold snow rain clear: {title}\n" for title in TITLES.values()] * 3
    )
    [shown] = [block.text for block in blocks(ROOT / "README.md") if block.language == "yaml"]
    (folder / "my-shop.yaml").write_text(yaml.safe_dump(yaml.safe_load(shown) | TINY), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for verb in ("prepare", "finetune", "evaluate"):
            run([verb, "my-shop.yaml"])
        run(["export", "my-shop.yaml", "-o", "exported"])
        shutil.copy(next((folder / "exported").rglob("*.run")), folder / "theirs.run")
    return folder


@pytest.fixture
def shop(trained_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    shutil.copytree(trained_shop, tmp_path / "shop")
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: str(page.name)
)
def test_blocks_of_a_page_run_in_order(page: Path, shop: Path) -> None:
    config = shop / "my-shop.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | SETTINGS.get(page.name, {})))
    for block in blocks(page):
        if block.language == "sh":
            for command in commands(block.text):
                run_command(command, shop)
        elif block.language == "python" and "openai" not in block.text:  # which asks a server
            run_python(block)


def run_command(command: list[str], folder: Path) -> None:
    """Run a verb, or copy as `cp -r` does; commands for other programs are left out."""
    if command[0] == "cp":
        shutil.copytree(folder / command[-2], folder / command[-1] / Path(command[-2]).name)
    if command[0] == "whereupon":
        verb, parameters = parsed(command[1:])
        # vLLM; events newer than the adapter; more layers; a GPU, a network and hours
        of_example = any(word.startswith("examples/") for word in command)
        needs_more = parameters.get("all_users") or parameters.get("from_") or of_example
        if verb not in SKIPPED and not needs_more:
            run(command[1:])


def run(arguments: list[str]) -> None:
    """Run a verb in this process; it must succeed."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{arguments}\n{result.output}"


def run_python(block: Block) -> None:
    """Run a block as a script."""
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


def write_tables(folder: Path) -> None:
    """Six weeks of events, three items, hourly weather, items to add and to rename, with the columns of README."""
    draw, begin = random.Random(7), datetime(2025, 12, 8, tzinfo=UTC)
    events = [
        (user, draw.choice(list(TITLES)), begin + timedelta(days=day, hours=draw.randrange(20, 24)), 40.73, -73.99)
        for user in USERS
        for day in range(DAYS)
    ]
    weather = [
        (begin + timedelta(hours=hour), draw.uniform(20, 60), draw.choice([0.0, 0.1]), 40.78, -73.97)
        for hour in range(24 * DAYS)
    ]
    items = pl.DataFrame({
        "sku": list(TITLES), "name": list(TITLES.values()), "category": ["Bar", "Music Venue", "Coffee Shop"],
        "latitude": [40.73] * 3, "longitude": [-73.98] * 3, "opening_hours": ["24/7"] * 3,
    })  # fmt: skip
    new = items.head(1).with_columns(sku=pl.lit("SKU-4"), name=pl.lit("Bar, SoHo"))
    tables = {
        "events": pl.DataFrame(events, ["customer", "sku", "bought_at", "latitude", "longitude"], orient="row"),
        "items": items,
        "weather": pl.DataFrame(weather, ["hour_utc", "temp", "rain", "lat", "lon"], orient="row"),
        "new_items": new,
        "renamed": new.with_columns(name=pl.lit("Bar, Tribeca")),
    }
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")
