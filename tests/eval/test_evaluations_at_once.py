"""Two evaluations of one run at the same time."""

import threading
from pathlib import Path

import pytest

from whereupon import files
from whereupon.config import load_config
from whereupon.eval import run
from whereupon.eval.rankings import evaluation_folder, slugs_in
from whereupon.files import one_at_a_time
from whereupon.histories import prepare


def test_second_evaluation_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"u{day % 3},{'abc'[day % 2]},2024-01-{day:02}T10:00:00Z" for day in range(1, 31)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,time", *rows]), encoding="utf-8")
    (tmp_path / "c.yaml").write_text("run: run\nhistories: {events: {path: events.csv}}\n", encoding="utf-8")
    config = load_config(tmp_path / "c.yaml", ["evaluate.baselines=[own counts]"])
    prepare(config.histories, config.catalogue, config.run)
    waits = threading.Event()
    monkeypatch.setattr(files, "PATIENCE_S", 0.01)

    def say(text: str) -> None:
        if "waiting for another evaluation" in text:
            waits.set()

    monkeypatch.setattr(run, "say", say)
    second = threading.Thread(target=run.evaluate, args=(config,), kwargs={"split": "test", "baselines_only": True})
    folder = evaluation_folder(config.run, "test", None)
    with one_at_a_time(folder / ".lock", lambda: None):
        second.start()
        assert waits.wait(60)
        assert slugs_in(folder) == []
    second.join(60)
    assert slugs_in(folder) == ["own-counts"]
