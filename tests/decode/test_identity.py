"""Models are distinguished by what is in their files."""

import json
import os
import shutil
from pathlib import Path

import pytest

from whereupon.decode import identity
from whereupon.decode.identity import adapter_hash, base_identity, hash_of, model_identity
from whereupon.decode.settings import ModelSettings
from whereupon.errors import ModelError
from whereupon.files import sha256_file


@pytest.fixture(name="base")
def _base(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"hidden_size": 8, "transformers_version": "5.16"}))
    (base / "model.safetensors").write_bytes(b"weights")
    return base


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing had been written for a while, so that hashes are kept."""
    monkeypatch.setattr(identity, "_SETTLED_NS", 0)


def _hash(base: Path) -> object:
    return base_identity(ModelSettings(base=str(base)))["base_hash"]


def test_base_model_is_its_contents_wherever_they_lie(base: Path, tmp_path: Path) -> None:
    before = _hash(base)
    assert _hash(Path(shutil.copytree(base, tmp_path / "moved"))) == before
    (base / "README.md").write_text("about")
    (base / "config.json").write_text(json.dumps({"transformers_version": "5.19", "dtype": "x", "hidden_size": 8}))
    assert _hash(base) == before


@pytest.mark.parametrize(
    ("file", "text"), [("model.safetensors", "Weights"), ("config.json", '{"hidden_size": 9}'), ("more.bin", "more")]
)
def test_base_model_that_was_changed_in_place_is_another(base: Path, file: str, text: str) -> None:
    before = _hash(base)
    (base / file).write_text(text)
    assert _hash(base) != before


def test_file_is_read_once_as_long_as_it_is_not_changed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(identity, "sha256_file", lambda path: read.append(path) or sha256_file(path))
    file = base / "model.safetensors"
    assert hash_of(file) == hash_of(file) == sha256_file(file)
    assert len(read) == 1
    stat = file.stat()
    file.write_bytes(b"Weights")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as some copying tools do
    assert hash_of(file) == sha256_file(file)
    assert len(read) == 2


def test_hash_of_a_file_that_was_just_written_is_not_kept(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be written once more within one tick of the file system's clock."""
    monkeypatch.setattr(identity, "_SETTLED_NS", 3600 * 10**9)
    read: list[Path] = []
    monkeypatch.setattr(identity, "sha256_file", lambda path: read.append(path) or "0")
    assert hash_of(base / "model.safetensors") == hash_of(base / "model.safetensors")
    assert len(read) == 2


def test_damaged_or_unwritable_cache_of_hashes_costs_time_only(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _hash(base)
    cache = identity.cache_folder("hashes") / "file-hashes.json"
    for text in ("", "[]", json.dumps({str(base / "model.safetensors"): 7})):
        cache.write_text(text)
        assert _hash(base) == before
    monkeypatch.setenv("WHEREUPON_CACHE", str(base / "model.safetensors"))
    assert _hash(base) == before


def test_weights_of_the_hub_are_known_by_their_names_and_the_commit_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "c0ffee", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / ("a" * 64)).write_bytes(b"gigabytes")
    (snapshot / "model.safetensors").symlink_to(blobs / ("a" * 64))
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(snapshot))
    monkeypatch.setattr(identity, "sha256_file", lambda path: pytest.fail("was read"))
    found = base_identity(ModelSettings(base="somebody/some-model", revision="main"))
    assert (found["base_model"], found["base_revision"]) == ("somebody/some-model", "c0ffee")


def test_adapter_is_its_weights_and_settings(tmp_path: Path) -> None:
    for name in identity.ADAPTER_FILES:
        (tmp_path / name).write_text("{}")
    found = {adapter_hash(tmp_path)}
    for name in identity.ADAPTER_FILES:
        (tmp_path / name).write_text("{ }")
        found.add(adapter_hash(tmp_path))
    assert len(found) == 3
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"corrupt \(no adapter_model\.safetensors\): run `whereupon finetune` again"):
        adapter_hash(tmp_path)


def test_identity_knows_base_adapter_temperature_and_number_format(base: Path) -> None:
    settings = ModelSettings(base=str(base), device="cpu")
    auto = model_identity(settings, {})
    assert auto == model_identity(settings.model_copy(update={"dtype": "float32"}), {})
    card = {"adapter_hash": "a", "temperature": 1.0, "catalogue_hash": "of yesterday", "data_hash": "x"}
    others = [
        auto, model_identity(settings, card), model_identity(settings, card | {"adapter_hash": "b"}),
        model_identity(settings, card | {"temperature": 2.0}),
        model_identity(settings.model_copy(update={"dtype": "bfloat16"}), card),
        model_identity(settings.model_copy(update={"quantize": "nf4"}), card),
        model_identity(settings.model_copy(update={"quantize": "int8"}), card),
    ]  # fmt: skip
    assert model_identity(settings, card | {"catalogue_hash": "of today", "data_hash": "y"}) == others[1]
    assert len({json.dumps(one) for one in others}) == len(others)
