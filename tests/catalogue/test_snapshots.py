"""Snapshots: what is read is what was written, and what is damaged or of another kind is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.catalogue import Catalogue, read_snapshot, snapshot_manifest, snapshots
from whereupon.errors import CatalogueError
from whereupon.tests.catalogue.toy_snapshots import (
    NEW,
    NEWER,
    OLD,
    TOKENIZER,
    is_same,
    letters,
    made,
    names,
    read,
    write,
)

pytestmark = pytest.mark.usefixtures("quick_writing")


@pytest.mark.parametrize("catalogue", [made("Bar"), NEW, made("Bar", "Zoo", stars=[1, None], tags=[["a", "b"], []])])
def test_catalogue_read_is_the_catalogue_written(tmp_path: Path, catalogue: Catalogue) -> None:
    assert write(tmp_path / "new" / "folder", catalogue) == "v000001"
    found = read(tmp_path / "new" / "folder")
    assert is_same(found, catalogue)
    assert found.fingerprint == catalogue.fingerprint
    assert found.trie.title_tokens(0).tolist() == catalogue.trie.title_tokens(0).tolist()


def test_arrays_are_mapped_and_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path, NEW)
    token_P = read(tmp_path).trie.token_P
    assert isinstance(token_P.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        token_P[0] = 1


def test_catalogue_that_was_read_can_be_edited_and_written_back(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    more = read(tmp_path).add(pl.DataFrame({"item_id": ["i2"], "title": ["Zoo"]}), letters)
    assert write(tmp_path, more) == "v000002"
    assert is_same(read(tmp_path), NEW)


def test_last_two_versions_are_kept(tmp_path: Path) -> None:
    for catalogue in (OLD, NEW, NEWER):
        write(tmp_path, catalogue)
    assert names(tmp_path) == ["CURRENT", "lock", "v000002", "v000003"]
    (tmp_path / "CURRENT").write_text("v000002\n")
    assert is_same(read(tmp_path), NEW)
    assert write(tmp_path, OLD) == "v000004", "the number of a version that was seen is never given again"


def test_catalogue_in_use_outlives_its_version(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    used = read(tmp_path, verify=False)
    for _ in range(3):
        write(tmp_path, NEW)
    assert not (tmp_path / "v000001").exists()
    assert is_same(used, OLD)


def test_manifest_shows_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, NEW)
    manifest = snapshot_manifest(tmp_path)
    assert (manifest["version"], manifest["num_items"], manifest["fingerprint"]) == ("v000001", 3, NEW.fingerprint)
    assert (manifest["tokenizer"], manifest["terminator"]) == (TOKENIZER, "\n")
    assert manifest["num_tokens"] == len(NEW.trie.token_P)
    sizes = {name: file["bytes"] for name, file in manifest["files"].items()}
    assert sizes == {name: (tmp_path / "v000001" / name).stat().st_size for name in sizes}
    assert {*sizes, "manifest.json"} == set(names(tmp_path / "v000001"))


def test_reader_that_is_overtaken_by_two_writers_takes_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, OLD)
    mapped, overtaken = snapshots._mapped, iter([True])

    def overtake(file: Path, name: str) -> Any:
        if next(overtaken, False):
            for catalogue in (OLD, NEW, NEWER):
                write(tmp_path, catalogue)
        return mapped(file, name)

    monkeypatch.setattr(snapshots, "_mapped", overtake)
    assert is_same(read(tmp_path), NEWER)


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    said = (
        r"^The catalogue in \S+v000001 was written for another tokenizer \('letters-1'\) than this one \('x'\); write"
    )
    with pytest.raises(CatalogueError, match=said):
        read_snapshot(tmp_path, tokenizer="x")


def test_another_terminator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, OLD)
    monkeypatch.setattr(snapshots, "TERMINATOR", ";")
    with pytest.raises(CatalogueError, match="was written for another terminator"):
        read(tmp_path)


def test_folder_without_a_catalogue_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            CatalogueError, match=r"^\S+ holds no catalogue \(no CURRENT in it\); write one there first\.$"
        ):
            read(folder)
    assert not (tmp_path / "none").exists()


def test_lost_pointer_does_not_cost_the_versions(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    write(tmp_path, NEW)
    (tmp_path / "CURRENT").unlink()
    with pytest.raises(CatalogueError, match="has versions but no CURRENT; write the name of the one to be read"):
        write(tmp_path, NEWER)
    assert names(tmp_path) == ["lock", "v000001", "v000002"]


def _change_manifest(version: Path, **changes: Any) -> None:
    manifest = json.loads((version / "manifest.json").read_text())
    (version / "manifest.json").write_text(json.dumps({k: v for k, v in (manifest | changes).items() if v is not None}))


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda v: (v / "token_P.npy").unlink(), r"is damaged \(token_P.npy is missing\); write it again"),
        (lambda v: (v / "items.arrow").unlink(), r"is damaged \(items.arrow is missing\)"),
        (lambda v: (v / "items.arrow").write_bytes(b"x"), r"is damaged \(items.arrow has 1 bytes, not \d+\)"),
        (lambda v: _flip(v / "token_P.npy"), r"is damaged \(token_P.npy has another hash\)"),
        (lambda v: (v / "manifest.json").unlink(), r"is damaged \(manifest.json is missing\)"),
        (lambda v: (v / "manifest.json").write_text("{"), r"is damaged \(manifest.json: "),
        (lambda v: (v / "manifest.json").write_text("[]"), r"is damaged \(manifest.json: "),
        (lambda v: _change_manifest(v, tokenizer=None), r"is damaged \(manifest.json lacks 'tokenizer'\)"),
        (lambda v: _change_manifest(v, num_items=7), r"is damaged \(3 items, 3 titles\)"),
        (lambda v: _change_manifest(v, format=99), r"was written by another version of whereupon; write the catalogue"),
        (lambda v: (v.parent / "CURRENT").write_text("../x"), r"should name a version such as v000001 but reads"),
        (lambda v: shutil.rmtree(v), r"is damaged \(manifest.json is missing\)"),
    ],
    ids=[
        "no array", "no items", "items cut short", "a bit is flipped", "no manifest", "manifest cut short",
        "manifest is a list", "manifest lacks a key", "another number of items", "another format", "pointer elsewhere",
        "no version",
    ],
)  # fmt: skip
def test_damaged_catalogue_is_refused_in_one_sentence(tmp_path: Path, damage: Callable[[Path], Any], said: str) -> None:
    write(tmp_path, NEW)
    damage(tmp_path / "v000001")
    with pytest.raises(CatalogueError, match=said) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "array"), [("token_P", np.zeros(3)), ("depth_B", np.zeros((2, 2), np.int32))])
def test_array_of_another_kind_is_refused(tmp_path: Path, name: str, array: Any) -> None:
    write(tmp_path, NEW)
    file = tmp_path / "v000001" / f"{name}.npy"
    np.save(file, array)
    files = snapshot_manifest(tmp_path)["files"]
    _change_manifest(file.parent, files=files | {file.name: {"bytes": file.stat().st_size}})
    with pytest.raises(
        CatalogueError, match=rf"is damaged \({name}.npy holds {array.dtype} in {array.ndim} dimensions\)"
    ):
        read(tmp_path, verify=False)
