"""`whereupon serve`: check early what can be checked, start vLLM, wait until it answers, and leave nothing running."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ...console import bar, say
from ...decode.adapter_card import check_card, read_card
from ...decode.adapters import current_adapter
from ...decode.identity import base_identity
from ...errors import ServerError
from ...files import write_json
from ...histories import Histories, read_histories
from ...prompts import PromptSettings, context_frame, features_of, identity_of, load_templates
from ...rankers.blend import read_blend
from ..settings import ServeSettings
from .command import Address, ServerProcess, key_variable, served_dtype, server_command, server_environment
from .install import HOW, SERIES, Build, installed_build
from .merged import Weights, merged_weights

if TYPE_CHECKING:
    from ..settings import ServeConfig

LINES = 3  # of a history, in the example of a prompt
_LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Start:
    """What is known before anything is started. `greeting`: what to print once the server answers."""

    build: Build
    dtype: str
    address: Address
    key: str | None
    greeting: str


def serve_verb(config: ServeConfig, *, verbose: bool, as_json: bool, then: str | None) -> int:
    """Serve until Ctrl-C, or until the shell command `then` is done; the exit code.

    Ctrl-C and SIGTERM are how a server is meant to end: 0, once it has answered. Before that they interrupt a start.
    Raises WhereuponError for whatever keeps the server from starting, and where it ends by itself.
    """
    start, log = _check(config, as_json), config.run / "serve.log"
    with (
        _signals_interrupt(),
        merged_weights(config, start.dtype) as weights,
        tempfile.TemporaryDirectory(prefix="whereupon-serve-") as scratch,
        contextlib.closing(_started(config, start, weights, log, scratch, verbose)) as process,
    ):
        _wait_until_it_answers(process, start.address, config.serve.start_timeout_s, log, shown=not verbose)
        _check_routes(start, log)
        process.answers = True
        try:
            if as_json or not then:
                print(start.greeting, flush=True)
            if then:
                return _run(then, start)
            process.child.wait()
        except KeyboardInterrupt:
            if then:
                raise
            say("stopping; requests that run are answered first")
            return 0
        raise _ended(process, log)


def _check(config: ServeConfig, as_json: bool) -> Start:
    """Everything that can be refused before a model is loaded."""
    from ...decode.architecture import searchable_model

    build = _needed_build()
    searchable_model(config.model)
    dtype = served_dtype(config.model, build.device)
    histories = read_histories(config.run)
    adapter = current_adapter(config.run)  # it must belong to this run; the tokenizer is for the server to compare
    identity = identity_of(config.prompts, load_templates(config.prompts.template), histories.catalogue_hash)
    recipe = {"title_recipe": histories.title_recipe}
    card = read_card(adapter)
    check_card(card, adapter, {**base_identity(config.model), **recipe, **identity})
    read_blend(config, histories, card, adapter)
    address = free_address(config.serve)
    name, variable = config.name, key_variable(config.serve, os.environ)
    key = os.environ[variable] if variable else None
    if address.host not in _LOCAL and not key:
        say(
            f"No API key is set in {config.serve.api_key_variable}: anyone who can reach {address.host}:{address.port} "
            "can query the server and change the catalogue.",
            "yellow",
        )
    if as_json:
        shown = json.dumps({"url": address.url, "model": name, "pid": os.getpid()}, ensure_ascii=False)
    else:
        user_id, prompt = example(histories, config.prompts)
        shown = greeting(address.url, name, user_id, prompt, variable, has_page=config.serve.page)
    return Start(build, dtype, address, key, shown)


def free_address(settings: ServeSettings) -> Address:
    """Where to listen; port 0 becomes a free one. Raises ServerError for a port that is taken or a host not ours."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: after a restart it is free
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"Cannot listen at {host}:{port} ({error.strerror}): stop what listens there, or choose another "
                "serve.host or serve.port, such as --set serve.port=0 for any port that is free."
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


def _started(config: ServeConfig, start: Start, weights: Weights, log: Path, scratch: str, echo: bool) -> ServerProcess:
    """vLLM, which may still be loading."""
    # Not in the run folder: two servers of one run may have different settings, and a URL may hold a password.
    settings_file = Path(scratch) / "config.json"
    write_json(settings_file, config.model_dump(mode="json"))
    command = server_command(config, weights, start.dtype, start.build.device, start.address)
    environment = server_environment(config.serve, settings_file, os.environ)
    say(f"starting vLLM {start.build.version} ({start.build.device}, {start.dtype}); its log goes to {log}")
    return ServerProcess(command, environment, log, echo)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Signals that end a process do what Ctrl-C does; what is ignored, as under `nohup`, stays so."""
    asked = [one for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, signal.default_int_handler) for one in asked}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _wait_until_it_answers(process: ServerProcess, address: Address, timeout_s: float, log: Path, shown: bool) -> None:
    """Return when GET /health says 200. Raises ServerError where the server ends before, or takes too long."""
    with bar(rate=False, shown=shown) as progress:
        progress.add_task("loading the model", total=None)
        deadline = time.monotonic() + timeout_s
        while _status(address, "/health") != 200:
            if process.child.poll() is not None:
                raise _ended(process, log)
            if time.monotonic() > deadline:
                raise ServerError(
                    f"The server did not answer within {timeout_s:g} s: look into {log}, or allow more time in "
                    "serve.start_timeout_s."
                )
            time.sleep(0.2)


def _check_routes(start: Start, log: Path) -> None:
    """Raise ServerError where vLLM answers without our routes: it only logs that a plugin cannot be loaded."""
    if _status(start.address, "/v1/catalogues", Authorization=f"Bearer {start.key}") == 404:
        errors = re.findall(r" ERROR .*?\] +(.+)", log.read_text(encoding="utf-8", errors="replace"))
        reason = f" ({errors[-1]})" if errors else ""  # the last line of a traceback says what it was
        raise ServerError(f"vLLM could not load whereupon's routes{reason}; see {log}.")


def _status(address: Address, path: str, **headers: str) -> int | None:
    """What GET says; None where there is no answer."""
    connection = http.client.HTTPConnection(address.reachable_host, address.port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    return None


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
    code = process.child.wait()
    process.close()  # the last lines are read
    lines = list(process.tail)
    ours = [found[1] for line in lines if (found := re.search(r"\bwhereupon\.errors\.\w+: (.+)$", line))]
    if ours:
        return ServerError(ours[-1])
    for line in lines:
        say(line, "dim")
    return ServerError(f"vLLM ended by itself (exit code {code}); above are the last lines of {log}.")


def example(histories: Histories, settings: PromptSettings) -> tuple[str, str]:
    """The user with the most events, who shows something, and their last events as prompts show them, up to a title."""
    user = int(np.diff(histories.offset_U1).argmax())
    start, end = histories.offset_U1[user : user + 2].tolist()
    events = histories.events[max(start, end - LINES) : end]
    templates = load_templates(settings.template)
    features = features_of(settings, templates, histories.items)
    texts, index = templates.render("context.j2", context_frame(events, histories.location, features))
    preamble, _ = templates.render("preamble.j2", pl.DataFrame({"_row": [0]}))
    titles = histories.items["title"].gather(events["item_idx"]).to_list()
    lines = [f"{texts[i]} {title}" for i, title in zip(index, titles, strict=True)]
    prompt = "\n".join([*preamble[0].rstrip().splitlines(), *lines[:-1], texts[index[-1]]])
    return histories.user_ids[user], prompt


def greeting(
    url: str, name: str, user_id: str, prompt: str, key_variable: str | None, *, has_page: bool
) -> str:  # fmt: skip
    """The server's address, a ready `curl` and a ready Python snippet; `key_variable` holds the API key, if any."""
    page = f"; for a page to look at it, open {url}/ in a browser" if has_page else ""
    body = shlex.quote(json.dumps({"user_id": user_id, "k": 5}, ensure_ascii=False))
    header = f' -H "Authorization: Bearer ${key_variable}"' if key_variable else ""
    key, imports = (f'os.environ["{key_variable}"]', "import os\n        ") if key_variable else ('"none"', "")
    quoted_name, quoted_prompt = (json.dumps(text, ensure_ascii=False) for text in (name, prompt))
    return dedent(f"""\
        {name} is served at {url}{page}

        curl {url}/v1/recommendations{header} -H 'Content-Type: application/json' -d {body}

        {imports}from openai import OpenAI

        client = OpenAI(base_url="{url}/v1", api_key={key})
        answer = client.completions.create(
            model={quoted_name},
            prompt={quoted_prompt},
            n=5,
            extra_body={{"vllm_xargs": {{"catalogue": {quoted_name}}}}},
        )
        for choice in answer.choices:
            print(f"{{choice.probability:.3f}} {{choice.text}}")

        Ctrl-C stops.""")
