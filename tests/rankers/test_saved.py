"""A ranker read again answers as it did; a damaged one, and one of other histories, is refused."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from whereupon.errors import DataError
from whereupon.files import read_object, write_json
from whereupon.histories import Histories
from whereupon.histories.questions import evaluated_events
from whereupon.rankers import saved as saving
from whereupon.rankers.families import FAMILIES, NETWORKS
from whereupon.rankers.saved import SavedRanker, read_ranker, save_ranker, save_stack
from whereupon.rankers.stack import Stack

from .test_queries import NAMES, everybody, fitted, scores_of, some_settings

pytestmark = pytest.mark.usefixtures("one_thread")
DEMAND = "demand forecast"
FPMC = "factorised transitions (FPMC)"
REGRESSION = "geographically weighted regression"
OF_OWN = ("learnt own events", "learnt new items", "boosted own events", "boosted two-stage")
NETS = ("SASRec + time", "LightGCN", "ST-CNN")
LEARNT = [name for name in NAMES if name in ("ItemKNN", "EASE", "ALS", DEMAND, FPMC, REGRESSION, *OF_OWN, *NETS)]


@pytest.fixture(scope="module")
def full() -> Histories:
    return everybody()


def saved(name: str, histories: Histories, folder: Path) -> SavedRanker:
    one = SavedRanker(FAMILIES[name].name, some_settings(FAMILIES[name]), "test", 4, fitted(name, histories))
    save_ranker(folder, one, histories)
    return one


@pytest.mark.parametrize("name", NAMES)
def test_ranker_that_was_saved_answers_as_before(full: Histories, tmp_path: Path, name: str) -> None:
    before = saved(name, full, tmp_path / "saved")
    after = read_ranker(tmp_path / "saved", full)
    assert (after.name, after.settings, after.split, after.seed) == (name, before.settings, "test", 4)
    assert (tmp_path / "saved" / "arrays.safetensors").exists() == bool(before.ranker.arrays())
    for row in evaluated_events(full, "test")[::9].tolist():
        expected, found = (scores_of(one.ranker.on(full, "test"), row) for one in (before, after))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
        if name != "EASE":  # which is saved in half the memory
            assert found.tolist() == expected.tolist()


def test_what_rankers_learn_is_saved_and_what_they_count_is_not(full: Histories) -> None:
    learnt = {name for name in NAMES if fitted(name, full).arrays()}
    assert learnt == {*LEARNT, *(family.name for family in NETWORKS)}


@pytest.mark.parametrize("name", LEARNT)
def test_damaged_or_missing_arrays_are_refused(full: Histories, tmp_path: Path, name: str) -> None:
    saved(name, full, tmp_path)
    path = tmp_path / "arrays.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="damaged; fit the ranker again"):
        read_ranker(tmp_path, full)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        read_ranker(tmp_path, full)


def test_ranker_of_other_histories_is_refused(full: Histories, tmp_path: Path) -> None:
    saved("ItemKNN", full, tmp_path)
    other = replace(full, manifest=full.manifest | {"data_hash": "another"})
    with pytest.raises(DataError, match="other histories"):
        read_ranker(tmp_path, other)


def test_stack_on_disk_stays_where_writing_another_one_fails(
    full: Histories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(folder: Path, *others: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    folder = tmp_path / "priors"
    folder.mkdir()
    (folder / "stack.json").write_text("{}")
    monkeypatch.setattr(saving, "_write_stack", on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_stack(folder, cast(Stack, None), full, seed=4)
    assert (folder / "stack.json").read_text() == "{}"
    assert [one.name for one in tmp_path.iterdir()] == ["priors"]


def test_damaged_record_is_refused(full: Histories, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        read_ranker(tmp_path, full)
    saved("ItemKNN", full, tmp_path)
    record = read_object(tmp_path / "ranker.json")
    assert record["versions"]["numpy"] == np.__version__
    for changed, words in (
        ({"format": 0}, "another version"),
        ({"family": "a family that is gone"}, "another version"),
        ({"settings": {}}, "incomplete"),
        ({"arrays": None}, "incomplete"),
    ):
        write_json(tmp_path / "ranker.json", record | changed)
        with pytest.raises(DataError, match=words):
            read_ranker(tmp_path, full)
    (tmp_path / "ranker.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        read_ranker(tmp_path, full)


def test_save_that_was_killed_leaves_no_ranker(
    full: Histories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("ItemKNN", full, tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("whereupon.rankers.saved.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        saved("EASE", full, tmp_path)
    with pytest.raises(DataError, match="missing"):
        read_ranker(tmp_path, full)
