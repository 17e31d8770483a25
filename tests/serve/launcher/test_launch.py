"""The launcher: what it refuses, how it starts vLLM, and that nothing is left of it. vLLM is a stand-in here."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from whereupon.cli import app
from whereupon.config import Config
from whereupon.serve.launcher import launch
from whereupon.serve.launcher.command import Address
from whereupon.serve.launcher.install import Build
from whereupon.tests.serve.processes import DEFAULT_SIGNALS, MARK, left_after, serving
from whereupon.tests.texts import says

HERE = Path(__file__).parent
LAUNCHER = [str(HERE / "fake_launcher.py")]


@pytest.fixture
def invoke(
    barely_trained: Path, town_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """`whereupon serve` with the stand-in, in this process."""

    def command(config: Any, weights: Any, dtype: str, device: str, address: Address) -> list[str]:
        return [sys.executable, str(HERE / "fake_vllm.py"), str(address.port), os.environ.get("FAKE_MODE", "")]

    monkeypatch.setattr(launch, "server_command", command)
    monkeypatch.setattr(launch, "installed_build", lambda: Build("0.32.0", "cpu"))
    monkeypatch.setenv(MARK, str(town_config().run))

    def invoke(*options: str, settings: tuple[str, ...] = ()) -> Result:
        sets = [f"run={town_config().run}", "serve.port=0", *settings]
        said = [part for setting in sets for part in ("--set", setting)]
        return CliRunner().invoke(app, ["serve", str(barely_trained), *options, *said])

    return invoke


@pytest.fixture
def fake(barely_trained: Path, merged_run: Path, tmp_path: Path) -> Callable[..., Any]:
    """`whereupon serve` with the stand-in, in a process of its own."""

    def fake(mode: str = "") -> Any:
        shutil.copytree(merged_run, tmp_path / "town")
        return serving(barely_trained, tmp_path / "town", (), {"FAKE_MODE": mode}, LAUNCHER)

    return fake


# What is refused before anything is started


def _refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr.splitlines()[-1]


def test_missing_vllm_is_one_sentence_that_says_how_to_install_it(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "installed_build", lambda: None)
    assert re.search(
        says("vLLM 0.32", "not installed", "`python -m whereupon.serve.launcher.install`"), _refused(invoke())
    )


def test_vllm_of_another_series_is_refused(invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "installed_build", lambda: Build("0.33.1", "cuda"))
    assert re.search(says("vLLM 0.32", "0.33.1", "`python -m whereupon.serve.launcher.install`"), _refused(invoke()))


def test_installation_without_our_routes_is_refused(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [])
    assert re.search(says("vLLM", "whereupon's routes", "install"), _refused(invoke()))


def test_run_without_adapter_says_what_to_do_first(
    invoke: Callable[..., Result], town_config: Callable[..., Config]
) -> None:
    shutil.rmtree(town_config().run / "adapters")
    assert re.search(says("no trained adapter", str(town_config().run), "`whereupon finetune`"), _refused(invoke()))


def test_run_without_histories_says_what_to_do_first(
    invoke: Callable[..., Result], town_config: Callable[..., Config]
) -> None:
    shutil.rmtree(town_config().run / "histories")
    assert re.search(says(str(town_config().run), "`whereupon prepare`"), _refused(invoke()))


def test_adapter_of_another_template_is_refused(invoke: Callable[..., Result]) -> None:
    assert re.search(says("another prompt template"), _refused(invoke(settings=("prompts.template=checkins",))))


def test_stack_that_is_missing_is_refused_before_anything_is_loaded(invoke: Callable[..., Result]) -> None:
    assert "priors" in _refused(invoke(settings=("priors=auto",)))


def test_port_that_is_taken_is_refused(invoke: Callable[..., Result]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = _refused(invoke(settings=(f"serve.port={port}",)))
    assert re.search(says(f"{port}", "127.0.0.1", "in use", "stop"), said)


def test_host_that_is_not_ours_is_refused(invoke: Callable[..., Result]) -> None:
    assert re.search(says("192.0.2.1:0", "serve.host"), _refused(invoke(settings=("serve.host=192.0.2.1",))))


def test_open_address_without_key_is_warned_of(invoke: Callable[..., Result]) -> None:
    result = invoke("--then", "true", settings=("serve.host=0.0.0.0",))
    assert result.exit_code == 0, result.output
    assert re.search(says("0.0.0.0:", "no API key", "WHEREUPON_API_KEY"), result.stderr)


# A server that runs


def test_command_finds_the_server_and_its_exit_code_is_ours(
    invoke: Callable[..., Result], town_config: Callable[..., Config], tmp_path: Path
) -> None:
    script = "import os, urllib.request as r; print(r.urlopen(os.environ['WHEREUPON_URL'] + '/health').status, end=' ')"
    said = tmp_path / "said"
    then = f'{{ {sys.executable} -c "{script}"; echo $OPENAI_BASE_URL $OPENAI_API_KEY; }} > {said}; exit 7'
    result = invoke("--then", then)
    assert (result.exit_code, result.stdout) == (7, "")
    assert re.fullmatch(r"200 http://127\.0\.0\.1:\d+/v1 none\n", said.read_text())
    assert left_after(str(town_config().run), 10) == []
    assert "line of the log" in (town_config().run / "serve.log").read_text()
    assert "line of the log" not in result.stderr


def test_verbose_shows_the_log(invoke: Callable[..., Result], capfd: pytest.CaptureFixture[str]) -> None:
    result = invoke("--verbose", "--then", "true")
    assert result.exit_code == 0
    assert "line of the log\n" in result.stderr


def test_server_that_ends_while_loading_is_reported_with_its_last_lines(
    invoke: Callable[..., Result], town_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "broken")
    result = invoke()
    assert re.search(says("vLLM ended", "exit code 1", "serve.log"), _refused(result))
    assert "MemoryError: no room for weights" in result.stderr.splitlines()[-2]
    assert left_after(str(town_config().run), 10) == []


def test_error_of_ours_in_the_server_is_the_sentence(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "refused")
    result = invoke()
    assert _refused(result) == "The database is asleep; wake it."
    assert "line of the log" not in result.stderr


def test_server_without_our_routes_is_stopped(
    invoke: Callable[..., Result], town_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "routeless")
    said = _refused(invoke())
    reason = "ModuleNotFoundError: No module named 'whereupon.routes'"
    assert re.search(says("whereupon's routes", reason, "serve.log"), said)
    assert left_after(str(town_config().run), 10) == []


def test_server_that_takes_too_long_is_stopped(
    invoke: Callable[..., Result], town_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "slow")
    said = _refused(invoke(settings=("serve.start_timeout_s=0.1",)))
    assert re.search(says("did not answer", "0.1 s", "serve.log", "serve.start_timeout_s"), said)
    assert left_after(str(town_config().run), 10) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_a_server_that_answers_with_exit_0(fake: Callable[..., Any], how: signal.Signals) -> None:
    with fake() as served:
        assert served.model == "town"
        assert len(served.processes()) >= 3, "launcher, server and its child"
        assert served.stop(how) == 0
        assert served.left_after(10) == []


@pytest.fixture
def _hangups_ignored() -> Iterator[None]:
    """As under `nohup make test`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hangups_ignored")
def test_servers_of_tests_obey_a_signal_that_the_tests_ignore(fake: Callable[..., Any]) -> None:
    with fake() as served:
        assert served.stop(signal.SIGHUP) == 0


def test_server_that_does_not_stop_is_ended_by_a_second_signal(fake: Callable[..., Any]) -> None:
    with fake("stubborn") as served:
        served.launcher.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            served.launcher.wait(timeout=1)
        assert served.stop(signal.SIGINT) == 130
        assert served.left_after(10) == []


@pytest.mark.parametrize("mode", ["", "stubborn"])
def test_launcher_that_is_killed_leaves_no_process(fake: Callable[..., Any], mode: str) -> None:
    with fake(mode) as served:
        assert served.stop(signal.SIGKILL) == -signal.SIGKILL
        assert served.left_after(30) == []


@pytest.mark.slow
def test_start_that_is_interrupted_says_so_and_leaves_no_process(
    barely_trained: Path, merged_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(merged_run, tmp_path / "town")
    mark = str(tmp_path)
    sets = ["--set", f"run={tmp_path / 'town'}", "--set", "serve.port=0"]
    launcher = subprocess.Popen(
        [*DEFAULT_SIGNALS, sys.executable, *LAUNCHER, "serve", str(barely_trained), *sets],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"FAKE_MODE": "slow", MARK: mark},
    )  # fmt: skip
    log = tmp_path / "town" / "serve.log"
    while not (log.exists() and log.read_text()):
        assert launcher.poll() is None
        time.sleep(0.05)
    launcher.send_signal(signal.SIGINT)
    _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 130
    assert "Interrupted;" in said.splitlines()[-1]
    assert left_after(mark, 10) == []


def test_server_that_dies_later_is_reported(fake: Callable[..., Any]) -> None:
    with fake() as served:
        victim = next(pid for pid in served.processes() if "fake_vllm" in _command_line(pid))
        os.kill(victim, signal.SIGKILL)
        assert served.launcher.wait(timeout=60) == 1
        assert served.left_after(10) == []


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
