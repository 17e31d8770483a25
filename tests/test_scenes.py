"""The documented commands for the scenes run from start to end, on towns that are small."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.config import load_config
from whereupon.eval import summarise
from whereupon.eval.rankings import read_rankings
from whereupon.files import read_object
from whereupon.histories.simulation import SCENES, SceneName


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_scene_is_simulated_prepared_and_ranked_below_its_bound(scene: SceneName, tmp_path: Path) -> None:
    folder = tmp_path / scene
    said = _run("simulate", str(folder), "--scene", scene, "--people", "12", "--days", "14")
    assert "best possible on test" in said
    _run("prepare", str(folder / "town.yaml"))
    baselines = "evaluate.baselines=[popularity, own counts]"
    table = _run("evaluate", str(folder / "town.yaml"), "--baselines-only", "--set", baselines)
    assert "own counts" in table
    best = read_object(folder / "truth.json")["bounds"]["test"]["with_weather"]["expected"]["nDCG@10"]
    found, _ = read_rankings(load_config(folder / "town.yaml").run / "evaluation" / "test", "own-counts")
    assert 0 < summarise(found.rank_E)["nDCG@10"] < best
