import itertools
import re
from pathlib import Path

import pytest

from whereupon.config import load_config

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.stem))
def test_example_loads_and_opens_with_what_it_does(
    example: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WHEREUPON_NYC_CHECKINS", str(tmp_path))
    config = load_config(example)
    assert config.run.name == example.stem
    lines = example.read_text(encoding="utf-8").splitlines()
    header = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    for part in ("\n# What it does: ", "\n# Takes: ", "\n# Expect: "):
        assert part in header
    assert not re.findall(r"\b(TIME|SCORE|TODO)\b", header), "a placeholder is left"


def test_examples_are_found() -> None:
    expected = {"flights-all", "flights-demo", "movielens-100k", "movielens-100k-loo", "nyc-checkins"}
    assert {path.stem for path in EXAMPLES} >= expected


def test_flights_of_all_carriers_differ_from_the_demo_in_carriers_and_aircraft_alone() -> None:
    every, demo = (load_config(path) for path in EXAMPLES if path.stem in ("flights-all", "flights-demo"))
    same = demo.histories.model_copy(update={"carriers": [], "max_users": 600})
    assert every.histories == same
    assert every.prompts == demo.prompts


def test_leave_one_out_on_movielens_is_the_published_protocol() -> None:
    [config] = [load_config(path) for path in EXAMPLES if path.stem == "movielens-100k-loo"]
    assert config.histories.split.protocol == "leave_one_out"
    assert (config.evaluate.split, config.evaluate.limit, config.evaluate.repeats) == ("test", None, "allowed")
    # Everything else is as in the example that splits by time.
    [other] = [load_config(path) for path in EXAMPLES if path.stem == "movielens-100k"]
    assert (config.finetune, config.prompts, config.catalogue) == (other.finetune, other.prompts, other.catalogue)
