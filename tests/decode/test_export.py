"""Adapters as folders for other programs: plain, whole, and never over what exists."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.config import Config
from whereupon.decode import export
from whereupon.decode.adapters import current_adapter
from whereupon.decode.export import export_adapter, export_merged
from whereupon.decode.models import load_adapted, load_base_model
from whereupon.errors import ModelError

Copy = Callable[..., Config]


@torch.inference_mode()
def _logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(torch.tensor([[5, 9, 7, 30]])).logits
    return found


def test_merged_folder_is_a_plain_checkpoint_with_tokenizer_and_card(town_copy: Copy, tmp_path: Path) -> None:
    config, folder = town_copy(), tmp_path / "merged"
    adapter = current_adapter(config.run)
    export_merged(config.model, adapter, folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(_logits(loaded), _logits(load_adapted(config.model, adapter)), rtol=0, atol=1e-6)
    assert AutoTokenizer.from_pretrained(folder)("City Park").input_ids
    assert json.loads((folder / "whereupon.json").read_text())["merged"] is True
    assert "generation_config.json" not in {path.name for path in folder.iterdir()}


def test_adapter_folder_is_one_of_peft(town_copy: Copy, tmp_path: Path) -> None:
    config, folder = town_copy(), tmp_path / "adapter"
    export_adapter(current_adapter(config.run), folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "whereupon.json",
    ]  # fmt: skip
    loaded = PeftModel.from_pretrained(load_base_model(config.model), str(folder))
    expected = _logits(load_adapted(config.model, current_adapter(config.run)))
    torch.testing.assert_close(_logits(loaded), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", ["--merge", "--adapter"])
def test_existing_folder_is_not_replaced(town_copy: Copy, tmp_path: Path, how: str) -> None:
    config, folder = town_copy(), tmp_path / "there"
    folder.mkdir()
    adapter = current_adapter(config.run)
    with pytest.raises(ModelError, match=r"exists and is not replaced: name another folder"):
        export_merged(config.model, adapter, folder) if how == "--merge" else export_adapter(adapter, folder)
    assert not list(folder.iterdir())


def test_failed_export_leaves_nothing(town_copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = town_copy()

    def failing(settings: Any, adapter: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise ModelError("no")

    monkeypatch.setattr(export, "write_merged", failing)
    with pytest.raises(ModelError, match="no"):
        export_merged(config.model, current_adapter(config.run), tmp_path / "out" / "merged")
    assert not list((tmp_path / "out").iterdir())


def test_adapter_of_another_base_is_not_merged(town_copy: Copy, tmp_path: Path) -> None:
    config = town_copy("model.quantize=nf4")
    with pytest.raises(ModelError, match=r"model\.quantize none, and this run"):
        export_merged(config.model, current_adapter(config.run), tmp_path / "merged")


@pytest.mark.parametrize(("changes", "said"), [({"adapter": "dora"}, True), ({"modules_to_save": ["norm"]}, True),
                                               ({"adapter": "rslora"}, False)])  # fmt: skip
def test_adapter_that_vllm_cannot_load_is_exported_with_a_sentence(
    town_copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: bool
) -> None:
    adapter = current_adapter(town_copy().run)
    card = json.loads((adapter / "whereupon.json").read_text())
    (adapter / "whereupon.json").write_text(json.dumps(card | {"finetune": card["finetune"] | changes}))
    export_adapter(adapter, tmp_path / "adapter")
    assert ("for vLLM, export with --merge" in capsys.readouterr().err) is said


@pytest.mark.parametrize(("flags", "said"), [(["--merge", "--adapter"], "either --merge or --adapter"),
                                             (["--merge", "--of", "popularity"], "are for rankings")])  # fmt: skip
def test_ways_that_exclude_each_other_are_refused(flags: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", "none.yaml", "-o", str(tmp_path / "x"), *flags])
    assert result.exit_code == 2
    assert said in result.output
