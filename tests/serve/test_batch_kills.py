"""Batches that end in the middle, by SIGKILL or since the disk is full: the same command makes the same file."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.recommend.selection import RequestFilters
from whereupon.serve.batch import parts
from whereupon.serve.batch.verb import recommend_all
from whereupon.tests.serve import batch_process
from whereupon.tests.serve.batch_process import RAIN
from whereupon.tests.serve.light_engine import light_engine, values_alone


@pytest.fixture
def config(town_copy: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Config:
    """A run whose batches have parts of a single user."""
    monkeypatch.setattr(parts, "PART_USERS", 1)
    if "vllm" not in sys.modules:
        monkeypatch.setitem(sys.modules, "vllm", values_alone())
    return town_copy()


def _answered(config: Config, out: Path) -> pl.DataFrame:
    recommend_all(config, out, context=RAIN, filters=RequestFilters(), k=3, engine=light_engine)
    return pl.read_parquet(out)


@pytest.mark.slow
def test_batch_that_is_killed_again_and_again_ends_with_the_same_file(
    config: Config, barely_trained: Path, tmp_path: Path
) -> None:
    whole, out, moments = _answered(config, tmp_path / "whole.parquet"), tmp_path / "all.parquet", random.Random(7)
    command = [sys.executable, batch_process.__file__, str(barely_trained), str(config.run), str(out)]
    for num_parts in (1, 3):  # that there are when it is killed
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while len(list(tmp_path.glob("all.parquet.parts/part-*.parquet"))) < num_parts:
                assert child.poll() is None, f"it ended by itself, with {child.returncode}"
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.02))
        finally:
            child.kill()
        assert child.wait() == -signal.SIGKILL
        assert not out.exists()
    assert _answered(config, out).equals(whole)
    assert not (tmp_path / "all.parquet.parts").exists()


def test_full_disk_keeps_the_parts_that_are_finished(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = _answered(config, tmp_path / "whole.parquet"), tmp_path / "all.parquet"
    written, write = [], Path.write_bytes

    def until_it_is_full(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) == 3:
            write(self, data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", until_it_is_full)
        with pytest.raises(OSError, match="No space"):
            _answered(config, out)
    assert sorted(path.name for path in tmp_path.glob("all.parquet.parts/*")) == [
        "identity.json", "part-000000.parquet", "part-000001.parquet",
    ]  # fmt: skip
    assert not out.exists()
    capsys.readouterr()
    assert _answered(config, out).equals(whole)
    assert "2 of 4 users were answered before" in capsys.readouterr().err


def test_disk_that_is_full_for_the_whole_keeps_all_parts(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out, write = (
        _answered(config, tmp_path / "whole.parquet"),
        tmp_path / "all.parquet",
        pl.DataFrame.write_parquet,
    )

    def full(self: pl.DataFrame, file: Any, **named: Any) -> None:
        if isinstance(file, Path):  # parts are made in memory
            file.write_bytes(b"PAR1")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        write(self, file, **named)

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", full)
        with pytest.raises(OSError, match="No space"):
            _answered(config, out)
    assert sorted(path.name for path in tmp_path.iterdir() if "all.parquet" in path.name) == ["all.parquet.parts"]
    capsys.readouterr()
    assert _answered(config, out).equals(whole)
    assert "4 of 4 users were answered before" in capsys.readouterr().err
