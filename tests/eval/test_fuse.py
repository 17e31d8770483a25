"""`whereupon fuse`: fitted on validation, applied to another split, one sentence for what is missing."""

import json
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest

from whereupon.cli_eval import fuse as command
from whereupon.config import Config
from whereupon.errors import DataError
from whereupon.eval.fuse import fuse
from whereupon.eval.fusion import METHODS, Fusion, fit_fusion, fuse_rankings
from whereupon.eval.rankings import evaluation_folder, read_rankings, write_rankings
from whereupon.eval.run import evaluate
from whereupon.histories import read_histories
from whereupon.histories.questions import read_task

Town = Callable[..., Config]
PARTS = ["popularity", "own counts"]
PARTS_BY_SLUG = ["popularity", "own-counts"]
SLUG = "popularity-own-counts-rrf"


@pytest.fixture
def town(town_copy: Town) -> Config:
    """Two baselines have ranked both splits."""
    config = town_copy(f"evaluate.baselines={json.dumps(PARTS)}")
    for split in ("valid", "test"):
        evaluate(config, split=split, baselines_only=True)  # type: ignore[arg-type]
    return config


def test_weights_come_from_validation_and_rankings_from_the_split(town: Config) -> None:
    results = fuse(town, PARTS, method="rrf", split="test")
    assert [result.name for result in results] == [*PARTS, "popularity + own counts, rrf"]
    histories = read_histories(town.run)
    folders = {split: evaluation_folder(town.run, split) for split in ("valid", "test")}
    lists = {
        split: [read_rankings(folders[split], slug)[0] for slug in ("popularity", "own-counts")] for split in folders
    }
    valid, test = (read_task(histories, split, town.evaluate) for split in ("valid", "test"))  # type: ignore[arg-type]
    fusion, trials = fit_fusion(lists["valid"], valid.true_item_E, "rrf")
    found, facts = read_rankings(folders["test"], SLUG)
    expected = fuse_rankings(lists["test"], test.true_item_E, fusion, town.evaluate.k)
    assert found.rank_E.tolist() == expected.rank_E.tolist()
    assert found.item_EK.tolist() == expected.item_EK.tolist()
    assert (facts["kind"], facts["of"], facts["task"]) == ("fusion", ["popularity", "own-counts"], test.hash)
    assert facts["of_keys"] == [read_rankings(folders["test"], slug)[1]["key"] for slug in facts["of"]]
    assert Fusion(**{**facts["settings"], "weights": tuple(facts["settings"]["weights"])}) == fusion
    assert (len(facts["tuned"]["trials"]), facts["tuned"]["num_events"]) == (len(trials), len(valid.row_E))
    assert SLUG in {one["slug"] for one in json.loads((folders["test"] / "summary.json").read_text())["results"]}


def test_fusion_has_a_key_and_one_on_validation_says_what_it_is(
    town: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = []
    for repeats in range(2):
        fuse(town, PARTS, method="rrf", split="valid")
        keys.append(read_rankings(evaluation_folder(town.run, "valid"), SLUG)[1]["key"])
        told = capsys.readouterr().err
        assert "judge by those of the test split" in told, repeats
    fuse(town, PARTS, method="rrf", split="test")
    assert keys[0] == keys[1] != read_rankings(evaluation_folder(town.run, "test"), SLUG)[1]["key"]
    assert "judge by" not in capsys.readouterr().err


def test_name_of_ones_own_is_heeded_and_may_be_used_again(town: Config) -> None:
    for _ in range(2):
        assert fuse(town, PARTS, method="z", split="test", as_name="both")[-1].name == "both"
    with pytest.raises(DataError, match=r"holds rankings 'popularity' of another kind \(baseline\) already"):
        fuse(town, PARTS, method="z", split="test", as_name="popularity")
    with pytest.raises(DataError, match=r"^The name '!' should have letters a-z or digits"):
        fuse(town, PARTS, method="z", split="test", as_name="!")


def test_rankers_that_are_missing_are_told_with_those_that_there_are(town: Config) -> None:
    with pytest.raises(DataError, match=r"should hold rankings by 'EASE' but holds own-counts, popularity; run"):
        fuse(town, ["popularity", "EASE"], method="rrf", split="test")
    (evaluation_folder(town.run, "valid") / "own-counts.json").unlink()
    with pytest.raises(DataError, match=r"valid should hold rankings by 'own-counts' .* evaluate --split valid"):
        fuse(town, PARTS, method="rrf", split="test")


def test_command_line_offers_every_method() -> None:
    annotation = get_type_hints(command)["method"]
    assert get_args(annotation) == METHODS


def test_same_ranker_twice_is_refused(town: Config) -> None:
    with pytest.raises(DataError, match="different rankers, found own-counts, own-counts; name each once"):
        fuse(town, ["own counts", "own-counts"], method="rrf", split="test")


def _told(config: Config, split: str, **changes: object) -> None:
    """Changes facts of popularity."""
    path = evaluation_folder(config.run, split) / "popularity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _model(**changes: object) -> dict[str, object]:
    """What the facts of a calibrated model say, some of it by section and name."""
    facts: dict[str, Any] = {
        "kind": "model", "adapter": {"seed": 7}, "calibration": {"temperature": 1.2, "weight": 0.5},
        "settings": {"model": {"base": "m", "dtype": "float32", "device": "cpu"},
                     "decode": {"k": 10, "max_expansions": None, "calibration": "context", "prior": {"own": 1.0}},
                     "prompts": {"budget_tokens": 100, "leave_out": [], "column_kinds": {}}},
    }  # fmt: skip
    for name, value in changes.items():
        section, _, inner = name.partition("__")
        place = facts["settings"][section] if inner else facts
        place[inner or section] = value
    return facts


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"k": 11}, "k"),
        ({"adapter": {"seed": 8}}, "adapter"),
        ({"name": "other"}, "name"),
        ({"kind": "run file", "name": "other"}, "kind, name"),
    ],
)
def test_ranker_that_is_another_one_on_validation_is_refused(town: Config, other: dict[str, Any], what: str) -> None:
    _told(town, "valid", **other)
    message = rf"^The rankings 'popularity' should be by one ranker on both splits but differ in {what}; run"
    with pytest.raises(DataError, match=message):
        fuse(town, PARTS, method="rrf", split="test")


def test_baseline_with_other_settings_on_validation_is_refused(town: Config) -> None:
    _told(town, "test", settings={"alpha": 1})
    _told(town, "valid", settings={"alpha": 2})
    with pytest.raises(DataError, match=r"^The rankings 'popularity' should be by one ranker .* differ in alpha; run"):
        fuse(town, PARTS, method="rrf", split="test")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (_model(calibration={"temperature": 1.3, "weight": 0.5}), "calibration"),
        (_model(decode__max_expansions=9), r"decode\.max_expansions"),
        (_model(decode__prior={"own": 2.0}), r"decode\.prior"),
        (_model(model__dtype="bfloat16"), r"model\.dtype"),
        (_model(prompts__budget_tokens=99), r"prompts\.budget_tokens"),
    ],
)
def test_model_that_was_asked_otherwise_on_validation_is_refused(
    town: Config, other: dict[str, Any], what: str
) -> None:
    _told(town, "test", **_model())
    _told(town, "valid", **other)
    with pytest.raises(DataError, match=rf"should be by one ranker on both splits but differ in {what}; run"):
        fuse(town, PARTS, method="rrf", split="test")


@pytest.mark.parametrize(
    "other",
    [
        _model(model__device="cuda", decode__k=5, prompts__column_kinds={"district": "place"}),
        _model(calibration=None),  # written before these facts were
        _model(settings={"prompts": {"budget_tokens": 100}}),
    ],
)
def test_what_no_answer_depends_on_may_be_another_on_validation(town: Config, other: dict[str, Any]) -> None:
    _told(town, "test", **_model())
    _told(town, "valid", **other)
    assert fuse(town, PARTS, method="rrf", split="test")


def test_run_file_may_have_another_name_and_other_settings_on_validation(town: Config) -> None:
    _told(town, "test", kind="run file", name="theirs", settings={"file": "test.run"})
    _told(town, "valid", kind="run file", name="Theirs", settings={"file": "valid.run"})
    assert fuse(town, PARTS_BY_SLUG, method="rrf", split="test")


def test_rankings_of_other_events_are_refused(town: Config) -> None:
    folder = evaluation_folder(town.run, "test")
    rankings, facts = read_rankings(folder, "popularity")
    write_rankings(folder, "popularity", rankings, {**facts, "task": "another"})
    with pytest.raises(DataError, match=r"^The rankings 'popularity' in .* are of other data, events or candidates"):
        fuse(town, PARTS, method="rrf", split="test")
