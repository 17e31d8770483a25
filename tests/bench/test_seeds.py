"""The figures of several seeds on a tiny town: what is fitted is not fitted again, and the spread is of the rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import seeds

from whereupon.files import read_json
from whereupon.rankers.protocol import Family

SOME = ("ALS", "factorised transitions (FPMC)")


@pytest.mark.slow
def test_every_seed_is_fitted_once_and_the_spread_is_reported(
    make_town: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbs: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("record.RESULTS", tmp_path / "results")
    monkeypatch.setattr(seeds, "ROOT", tmp_path)
    path = make_town(tmp_path / "examples", people=4)
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 0.1"))
    asked = []
    ranker = Family.ranker
    monkeypatch.setattr(Family, "ranker", lambda self, *a: (asked.append(a[1:]), ranker(self, *a))[1])

    def bench(*words: str) -> dict[str, dict[str, object]]:
        monkeypatch.setattr("sys.argv", ["seeds.py", "town", *words])
        assert seeds.main() == 0
        return {one["ranker"]: one for one in read_json(tmp_path / "results" / "seeds_town.json")["summaries"]}

    found = bench("--ranker", *SOME, "--seeds", "7", "8")
    tests = [one for one in asked if one[0] == "test"]
    assert [one[2] for one in tests] == [7, 8, 7, 8], "each baseline with each seed, after it was tuned"
    assert tests[0][1] == tests[1][1]
    assert {one[2] for one in asked if one[0] == "valid"} == {7}, "settings are those of the example's own seed"
    rows = read_json(tmp_path / "results" / "seeds_town.json")["rows"]
    for name in SOME:
        values = [row["metrics"]["nDCG@10"] for row in rows if row["ranker"] == name]
        assert found[name]["mean"] == pytest.approx(np.mean(values))
        assert found[name]["sd"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))

    asked.clear()
    found = bench("--ranker", *SOME, "--seeds", "9", "--model")
    assert [one[2] for one in asked if one[0] == "test"] == [9, 9]
    assert [verb for verb, *_ in verbs] == ["prepare", "finetune"]
    assert (found["ALS"]["seeds"], found["fine-tuned model"]["seeds"]) == ([7, 8, 9], [9])
    assert found["fine-tuned model"]["sd"] is None
    assert "fine-tuned model" in capsys.readouterr().out

    path = tmp_path / "results" / "seeds_town.json"
    path.write_text(
        path.read_text().replace('"penalty": ', '"penalty": 1')
    )  # as if other settings had been chosen then
    asked.clear()
    assert bench("--ranker", *SOME, "--seeds", "7")["ALS"]["seeds"] == [7]
    assert len([one for one in asked if one[0] == "test"]) == 2

    verbs.clear()
    asked.clear()
    bench("--ranker", *SOME, "--seeds", "8", "9")
    asked.clear()
    assert bench("--ranker", *SOME, "--seeds", "7", "8", "9", "--model")["ALS"]["sd"] == found["ALS"]["sd"]
    assert not [one for one in asked if one[0] == "test"]
    assert [verb for verb, *_ in verbs] == ["finetune", "finetune"], "of the two seeds that were not trained yet"
