"""What bench-gpu says of a training; the trainings need a GPU."""

from pathlib import Path

import gpu
import pytest
from transformers import AutoConfig

ROW = {"size": "0.5B", "way": "bf16", "tokens_per_s": 90.0, "bare_tokens_per_s": 100.0, "planned_bytes": 100}


@pytest.mark.parametrize(("counted", "ok"), [(114, True), (86, True), (116, False), (84, False), (0, False)])
def test_memory_may_be_15_percent_off_the_plan_and_must_be_counted(counted: int, ok: bool) -> None:
    speed, memory = gpu.bars_of(ROW | {"counted_bytes": counted})
    assert (speed["value"], speed["ok"]) == (0.9, True)
    assert memory["ok"] is ok
    assert (memory["value"] is None) == (counted == 0)


def test_model_has_random_weights_and_a_tokenizer_and_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tmp_path / "base"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "resolve_base_model", lambda name: tokenizer)
    made = gpu.model_of("tiny")
    assert AutoConfig.from_pretrained(made).vocab_size == 151_936
    assert (made / "tokenizer.json").is_file()
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert gpu.model_of("tiny") == made
    assert (made / "model.safetensors").stat().st_mtime_ns == before
