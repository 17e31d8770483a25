"""The bars of the fusion, by made-up rankings; and the whole bench on a tiny town, which asks for nothing twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fusion_nyc
import numpy as np
import pytest

from whereupon.config import Config
from whereupon.eval.rankings import Rankings
from whereupon.files import read_json

NUM_USERS, EACH = 40, 5
NUM = NUM_USERS * EACH
PARTS = ["fine-tuned", "context-weighted-own-events"]
FUSED = "fine-tuned-context"
USER_E = np.repeat(np.arange(NUM_USERS), EACH)
Ranks = np.ndarray[tuple[int], np.dtype[np.int64]]


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is recorded goes to the test's own folder."""
    monkeypatch.setattr("record.RESULTS", tmp_path / "results")
    return tmp_path / "results" / "fusion_nyc.json"


def _ranked(rank_E: Ranks, **facts: Any) -> tuple[Rankings, dict[str, Any]]:
    """Rankings of 200 events of 40 users; only ranks matter."""
    lists = np.tile(np.arange(10, dtype=np.int32), (NUM, 1)), np.tile(-np.arange(10.0), (NUM, 1))
    return Rankings(np.arange(NUM), rank_E.astype(np.int64), *lists), {
        "name": "n",
        "task": "t",
        "settings": {},
        **facts,
    }


def _parts() -> dict[str, tuple[Rankings, dict[str, Any]]]:
    """Two parts, each right where the other one is wrong."""
    one_E = np.random.default_rng(1).choice([1, 8], NUM)
    return {PARTS[0]: _ranked(one_E), PARTS[1]: _ranked(9 - one_E)}


def _judge(results: Path, fused: tuple[Rankings, dict[str, Any]], fitted_on: int = 30) -> tuple[int, dict[str, bool]]:
    code = fusion_nyc.judge({FUSED: fused, **_parts()}, USER_E, FUSED, PARTS, fitted_on={FUSED: fitted_on})
    return code, {bar["name"].split(",")[0]: bar["ok"] for bar in read_json(results)["bars"]}


def test_fusion_that_is_always_right_meets_every_bar(results: Path) -> None:
    code, bars = _judge(results, _ranked(np.ones(NUM)))
    assert (code, len(bars), all(bars.values())) == (0, 4, True)


def test_fusion_that_is_one_of_its_parts_is_not_better_than_it(results: Path) -> None:
    code, bars = _judge(results, _ranked(_parts()[PARTS[0]][0].rank_E))
    assert code == 1
    assert not bars[f"p (Holm) against {PARTS[0]}"]


def test_fusion_that_is_worse_misses_its_bars_though_the_difference_is_sure(results: Path) -> None:
    code, bars = _judge(results, _ranked(np.full(NUM, 10)))
    assert (code, bars[f"p (Holm) against {PARTS[0]}"], bars[f"p (Holm) against {PARTS[1]}"]) == (1, False, False)
    assert all(test["p_holm"] < 0.05 for test in read_json(results)["tests"][FUSED])


def test_fusion_with_weights_from_nowhere_misses_a_bar(results: Path) -> None:
    code, bars = _judge(results, _ranked(np.ones(NUM)), fitted_on=0)
    assert (code, bars["validation events that its weights were fitted on"]) == (1, False)


def test_rankings_of_different_events_are_refused(results: Path) -> None:
    with pytest.raises(SystemExit, match="should be of the same events and candidates but are not"):
        _judge(results, _ranked(np.ones(NUM), task="another"))


def test_best_baseline_is_that_of_the_best_trial_on_validation() -> None:
    def facts(kind: str, *found: float) -> dict[str, Any]:
        trials = [{"metrics": {"nDCG@10": value}} for value in found]
        return {"kind": kind, "tuned": {"trials": trials}}

    model = {"kind": "model"}
    known = {"a": facts("baseline", 0.3, 0.5), "b": facts("baseline", 0.4), "c": facts("fusion", 0.9), "d": model}
    assert fusion_nyc.best_baseline(known) is known["a"]


def test_bench_ranks_what_is_missing_once_and_nothing_twice(
    town_copy: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town_copy('evaluate.baselines=["own counts", "context-weighted own events"]')
    monkeypatch.setattr(fusion_nyc, "load_config", lambda *_: config)
    monkeypatch.setattr("sys.argv", ["fusion_nyc.py"])
    fusion_nyc.main()
    first, said = read_json(results), capsys.readouterr().err
    assert "answered before" not in said
    assert said.count("answered ") == 3  # test, test with the prior, validation
    assert (list(first["fusions"]), len(first["tests"])) == (["exact", "log-prob", "rrf"], 3)
    assert first["best_baseline"] in ("own counts", "context-weighted own events")
    fusion_nyc.main()
    said = capsys.readouterr().err
    assert said.count("answered before") == 3
    assert "set decode.calibration" not in said  # nothing was fitted again
    assert {**read_json(results), "versions": 0} == {**first, "versions": 0}
