"""The run of a tiny town: its settings, and what an evaluation leaves there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whereupon.config import Config
from whereupon.eval.rankings import evaluation_folder

Town = Callable[..., Config]
BASELINES = ["own counts", "own counts + transitions"]
OVERRIDES = ["prompts.budget_tokens=100", f"evaluate.baselines={json.dumps(BASELINES)}"]


def folder_of(config: Config, split: str = "test", limit: int | None = None) -> Path:
    return evaluation_folder(config.run, split, limit)


def summary_of(config: Config, split: str = "test", limit: int | None = None) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder_of(config, split, limit) / "summary.json").read_text())
    return summary
