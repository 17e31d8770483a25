"""Servers that the benches talk to, each a child process with a log file, and a run folder that ours may write into."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx

from whereupon.config import Config, load_config

START_S, STOP_S, RESET_S = 900.0, 60.0, 30.0
BORROWED = ("adapters", "histories", "priors", "served")
NAME = "bench"  # of our server's model and catalogue
# Development mode has /reset_prefix_cache. No plugin is loaded but by the server that names it.
ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1", "VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}  # fmt: skip
# In GiB. By default vLLM takes 92 % of all memory and refuses to start where less is free; this is more than enough.
STOCK = {"VLLM_CPU_KVCACHE_SPACE": "8"}


@dataclass(frozen=True)
class Server:
    """A server that answers at `url` under the model's name `model`; `log` is what it prints."""

    url: str
    model: str
    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def borrowed_run(config: Config) -> Iterator[Path]:
    """A run folder of its own that borrows what was trained: what a bench edits or stores is gone afterwards, and what
    was edited or stored before does not count."""
    with tempfile.TemporaryDirectory(prefix="whereupon-bench-") as folder:
        (config.run / "served").mkdir(exist_ok=True)  # merged weights are worth keeping
        for name in BORROWED:
            if (config.run / name).exists():
                (Path(folder) / name).symlink_to((config.run / name).resolve())
        yield Path(folder)


@contextlib.contextmanager
def our_server(config_file: Path, settings: list[str], log: Path) -> Iterator[Server]:
    """`whereupon serve` with a run folder of its own and no API key. `settings` are KEY=VALUE."""
    config = load_config(config_file, settings)
    with borrowed_run(config) as run, contextlib.ExitStack() as stack:
        options = [
            *settings,
            f"run={run}",
            f"serve.events={run / 'events.sqlite'}",
            "serve.port=0",
            f"serve.name={NAME}",
        ]
        options.append("serve.plain_routes=true")  # for the contestants that search without the catalogue
        command = [sys.executable, "-m", "whereupon.cli", "serve", str(config_file), "--json"]
        command += [part for setting in options for part in ("--set", setting)]
        said = run / "ready.json"
        stack.callback(_keep_logs, run, log.parent)
        process = stack.enter_context(_child(command, {config.serve.api_key_variable: ""}, log, said))
        ready = json.loads(_wait_for(process, log, lambda: _first_line(said)))
        yield Server(ready["url"].rstrip("/"), ready["model"], process, log)


@contextlib.contextmanager
def stock_server(weights: str, dtype: str, log: Path) -> Iterator[Server]:
    """vLLM's own server on the same weights; all but the dtype and the size of a CPU's cache is as it comes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", weights, "--dtype", dtype,
               "--served-model-name", "stock", "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with _child(command, STOCK, log, log) as process:
        _wait_for(process, log, lambda: _healthy(url))
        yield Server(url, "stock", process, log)


@contextlib.contextmanager
def _child(command: list[str], environment: dict[str, str], log: Path, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, ended by SIGTERM, also where this process is; `log` gets its stderr,
    `said` its stdout."""
    environment = {**os.environ, **ENVIRONMENT, **environment}
    environment.pop("VLLM_API_KEY", None)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with log.open("ab") as errors, said.open("ab") as output:  # "ab": the two may be one file
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment, start_new_session=True)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield process
    finally:
        _stop(process)
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        print(f"The server did not end within {STOP_S:.0f} s of SIGTERM and was killed.", file=sys.stderr)
    with contextlib.suppress(ProcessLookupError):  # whatever is left of its session
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], str]) -> str:
    """What `ready` returns once it is not empty. Raises RuntimeError where the process ends or takes too long."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if found := ready():
            return found
        if process.poll() is not None:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"The server ended with {process.returncode} before it answered; {log} ends:\n{tail}")
        time.sleep(0.5)
    raise RuntimeError(f"The server did not answer within {START_S:.0f} s; see {log}.")


def _keep_logs(run: Path, folder: Path) -> None:
    for log in run.glob("*.log"):
        shutil.copy(log, folder)


def _first_line(said: Path) -> str:
    """The line of JSON that is printed when the server answers; empty before."""
    for line in said.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            return line
    return ""


def _healthy(url: str) -> str:
    with contextlib.suppress(httpx.TransportError):
        return "yes" if httpx.get(f"{url}/health", timeout=5).status_code == 200 else ""
    return ""


def client(server: Server) -> httpx.AsyncClient:
    """For as many requests at once as there are; answers may take as long as they need."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=server.url, timeout=None, limits=limits)


def reset_prefix_cache(server: Server) -> None:
    """Forget all texts that were read. Raises RuntimeError where the server does not."""
    until = time.monotonic() + RESET_S
    while time.monotonic() < until:
        answer = httpx.post(f"{server.url}/reset_prefix_cache", timeout=RESET_S)
        if answer.status_code != 200:
            raise RuntimeError(
                f"/reset_prefix_cache answers {answer.status_code}: VLLM_SERVER_DEV_MODE=1 is not heard."
            )
        if answer.json().get("success"):
            return
        time.sleep(0.02)  # blocks of a request that has just ended are still held
    raise RuntimeError(f"The prefix cache was not free for {RESET_S:.0f} s, though no request is under way.")
