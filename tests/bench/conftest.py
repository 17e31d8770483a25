"""The benches are scripts beside each other: their folder is where they import from."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from whereupon.cli import app

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The verbs that a bench has run, each with its words; in this process, as a new one takes seconds to begin."""
    done: list[list[str]] = []

    def whereupon(verb: str, path: Path, *words: str) -> None:
        done.append([verb, *words])
        result = CliRunner().invoke(app, [verb, str(path), *words])
        assert result.exit_code == 0, result.output

    monkeypatch.setattr("ablation.whereupon", whereupon)
    return done
