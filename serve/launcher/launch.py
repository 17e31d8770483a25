"""`whereupon serve`: check what can be checked early, start vLLM, wait until it answers, leave nothing behind."""

from __future__ import annotations

import contextlib
import errno
import http.client
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ...console import say, talk
from ...decode.adapter_card import check_card, read_card
from ...decode.adapters import current_adapter
from ...decode.identity import base_identity
from ...errors import ServerError
from ...files import write_json
from ...histories import Histories, read_histories
from ...prompts import identity_of, load_templates
from ..settings import ServeSettings
from .child import ServerProcess
from .command import Address, api_key, key_variable, served_dtype, server_command, server_environment
from .greeting import busiest_user, example_prompt, greeting
from .install import HOW, SERIES, Build, installed_build
from .merged import Weights, merged_weights

if TYPE_CHECKING:
    from ..settings import ServeConfig

_LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Start:
    """What is known before anything is started. `told`: what to print once the server answers."""

    build: Build
    dtype: str
    address: Address
    key: str | None
    told: str


def serve_verb(config: ServeConfig, *, verbose: bool, as_json: bool, then: str | None) -> int:
    """Serve until Ctrl-C, or until the shell command `then` is done; the exit code.

    Ctrl-C and SIGTERM are how a server is meant to end: 0, once it has answered. Before that they interrupt a start.
    Raises WhereuponError for whatever keeps the server from starting, and where it ends by itself.
    """
    start, log = check(config, as_json), config.run / "serve.log"
    with (
        _signals_interrupt(),
        merged_weights(config, start.dtype) as weights,
        _started(config, start, weights, log, verbose) as process,
    ):
        _wait_until_it_answers(process, start.address, config.serve.start_timeout_s, log, quiet=verbose)
        _check_routes(start, log)
        process.answers = True
        try:
            if as_json or not then:
                print(start.told, flush=True)
            if then:
                return _run(then, start)
            process.wait()
        except KeyboardInterrupt:
            if then:
                raise
            say("stopping; requests that run are answered first")
            return 0
        raise _ended(process, log)


def check(config: ServeConfig, as_json: bool = False) -> Start:
    """Everything that can be refused before a model is loaded."""
    build = _needed_build()
    dtype = served_dtype(config.model, build.device)
    histories = read_histories(config.run)
    _check_adapter(config, histories)
    address = free_address(config.serve)
    name, key = config.name, api_key(config.serve, os.environ)
    if address.host not in _LOCAL and not key:
        say(
            f"Whoever reaches {address.host}:{address.port} may ask and change the catalogue: no API key is set in "
            f"{config.serve.api_key_variable}.",
            "yellow",
        )
    if as_json:
        told = json.dumps({"url": address.url, "model": name, "pid": os.getpid()}, ensure_ascii=False)
    else:
        user_id, prompt = histories.user_ids[busiest_user(histories)], example_prompt(histories, config.prompts)
        told = greeting(address.url, name, user_id, prompt, key_variable(config.serve, os.environ))
    return Start(build, dtype, address, key, told)


def free_address(settings: ServeSettings) -> Address:
    """Where to listen; port 0 becomes a free one. Raises ServerError for a port that is taken or a host not ours."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: after a restart it is free
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ServerError(
                    f"Port {port} of {host} is taken: stop what listens there, or take another one, such as "
                    "--set serve.port=0 for any that is free."
                ) from None
            raise ServerError(
                f"Cannot listen at {host}:{port} ({error.strerror}): mend serve.host or serve.port."
            ) from None
        return Address(host, listener.getsockname()[1])


def _needed_build() -> Build:
    """The installed vLLM, if it is one that can be served with."""
    build = installed_build()
    if build is None:
        raise ServerError(f"Serving needs vLLM {SERIES}, which is not installed: {HOW} (some minutes, once).")
    if not build.version.startswith(f"{SERIES}."):
        raise ServerError(f"Serving needs vLLM {SERIES} but found {build.version}: {HOW}.")
    if not importlib.metadata.entry_points(group="vllm.endpoint_plugins", name="whereupon"):
        raise ServerError(
            "vLLM does not find whereupon's routes, since this installation of whereupon is older than they are: "
            "install it again."
        )
    return build


def _check_adapter(config: ServeConfig, histories: Histories) -> None:
    """Raise ModelError without an adapter that belongs to this run; the tokenizer is for the server to compare."""
    adapter = current_adapter(config.run)
    identity = identity_of(config.prompts, load_templates(config.prompts.template), histories.catalogue_hash)
    recipe = {"title_recipe": histories.title_recipe}
    check_card(read_card(adapter), adapter, {**base_identity(config.model), **recipe, **identity})


@contextlib.contextmanager
def _started(config: ServeConfig, start: Start, weights: Weights, log: Path, verbose: bool) -> Iterator[ServerProcess]:
    """vLLM, which may still be loading; it is stopped when the block ends."""
    # Not in the run folder: two servers of one run may have different settings, and a URL may hold a password.
    with tempfile.TemporaryDirectory(prefix="whereupon-serve-") as scratch:
        settings_file = Path(scratch) / "config.json"
        write_json(settings_file, config.model_dump(mode="json"))
        command = server_command(config, weights, start.dtype, start.build.device, start.address)
        environment = server_environment(config.serve, settings_file, os.environ)
        say(f"starting vLLM {start.build.version} ({start.build.device}, {start.dtype}); its log goes to {log}")
        with ServerProcess(command, environment, log, echo=verbose) as process:
            yield process


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """What asks a process to end does what Ctrl-C does; what is ignored, as under `nohup`, stays so."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    asked = [one for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, interrupt) for one in asked}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _wait_until_it_answers(
    process: ServerProcess, address: Address, timeout_s: float, log: Path, quiet: bool
) -> None:  # fmt: skip
    """Return when GET /health says 200. Raises ServerError where the server ends before, or takes too long."""
    columns = SpinnerColumn(), TextColumn("loading the model"), TimeElapsedColumn()
    with Progress(*columns, console=talk, transient=True, disable=quiet or not talk.is_terminal) as bar:
        bar.add_task("")
        deadline = time.monotonic() + timeout_s
        while not _is_healthy(address):
            if process.poll() is not None:
                raise _ended(process, log)
            if time.monotonic() > deadline:
                raise ServerError(
                    f"The server did not answer within {timeout_s:g} s: look into {log}, or allow more time in "
                    "serve.start_timeout_s."
                )
            time.sleep(0.2)


def _check_routes(start: Start, log: Path) -> None:
    """Raise ServerError where vLLM answers without our routes: it only logs that a plugin cannot be loaded."""
    if _status(start.address, "/v1/catalogues", {"Authorization": f"Bearer {start.key}"}) == 404:
        errors = re.findall(r" ERROR .*?\] +(.+)", log.read_text(encoding="utf-8", errors="replace"))
        reason = f" ({errors[-1]})" if errors else ""  # the last line of a traceback says what it was
        raise ServerError(f"vLLM could not load whereupon's routes{reason}; see {log}.")


def _is_healthy(address: Address) -> bool:
    return _status(address, "/health", {}) == 200


def _status(address: Address, path: str, headers: dict[str, str]) -> int | None:
    """What GET says; None where nobody answers."""
    connection = http.client.HTTPConnection(address.reachable_host, address.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _run(then: str, start: Start) -> int:
    """Run a shell command that finds the server by the variables that the openai package reads; its exit code."""
    environment = os.environ | {
        "WHEREUPON_URL": start.address.url,
        "OPENAI_BASE_URL": f"{start.address.url}/v1",
        "OPENAI_API_KEY": start.key or "none",
    }
    code = subprocess.run(then, shell=True, env=environment, check=False).returncode
    return code if code >= 0 else 128 - code  # as shells say it, where a signal ended the command


def _ended(process: ServerProcess, log: Path) -> ServerError:
    """Why a server ended by itself: our own sentence, if its log has one, else its last lines, which are shown."""
    code = process.wait()
    process.stop()  # the last lines are read
    lines = list(process.tail)
    told = [found[1] for line in lines if (found := re.search(r"\bwhereupon\.errors\.\w+: (.+)$", line))]
    if told:
        return ServerError(told[-1])
    for line in lines:
        say(line, "dim")
    return ServerError(f"vLLM ended by itself (exit code {code}); above are the last lines of {log}.")
