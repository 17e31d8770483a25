"""`whereupon doctor`: a town that is well, and towns that lack one thing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.config import Config
from whereupon.decode import ModelSettings
from whereupon.decode.adapters import current_adapter
from whereupon.serve.doctor import machine
from whereupon.serve.doctor.run import LOOKS, looked_at
from whereupon.serve.doctor.verb import examine
from whereupon.serve.launcher.install import Build

RUN = ("histories", "base model", "adapter", "rankers", "catalogue", "events")


def _states(config: Config) -> dict[str, str]:
    return {finding.name: finding.state for finding in examine(config)}


def test_run_that_is_whole_is_well(on_top_copy: Callable[..., Config]) -> None:
    config = on_top_copy("serve.port=0")
    before = sorted(config.run.rglob("*"))
    found = {finding.name: finding for finding in examine(config)}
    assert [found[name].state for name in (*RUN, "port", "API key")] == ["well"] * 8
    assert "4 users" in found["histories"].found
    assert "version 0001" in found["adapter"].found
    assert "transitions" in found["rankers"].found or "popularity" in found["rankers"].found
    assert "5 items, as prepared" in found["catalogue"].found
    assert sorted(config.run.rglob("*")) == before, "looking changes nothing"


def test_run_that_is_not_prepared_is_wrong_and_says_what_to_do(town_copy: Callable[..., Config]) -> None:
    config = town_copy()
    shutil.rmtree(config.run / "histories")
    finding = looked_at("histories", LOOKS["histories"], config)
    assert finding.state == "wrong"
    assert "`whereupon prepare`" in finding.found
    assert {name: _states(config)[name] for name in ("adapter", "base model")} == {
        "adapter": "wrong", "base model": "well"
    }  # fmt: skip


def test_adapter_that_is_damaged_or_for_another_prompt_is_wrong(town_copy: Callable[..., Config]) -> None:
    assert _states(town_copy("prompts.budget_tokens=170"))["adapter"] == "wrong"
    config = town_copy()
    (current_adapter(config.run) / "whereupon.json").write_text("{", encoding="utf-8")
    finding = looked_at("adapter", LOOKS["adapter"], config)
    assert (finding.state, "is corrupt" in finding.found) == ("wrong", True)


def test_rankers_that_the_adapter_was_not_pooled_with_are_wrong(
    on_top_copy: Callable[..., Config], town_copy: Callable[..., Config]
) -> None:
    assert _states(town_copy())["rankers"] == "well"
    config = on_top_copy()
    shutil.rmtree(config.run / "priors")
    assert _states(config)["rankers"] == "wrong"


def test_store_is_counted_and_one_that_is_no_database_is_wrong(town_copy: Callable[..., Config]) -> None:
    config = town_copy()
    store = config.run / "events.sqlite"
    assert "no events yet" in looked_at("events", LOOKS["events"], config).found
    assert not store.exists()
    store.write_text("no database, and longer than the header of one is, so that it is looked at: " * 20)
    finding = looked_at("events", LOOKS["events"], config)
    assert (finding.state, "no SQLite file" in finding.found) == ("wrong", True)


def test_port_that_is_taken_is_a_note(town_copy: Callable[..., Config]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = town_copy(f"serve.port={taken.getsockname()[1]}")
        finding = next(one for one in examine(config) if one.name == "port")
    assert finding.state == "note"
    assert "stop what listens there" in finding.found


def test_command_prints_all_and_exits_with_1_where_something_is_wrong(
    town_copy: Callable[..., Config], barely_trained: Path
) -> None:
    config = town_copy()
    arguments = ["doctor", str(barely_trained), "--json", "--set", "serve.port=0", "--set", f"run={config.run}"]
    whole = CliRunner().invoke(app, arguments)
    states = {one["name"]: one["state"] for one in json.loads(whole.stdout)}
    assert [states[name] for name in RUN] == ["well"] * 6
    assert whole.exit_code == (1 if "wrong" in states.values() else 0)
    shutil.rmtree(config.run / "adapters")
    broken = CliRunner().invoke(app, [one for one in arguments if one != "--json"])
    assert broken.exit_code == 1
    assert "There is no trained adapter" in " ".join(broken.stdout.split())


def test_doctor_loads_neither_torch_nor_vllm(root: Path, barely_trained: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from whereupon.config import load_config; from whereupon.serve.doctor.verb import doctor\n"
        f"doctor(load_config({str(barely_trained)!r}, ['serve.port=0']), json=True)\n"
        "print(sorted({'torch', 'vllm'} & sys.modules.keys()), file=sys.stderr)"
    )
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    (tmp_path / "whereupon").symlink_to(root)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


# The machine


@pytest.mark.parametrize(
    ("flags", "state", "shown"),
    [("fpu avx2 avx512f avx512_bf16", "well", "avx512_bf16"), ("fpu sse2", "note", "instructions not known")],
)
def test_instructions_that_decide_the_speed_are_named(tmp_path: Path, flags: str, state: str, shown: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    found = machine.cpu_found(tmp_path / "cpuinfo")
    assert (found.state, shown in found.found) == (state, True)


@pytest.mark.parametrize(("free_kib", "state"), [(16 * 2**20, "well"), (2**20, "note")])
def test_memory_is_compared_with_what_a_server_needs(tmp_path: Path, free_kib: int, state: str) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {free_kib} kB\nHugePages: 0\n")
    assert machine.memory_found(2.5, tmp_path / "meminfo").state == state


def test_full_disk_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.disk_found(tmp_path / "not" / "there").found.endswith(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 1000))  # type: ignore[attr-defined]
    assert machine.disk_found(tmp_path).state == "wrong"


def test_run_folder_that_cannot_be_written_to_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path and mode == os.W_OK))
    found = machine.disk_found(tmp_path / "run")
    assert (found.state, str(tmp_path) in found.found) == ("wrong", True)


def test_gpu_that_is_requested_and_missing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert machine.gpu_found(ModelSettings(device="cuda")).state == "wrong"
    assert machine.gpu_found(ModelSettings(device="cpu")).state == "well"


def test_server_that_others_reach_without_a_key_is_wrong() -> None:
    assert machine.key_found("0.0.0.0", "KEY", {}).state == "wrong"
    assert machine.key_found("0.0.0.0", "KEY", {"KEY": "k"}).state == "well"
    assert machine.key_found("127.0.0.1", "KEY", {}).state == "well"


def test_vllm_of_another_series_is_wrong_and_none_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed_build", lambda: None)
    assert machine.vllm_found().state == "note"
    monkeypatch.setattr(machine, "installed_build", lambda: Build("0.11.0", "cpu"))
    assert machine.vllm_found().state == "wrong"


def test_vllm_for_cpus_without_libnuma_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_library", lambda name: None)
    for device, state in (("cpu", "wrong"), ("cuda", "well")):
        monkeypatch.setattr(machine, "installed_build", lambda device=device: Build(f"{machine.SERIES}.1", device))
        assert machine.vllm_found().state == state
