"""A tiny town to evaluate in, and the data of a report."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from whereupon.config import Config, load_config
from whereupon.eval.report.runs import Dataset, read_datasets
from whereupon.histories import prepare
from whereupon.tests.eval.report_town import write_town
from whereupon.tests.eval.simulated_run import OVERRIDES, Town


@pytest.fixture(scope="session")
def prepared(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_town(tmp_path_factory.mktemp("town"), people=4, days=10)
    config = load_config(path)
    prepare(config.histories, config.catalogue, config.run)
    return path


@pytest.fixture
def simulated(prepared: Path, tmp_path: Path) -> Town:
    """The configuration of a tiny town with a fresh run folder; arguments override settings."""

    def simulated(*overrides: str) -> Config:
        config = load_config(prepared, [f"run={tmp_path / 'run'}", *OVERRIDES, *overrides])
        if not config.run.exists():
            shutil.copytree(prepared.parent / "run" / "histories", config.run / "histories")
        return config

    return simulated


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The rankings of a town whose figures are known."""
    return read_datasets([write_town(tmp_path_factory.mktemp("reported") / "town")])[0]
