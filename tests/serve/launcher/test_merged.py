"""Base model and adapter in one folder: right, whole, made once, and there while somebody uses it."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from whereupon.config import Config
from whereupon.decode.adapters import current_adapter
from whereupon.decode.settings import ModelSettings
from whereupon.errors import ModelError
from whereupon.serve.launcher import merged
from whereupon.serve.launcher.merged import MANIFEST, Weights, merged_weights

Copy = Callable[..., Config]


def _folders(config: Config) -> list[str]:
    return sorted(path.name for path in (config.run / "served").iterdir() if path.is_dir())


def _make(config: Config, dtype: str = "float32") -> Weights:
    with merged_weights(config, dtype) as weights:
        return weights


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were merged rather than found; the merging itself takes a copy of the base model for it."""
    made: list[Path] = []

    def merge(settings: ModelSettings, adapter: Path, folder: Path) -> dict[str, Any]:
        made.append(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        manifest = {"max_tokens": 9, "files": {"model.safetensors": 7}}
        (folder / MANIFEST).write_text(json.dumps(manifest))
        return manifest

    monkeypatch.setattr(merged, "_merge", merge)
    return made


def test_merged_weights_give_the_logits_of_base_model_with_adapter(town_copy: Copy) -> None:
    import torch

    from whereupon.decode.models import load_base_model, load_tokenizer, merge_adapter

    config = town_copy()
    weights = _make(config)
    tokens = torch.tensor([load_tokenizer(config.model)(["Friday evening 7 mild rain: City Park\n"])[0]])
    expected = merge_adapter(load_base_model(config.model), current_adapter(config.run))
    loaded = load_base_model(ModelSettings(base=str(weights.folder), device="cpu"))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(tokens).logits, expected(tokens).logits, rtol=0, atol=1e-6)
        plain = load_base_model(config.model)(tokens).logits
        assert (plain - expected(tokens).logits).abs().max() > 1e-4, "the adapter has learnt nothing to be seen by"


def test_merged_folder_is_a_whole_model_without_generation_config(town_copy: Copy, tmp_path: Path) -> None:
    from whereupon.decode.models import load_tokenizer

    base = Path(shutil.copytree(town_copy().model.base, tmp_path / "base"))
    (base / "generation_config.json").write_text('{"temperature": 0.1, "do_sample": false}')
    config = town_copy(f"model.base={base}")
    weights = _make(config, "bfloat16")
    names = {path.name for path in weights.folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", MANIFEST} <= names
    assert "generation_config.json" not in names
    assert json.loads((weights.folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert weights.max_tokens == 1024
    listed = [path for path in weights.folder.iterdir() if path.name != MANIFEST]
    assert weights.num_bytes == sum(path.stat().st_size for path in listed)
    own = ModelSettings(base=str(weights.folder))
    assert load_tokenizer(own).fingerprint == load_tokenizer(config.model).fingerprint


def test_second_start_finds_the_weights_of_the_first(town_copy: Copy, merging: list[Path]) -> None:
    config = town_copy()
    assert _make(config) == _make(config)
    assert len(merging) == 1


@pytest.mark.parametrize("what", ["adapter", "base model", "number format"])
def test_other_origin_makes_other_weights_and_removes_the_old(
    town_copy: Copy, merging: list[Path], tmp_path: Path, what: str
) -> None:
    config = town_copy()
    before = _make(config)
    if what == "adapter":
        with (current_adapter(config.run) / "adapter_model.safetensors").open("ab") as file:
            file.write(b"\0")
    if what == "base model":
        other = Path(shutil.copytree(config.model.base, tmp_path / "other"))
        _change(other)
        config = town_copy(f"model.base={other}")
    after = _make(config, "bfloat16" if what == "number format" else "float32")
    assert after.folder != before.folder
    assert _folders(config) == [after.folder.name]


def test_base_model_that_was_changed_in_place_is_merged_again(
    town_copy: Copy, merging: list[Path], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(town_copy().model.base, tmp_path / "other"))
    config = town_copy(f"model.base={other}")
    _make(config)
    _make(config)
    os.utime(other / "model.safetensors", ns=(1, 1))
    _make(config)
    assert len(merging) == 1, "the same contents are the same model"
    _change(other)
    _make(config)
    assert len(merging) == 2


def _change(base: Path) -> None:
    """Another number in the weights, which leaves their file as long as it was."""
    weights = load_file(base / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_were_cut_short_are_made_again(town_copy: Copy, merging: list[Path]) -> None:
    config = town_copy()
    weights = _make(config)
    (weights.folder / "model.safetensors").write_bytes(b"we")
    assert _make(config) == weights
    assert len(merging) == 2


def test_weights_in_use_are_kept_by_another_start_and_unfinished_ones_are_not(
    town_copy: Copy, merging: list[Path]
) -> None:
    config = town_copy()
    with merged_weights(config, "float32") as used:
        (config.run / "served" / ".0123.killed").mkdir()
        other = _make(config, "bfloat16")
        assert _folders(config) == sorted([used.folder.name, other.folder.name])
    again = _make(config, "bfloat16")
    assert again == other
    assert _folders(config) == [other.folder.name]


def test_two_starts_at_once_merge_once(town_copy: Copy, merging: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config, is_merging, may_go_on = town_copy(), threading.Event(), threading.Event()
    merge, found = merged._merge, []

    def slowly(settings: ModelSettings, adapter: Path, folder: Path) -> dict[str, Any]:
        is_merging.set()
        assert may_go_on.wait(60)
        made: dict[str, Any] = merge(settings, adapter, folder)
        return made

    monkeypatch.setattr(merged, "_merge", slowly)
    monkeypatch.setattr(merged, "say", lambda line, *_: may_go_on.set() if "waiting" in line else None)
    starts = [threading.Thread(target=lambda: found.append(_make(config))) for _ in range(2)]
    starts[0].start()
    assert is_merging.wait(60)
    starts[1].start()  # it says that it waits, and only then the first one goes on
    for start in starts:
        start.join(60)
    assert found[0] == found[1]
    assert len(merging) == 1


def test_killed_merge_leaves_nothing_that_counts(town_copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    config = town_copy()

    def interrupted(path: Path, obj: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(merged, "write_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _make(config)
    assert _folders(config) == []
    assert (_make(config).folder / "config.json").is_file()


def test_adapter_without_weights_is_refused(town_copy: Copy) -> None:
    config = town_copy()
    (current_adapter(config.run) / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"corrupt .no adapter_model\.safetensors.: run `whereupon finetune` again"):
        _make(config)


def test_model_that_cannot_be_saved_is_reported_in_a_sentence(town_copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedModel

    def refuse(self: PreTrainedModel, folder: Path) -> None:
        raise NotImplementedError("quantized with a reader.\nNo way back.")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", refuse)
    config = town_copy()
    with pytest.raises(ModelError, match=r"cannot save .* merged with its adapter .quantized with a reader.; expected"):
        _make(config)
    assert _folders(config) == []
