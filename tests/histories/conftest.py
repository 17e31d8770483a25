"""Small tables on disk, and `prepare` on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whereupon.catalogue import CatalogueSettings
from whereupon.histories import Histories, HistoriesSettings, PrepareReport, prepare, read_histories

Write = Callable[[str, str], Path]
Prepare = Callable[..., tuple[PrepareReport, Histories]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of that name and text; indentation and surrounding blank lines are taken off."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        lines = [line.strip() for line in text.strip().splitlines()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def run_prepare(tmp_path: Path) -> Prepare:
    """Prepare `tmp_path/run` from settings given as keywords, `catalogue` among them, and read it back."""

    def run_prepare(*, catalogue: dict[str, Any] | None = None, **settings: Any) -> tuple[PrepareReport, Histories]:
        run = tmp_path / "run"
        names = CatalogueSettings.model_validate(catalogue or {})
        report = prepare(HistoriesSettings.model_validate(settings), names, run, 7)
        return report, read_histories(run)

    return run_prepare


@pytest.fixture
def visits(write: Write) -> Path:
    """Four clean events of two users on two places."""
    return write(
        "visits.csv",
        """user_id,item_id,time
        bob,park,2024-01-03T12:00:00Z
        ann,park,2024-01-01T08:00:00Z
        ann,cinema,2024-01-02T20:00:00Z
        bob,cinema,2024-01-04T21:00:00Z""",
    )
