"""What was trained on four bits is served by vLLM as plain merged weights, with the same ranking."""

import json
import shutil
import signal
import urllib.request
from pathlib import Path

import pytest

from whereupon.config import load_config
from whereupon.finetune.train import finetune
from whereupon.recommend import Recommender
from whereupon.tests.serve.processes import serving

AT = "2026-01-15T19:00"

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def test_server_ranks_as_the_quantized_model_in_process(barely_trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "town"
    shutil.copytree(barely_trained.parent / "run" / "histories", run / "histories")
    config = load_config(barely_trained, [f"run={run}", "model.quantize=nf4", "finetune.epochs=4"])
    finetune(config)
    with Recommender.load(config) as recommender:
        expected = recommender.recommend("p00", k=5, at=AT)
    body = json.dumps({"user_id": "p00", "k": 5, "context": {"at": AT}}).encode()
    with serving(barely_trained, run, ["model.quantize=nf4"]) as served:
        request = urllib.request.Request(f"{served.url}/v1/recommendations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)["data"]
        assert served.stop(signal.SIGTERM) == 0
    assert [row["item_id"] for row in found] == expected["item_id"].to_list()
    assert [row["probability"] for row in found] == pytest.approx(expected["probability"].to_list(), abs=1e-4)
    [folder] = (path for path in (run / "served").iterdir() if path.is_dir())
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
