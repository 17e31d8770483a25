"""The real server, as `whereupon serve` starts it: vLLM's own routes work, and it ends as it should."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest
from safetensors.torch import load_file, save_file

from whereupon.config import load_config
from whereupon.recommend import Recommender
from whereupon.serve.launcher.command import TITLE_TOKENS
from whereupon.serve.launcher.merged import MANIFEST
from whereupon.tests.serve.processes import Server, serving


def _client(url: str, key: str = "none") -> Any:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key)


def test_health_and_model_are_there(server: str) -> None:
    with urllib.request.urlopen(f"{server}/health", timeout=60) as answer:
        assert answer.status == 200
    [model] = _client(server).models.list().data
    assert model.id == "town"
    assert model.max_model_len == 160 + TITLE_TOKENS


def test_plain_completion_is_what_transformers_continues_with(server: str, merged_run: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    [manifest] = merged_run.glob(f"served/*/{MANIFEST}")
    model = AutoModelForCausalLM.from_pretrained(manifest.parent)
    ids = AutoTokenizer.from_pretrained(manifest.parent)("Friday evening 7 mild rain:").input_ids
    with torch.inference_mode():
        expected = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12, pad_token_id=0)[0]
    answer = _client(server).completions.create(
        model="town", prompt=ids, max_tokens=12, temperature=0.0, extra_body={"return_token_ids": True}
    )
    assert answer.choices[0].token_ids == expected[len(ids) :].tolist()


def test_example_client_prints_the_five_titles_best_first(server: str, root: Path, merged_run: Path) -> None:
    from transformers import AutoTokenizer

    [manifest] = merged_run.glob(f"served/*/{MANIFEST}")
    ids = AutoTokenizer.from_pretrained(manifest.parent)("Friday evening 7 mild rain:").input_ids
    said = subprocess.run(
        [sys.executable, str(root / "examples" / "client.py")], input=json.dumps(ids), text=True,
        env=os.environ | {"OPENAI_BASE_URL": f"{server}/v1", "OPENAI_API_KEY": "none"}, capture_output=True, check=True,
    )  # fmt: skip
    line = re.compile(r"(\d)  +([\d.]+)%  (Bar One|Bar Two|Bar Three|City Park|Old Cinema)  \(\w+\)")
    rows = [found.groups() for one in said.stdout.splitlines() if (found := line.fullmatch(one))]
    assert [row[0] for row in rows] == list("12345")
    shares = [float(row[1]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert len({row[2] for row in rows}) == 5


def test_client_with_one_request_is_answered_while_the_many_of_another_are_refused(server: str) -> None:
    """200 connections of one client ask again and again, so that its queue is full all the time."""
    is_full, is_over = threading.Event(), threading.Event()

    def ask(connection: http.client.HTTPConnection) -> int:
        body = json.dumps({"user_id": "p00", "context": {"at": "2024-01-20T12:00:00"}})
        connection.request("POST", "/v1/recommendations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def connected(address: str) -> contextlib.closing[http.client.HTTPConnection]:
        host = server.removeprefix("http://")
        return contextlib.closing(http.client.HTTPConnection(host, source_address=(address, 0)))

    def ask_on() -> None:
        with connected("127.0.0.1") as connection:
            while not is_over.is_set():
                if ask(connection) == 429:
                    is_full.set()
                    time.sleep(0.1)

    greedy = [threading.Thread(target=ask_on) for _ in range(200)]
    for one in greedy:
        one.start()
    try:
        assert is_full.wait(60)
        with connected("127.0.0.2") as connection:
            assert [ask(connection) for _ in range(5)] == [200] * 5
    finally:
        is_over.set()
        for one in greedy:
            one.join()


def test_promoted_adapter_answers_as_transformers_do_with_it_and_rollback_as_before(
    served_town: Server, barely_trained: Path
) -> None:
    adapters = served_town.run / "adapters"
    shutil.copytree(adapters / "0001", adapters / "0002")
    weights = adapters / "0002" / "adapter_model.safetensors"
    save_file({name: -3 * values for name, values in load_file(weights).items()}, weights)
    before = _ranking(served_town.url)
    _post(served_town.url, "/v1/adapters/promote", {"version": "0002"})
    try:
        promoted = _ranking(served_town.url)
        config = load_config(barely_trained, [f"run={served_town.run}"])
        with Recommender.load(config) as recommender:
            expected = recommender.recommend("p00", k=5, at="2024-01-20T12:00:00")
    finally:
        _post(served_town.url, "/v1/adapters/rollback", None)
    assert promoted == ("0002", pytest.approx(dict(expected["item_id", "probability"].iter_rows()), abs=1e-4))
    assert max(abs(before[1][item] - p) for item, p in promoted[1].items()) > 0.01
    assert _ranking(served_town.url) == ("0001", pytest.approx(before[1], abs=1e-6))
    shutil.rmtree(adapters / "0002")


def _ranking(url: str) -> tuple[str, dict[str, float]]:
    """The version of the adapter that an answer names, and its probabilities."""
    asked = {"user_id": "p00", "k": 5, "context": {"at": "2024-01-20T12:00:00"}}
    answer = _post(url, "/v1/recommendations", asked)
    return answer["adapter"], {row["item_id"]: row["probability"] for row in answer["data"]}


def _post(url: str, path: str, body: Any) -> Any:
    data = b"" if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.mark.vllm
def test_interrupted_server_answers_what_runs_and_leaves_no_process(
    barely_trained: Path, merged_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "town"
    shutil.copytree(merged_run, run)
    key = {"WHEREUPON_API_KEY": "s3cret"}
    with serving(barely_trained, run, ["serve.plain_routes=true"], key) as served:
        with pytest.raises(openai.AuthenticationError):
            _client(served.url, "wrong").models.list()
        asked = _client(served.url, "s3cret").completions.create(
            model="town", prompt="Friday evening 7:", max_tokens=300, temperature=0.0, stream=True
        )
        pieces = iter(asked)
        next(pieces)
        ended: list[int] = []
        stopping = threading.Thread(target=lambda: ended.append(served.stop(signal.SIGINT)))
        stopping.start()
        last = [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1]
        stopping.join()
        assert last == "length", "the answer was cut off"
        assert ended == [0]
        assert served.left_after(10) == []
    log = (run / "serve.log").read_text()
    assert "s3cret" not in log
    assert "Friday" not in log
    assert "GET /v1/models" not in log, "an access log would hold user ids"
    assert json.loads((run / "run.json").read_text())["serve"]["command"][0] == "serve"
