"""The arguments and the environment that vLLM is started with, and what is printed once it answers."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from whereupon.config import Config
from whereupon.decode.edge_logits import PROCESSOR
from whereupon.decode.settings import ModelSettings
from whereupon.errors import ServerError
from whereupon.histories import read_histories
from whereupon.prompts import PromptSettings
from whereupon.serve.launcher.command import (
    ADMIN_KEY,
    QUERY_KEY,
    TITLE_TOKENS,
    Address,
    cpu_environment,
    own_cpus,
    served_dtype,
    server_command,
    server_environment,
)
from whereupon.serve.launcher.launch import example, greeting
from whereupon.serve.launcher.merged import Weights
from whereupon.serve.settings import ServeSettings

WEIGHTS = Weights(Path("/run/served/ab12"), 7, 1024)
HOME = Address("127.0.0.1", 8123)


def _options(command: list[str]) -> dict[str, str]:
    """Values of `--name value` and `--name=value`; "" for a flag."""
    parts = [part for argument in command[3:] for part in argument.split("=", 1)]
    following = [*parts[1:], "--"]
    return {
        name: "" if value.startswith("--") else value
        for name, value in zip(parts, following, strict=True)
        if name.startswith("--")
    }


def test_command_on_a_cpu_says_all_that_bites(town_config: Callable[..., Config]) -> None:
    config = town_config("serve.kv_cache_gib=0.5")
    command = server_command(config, WEIGHTS, "float32", "cpu", HOME)
    assert command[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    assert _options(command) == {
        "--model": "/run/served/ab12", "--served-model-name": "town", "--host": "127.0.0.1", "--port": "8123",
        "--dtype": "float32", "--max-model-len": str(160 + TITLE_TOKENS), "--enable-prefix-caching": "",
        "--logits-processors": PROCESSOR,
        "--logprobs-mode": "processed_logprobs", "--max-logprobs": "-1", "--generation-config": "vllm",
        "--worker-extension-cls": "whereupon.serve.app.worker.TakingWeights",
        "--enforce-eager": "", "--block-size": "32", "--kv-cache-memory-bytes": str(2**29),
        "--disable-uvicorn-access-log": "",
    }  # fmt: skip


def test_command_on_a_gpu_leaves_kernels_and_memory_to_vllm(town_config: Callable[..., Config]) -> None:
    options = _options(server_command(town_config(), WEIGHTS, "bfloat16", "cuda", HOME))
    assert options["--dtype"] == "bfloat16"
    assert not {"--enforce-eager", "--block-size", "--kv-cache-memory-bytes"} & options.keys()
    assert {"--logits-processors", "--generation-config", "--enable-prefix-caching"} <= options.keys()


@pytest.mark.parametrize(("max_tokens", "expected"), [(300, "300"), (1024, "416"), (None, "416")])
def test_longest_text_is_budget_and_title_as_far_as_the_model_sees(
    town_config: Callable[..., Config], max_tokens: int | None, expected: str
) -> None:
    command = server_command(town_config(), Weights(Path("w"), 7, max_tokens), "float32", "cpu", HOME)
    assert _options(command)["--max-model-len"] == expected


def test_requests_are_logged_only_on_request(town_config: Callable[..., Config]) -> None:
    asked = _options(server_command(town_config("serve.log_requests=true"), WEIGHTS, "float32", "cpu", HOME))
    assert "--enable-log-requests" in asked
    assert "--disable-uvicorn-access-log" not in asked


@pytest.mark.parametrize(
    ("url", "protocol"), [("http://it:4317", "grpc"), ("http://it:4318/v1/traces", "http/protobuf")]
)
def test_traces_go_to_the_collector_in_the_way_that_its_url_says(
    town_config: Callable[..., Config], url: str, protocol: str
) -> None:
    config = town_config(f"serve.traces={url}")
    inherited = {"PATH": "/bin", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}
    made = server_environment(config.serve, Path("it.json"), inherited)
    assert made["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == protocol
    assert made["OTEL_SERVICE_NAME"] == "whereupon"
    options = _options(server_command(config, WEIGHTS, "float32", "cpu", HOME))
    assert options["--otlp-traces-endpoint"] == url


def test_api_key_goes_by_the_environment_and_not_by_arguments(
    town_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "s3cret")
    config = town_config("serve.api_key_variable=SHOP_KEY")
    assert not any("s3cret" in part for part in server_command(config, WEIGHTS, "float32", "cpu", HOME))
    assert server_environment(config.serve, Path("c.json"), os.environ)[QUERY_KEY] == "s3cret"


def test_admin_key_goes_the_same_way_and_vllm_is_given_neither() -> None:
    given = {"WHEREUPON_API_KEY": "ask", "WHEREUPON_ADMIN_KEY": "admin", "VLLM_API_KEY": "old"}
    made = server_environment(ServeSettings(), Path("c.json"), given)
    assert (made[QUERY_KEY], made[ADMIN_KEY]) == ("ask", "admin")
    assert "VLLM_API_KEY" not in made
    none = server_environment(ServeSettings(), Path("c.json"), {QUERY_KEY: "left over", ADMIN_KEY: "left over"})
    assert not {QUERY_KEY, ADMIN_KEY} & none.keys()


def test_environment_names_plugin_and_settings_and_asks_no_one() -> None:
    given = {"PATH": "/bin", "VLLM_CPU_KVCACHE_SPACE": "40", "WHEREUPON_API_KEY": ""}
    made = server_environment(ServeSettings(), Path("/tmp/config.json"), given)
    assert made == {
        "PATH": "/bin", "WHEREUPON_API_KEY": "", "VLLM_PLUGINS": "whereupon", "WHEREUPON_SERVE": "/tmp/config.json",
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", **cpu_environment(own_cpus()),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cpus", "bound"), [([0, 1], "0,1"), ([2, 5, 6, 7], "2,5,6,7"), ([0, 1, 2, 3, 4], None), ([], None)]
)
def test_few_cpus_all_work_for_the_model(cpus: list[int], bound: str | None) -> None:
    assert cpu_environment(cpus).get("VLLM_CPU_OMP_THREADS_BIND") == bound


def test_binding_that_the_user_chose_stands() -> None:
    given = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    assert (
        server_environment(ServeSettings(), Path("c"), given)
        == server_environment(ServeSettings(), Path("c"), {}) | given
    )


def test_key_that_was_set_for_vllm_itself_still_guards() -> None:
    assert server_environment(ServeSettings(), Path("c"), {"VLLM_API_KEY": "k"})[QUERY_KEY] == "k"


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [("auto", "cpu", "float32"), ("float32", "cuda", "float32"), ("bfloat16", "cpu", "bfloat16")],
)
def test_number_format_is_the_models_or_fits_the_device(dtype: Any, device: Any, expected: str) -> None:
    assert served_dtype(ModelSettings(dtype=dtype, device="auto"), device) == expected


def test_vllm_for_another_device_is_refused() -> None:
    with pytest.raises(
        ServerError, match=r"model\.device is cpu but the vLLM that is installed runs on cuda only: set"
    ):
        served_dtype(ModelSettings(device="cpu"), "cuda")


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::1", "http://[::1]:80"),
     ("shop.example", "http://shop.example:80")],
)  # fmt: skip
def test_url_is_one_that_a_client_can_use(host: str, url: str) -> None:
    assert Address(host, 80).url == url


# What is printed


def test_example_prompt_shows_the_last_events_as_prompts_do(merged_run: Path) -> None:
    histories = read_histories(merged_run)
    user_id, prompt = example(histories, PromptSettings())
    num_events_U = np.diff(histories.offset_U1)
    assert num_events_U[histories.user_ids.index(user_id)] == num_events_U.max()
    *said, asked = prompt.splitlines()
    titles = "|".join(histories.items["title"])
    line = r"\w+day (night|morning|afternoon|evening) \d+.*:"
    assert len(said) == 3
    assert said[0] == "What one person chose, oldest first."
    assert all(re.fullmatch(rf"{line} ({titles})", one) for one in said[1:])
    assert re.fullmatch(line, asked)


def test_greeting_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = greeting("http://127.0.0.1:80", "town's", 'o\'hara "x"', 'Friday "7":\n', None, has_page=False)
    curl = next(line for line in text.splitlines() if line.startswith("curl"))
    echoed = subprocess.run(["/bin/sh", "-c", f"printf '%s\\n' {curl}"], capture_output=True, text=True, check=True)
    words = echoed.stdout.splitlines()
    assert "browser" not in text
    assert words[:2] == ["curl", "http://127.0.0.1:80/v1/recommendations"]
    assert json.loads(words[-1]) == {"user_id": 'o\'hara "x"', "k": 5}
    snippet = text[text.index("from openai") : text.index("Ctrl-C")]
    asked: dict[str, Any] = {}
    _run_snippet(snippet, asked)
    assert asked == {
        "base_url": "http://127.0.0.1:80/v1", "api_key": "none", "model": "town's", "prompt": 'Friday "7":\n', "n": 5,
        "extra_body": {"vllm_xargs": {"catalogue": "town's"}},
    }  # fmt: skip


def test_greeting_names_the_variable_of_the_key_and_not_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "s3cret")
    text = greeting("http://h:80", "town", "p00", "x", "SHOP_KEY", has_page=True)
    assert "s3cret" not in text
    assert "open http://h:80/ in a browser" in text
    assert '-H "Authorization: Bearer $SHOP_KEY"' in text
    asked: dict[str, Any] = {}
    _run_snippet(text[text.index("import os") : text.index("Ctrl-C")], asked)
    assert asked["api_key"] == "s3cret"


def _run_snippet(snippet: str, asked: dict[str, Any]) -> None:
    """Run it with a client that notes its requests and answers with two choices."""

    class Client:
        def __init__(self, **how: Any) -> None:
            asked.update(how)
            self.completions = self

        def create(self, **what: Any) -> Any:
            asked.update(what)
            choice = {"index": 0, "text": "Bar One", "finish_reason": "stop", "logprobs": None, "probability": 0.25}
            return openai.types.Completion.model_validate(
                {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice, choice]}
            )

    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(openai, "OpenAI", Client)
        exec(compile(snippet, "snippet", "exec"), {})
    assert printed.getvalue() == "0.250 Bar One\n" * 2
