"""What bench/source_models.py keeps of earlier results."""

from pathlib import Path

import pytest
import source_models

from whereupon.files import write_json


def test_rows_of_other_examples_stay_in_the_order_of_the_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_models, "RESULTS", tmp_path)
    assert source_models._of_others(["flights-demo"]) == []
    rows = [{"data": data, "family": "popularity"} for data in ("elsewhere", "movielens-100k", "nyc-checkins")]
    write_json(tmp_path / "source_models.json", {"rows": [*rows, {"data": "flights-demo", "family": "old"}]})
    new = [{"data": "flights-demo", "family": "EASE"}]
    kept = source_models.in_order([*new, *source_models._of_others(["flights-demo"])])
    assert [row["data"] for row in kept] == [*("nyc-checkins", "flights-demo", "movielens-100k"), "elsewhere"]
    assert kept[1]["family"] == "EASE"


def test_family_that_takes_more_than_twenty_minutes_of_two_cores_misses_its_bar() -> None:
    row = {"data": "flights-demo", "family": "EASE", "minutes": 39.9, "nDCG@10": 0.1}
    late = row | {"minutes": 40.1}
    failed = {name: value for name, value in row.items() if name != "nDCG@10"}
    assert [source_models._bar(one)["ok"] for one in (row, late, failed)] == [True, False, False]
