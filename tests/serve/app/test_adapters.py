"""Another version of the adapter is taken over while requests go on, by all servers of a run folder, and back."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from whereupon.config import Config
from whereupon.decode.adapters import current_name, previous_name, use_adapter
from whereupon.files import read_object, write_json
from whereupon.recommend.recommender import Recommender
from whereupon.serve.launcher.merged import merged_weights
from whereupon.tests.serve.app.answers import refused

pytestmark = pytest.mark.usefixtures("vllm_imported")
ASKED = {"user_id": "p00", "k": 5, "context": {"at": "2024-01-20T12:00:00"}}
PROMOTE, ROLLBACK = "/v1/adapters/promote", "/v1/adapters/rollback"
Copy = Callable[..., Config]


def with_versions(config: Config, **card: Any) -> Config:
    """The run with an adapter 0002 of other weights, and another card and another temperature if so given."""
    adapters = config.run / "adapters"
    shutil.copytree(adapters / "0001", adapters / "0002")
    file = adapters / "0002" / "adapter_model.safetensors"
    save_file({name: -3 * values for name, values in load_file(file).items()}, file)
    write_json(adapters / "0002" / "whereupon.json", read_object(adapters / "0002" / "whereupon.json") | card)
    return config


def expected(config: Config, name: str) -> dict[str, float]:
    """Probabilities of all items by transformers with a version of the adapter, which is then the current one."""
    use_adapter(config.run, name)
    with Recommender.load(config) as recommender:
        ranking = recommender.recommend("p00", k=5, at="2024-01-20T12:00:00")
    return dict(zip(ranking["item_id"], ranking["probability"], strict=True))


def asked(server: Any) -> tuple[str, dict[str, float]]:
    """The version that an answer names, and its probabilities."""
    answer = server.post("/v1/recommendations", json=ASKED)
    assert answer.status_code == 200, answer.text
    return _read(answer)


def _read(answer: Any) -> tuple[str, dict[str, float]]:
    rows = answer.json()["data"]
    return answer.json()["adapter"], {row["item_id"]: row["probability"] for row in rows}


def soon(server: Any, name: str, within_s: float = 60.0) -> float:
    """Seconds until an answer names a version."""
    began = time.monotonic()
    while asked(server)[0] != name:
        assert time.monotonic() - began < within_s, f"{name} is not served"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
def town(town_copy: Copy) -> Config:
    return with_versions(town_copy())


@pytest.fixture
def both(town: Config) -> dict[str, Any]:
    """What each version answers; the first is the current one, and none was before it."""
    answers = {name: expected(town, name) for name in ("0002", "0001")}
    (town.run / "adapters" / "PREVIOUS").unlink()
    assert max(abs(answers["0001"][item] - p) for item, p in answers["0002"].items()) > 0.01
    return answers


def test_promoted_version_answers_and_rollback_goes_back(
    start: Any, town: Config, both: dict[str, dict[str, float]]
) -> None:
    server = start(config=town)
    assert asked(server) == ("0001", pytest.approx(both["0001"], abs=1e-4))
    listed = server.get("/v1/adapters").json()
    assert (listed["served"], listed["previous"]) == ("0001", None)
    assert [one["version"] for one in listed["data"]] == ["0001", "0002"]
    assert "no other version" in refused(server.post(ROLLBACK), 404).lower()
    for name, request in [("0002", {"version": "2"}), ("0001", None), ("0002", None)]:
        answer = server.post(PROMOTE, json=request) if request else server.post(ROLLBACK)
        assert answer.status_code == 200, answer.text
        assert answer.json()["served"] == current_name(town.run) == name
        assert [one["version"] for one in answer.json()["data"] if one["served"] and one["current"]] == [name]
        assert asked(server) == (name, pytest.approx(both[name], abs=1e-4))
    assert previous_name(town.run) == "0001"
    named = {"prompt": "Friday:", "vllm_xargs": {"catalogue": "run"}}
    assert server.post("/v1/completions", json=named).json()["whereupon"]["adapter"] == "0002"


def test_request_at_work_ends_with_its_version_and_one_behind_it_gets_the_new_one(
    start: Any, town: Config, both: dict[str, dict[str, float]]
) -> None:
    server = start(config=town)
    with merged_weights(town, "float32", town.run / "adapters" / "0002"):  # so that the change itself is quick
        pass
    server.engine.delay_s = 0.4
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(server.post, "/v1/recommendations", json=ASKED)
        while not server.engine.running:
            time.sleep(0.01)
        promoting = pool.submit(server.post, PROMOTE, json={"version": "0002"})
        while server.app.state.whereupon.gate.is_open:
            assert not promoting.done()
            time.sleep(0.01)
        assert not first.done(), "it is at work while the server wants to change"
        behind = pool.submit(server.post, "/v1/recommendations", json=ASKED)
        assert server.get("/ready").status_code == 200, "a request would be answered, a little later"
        assert _read(first.result()) == ("0001", pytest.approx(both["0001"], abs=1e-4))
        assert _read(behind.result()) == ("0002", pytest.approx(both["0002"], abs=1e-4))
        assert promoting.result().status_code == 200


def test_servers_of_one_run_take_over_what_one_of_them_or_the_command_line_chose(
    start: Any, town: Config, both: dict[str, dict[str, float]]
) -> None:
    one, other = start(config=town), start(config=town)
    assert one.post(PROMOTE, json={"version": "0002"}).status_code == 200
    soon(other, "0002")
    assert asked(other)[1] == pytest.approx(both["0002"], abs=1e-4)
    assert other.post(ROLLBACK).status_code == 200
    soon(one, "0001")
    assert asked(one)[1] == pytest.approx(both["0001"], abs=1e-4)
    use_adapter(town.run, "0002")
    soon(one, "0002")
    soon(other, "0002")


def test_temperature_and_stack_go_with_the_version(start: Any, on_top_copy: Copy) -> None:
    config = with_versions(on_top_copy(), temperature=2.0)
    pools = config.run / "adapters" / "0002" / "pools.json"
    write_json(pools, _with_half_the_model(read_object(pools)))
    answers = {name: expected(config, name) for name in ("0002", "0001")}
    server = start(config=config)
    assert asked(server) == ("0001", pytest.approx(answers["0001"], abs=1e-4))
    assert server.post(PROMOTE, json={"version": "0002"}).status_code == 200
    assert asked(server) == ("0002", pytest.approx(answers["0002"], abs=1e-4))


def _with_half_the_model(pools: Any) -> Any:
    """The content of pools.json, with every temperature doubled."""
    if isinstance(pools, dict):
        return {name: 2 * v if name == "temperature" else _with_half_the_model(v) for name, v in pools.items()}
    return [_with_half_the_model(one) for one in pools] if isinstance(pools, list) else pools


def test_adapter_that_is_pooled_anew_is_read_again(start: Any, town: Config) -> None:
    server = start(config=town)
    before = asked(server)[1]
    pools = town.run / "adapters" / "0001" / "pools.json"
    write_json(pools, _with_half_the_model(read_object(pools)))
    deadline = time.monotonic() + 60
    while (now := asked(server)[1]) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert max(now.values()) < max(before.values()) - 0.01, "a higher temperature makes the best item less likely"


@pytest.mark.parametrize(
    ("card", "status", "words"),
    [
        ({"base_hash": "abc"}, 400, "base model"),
        ({"tokenizer": "abc"}, 400, "tokenizer"),
        ({"priors": "abcabcabc"}, 400, "rankers"),
        ({"complete": False}, 409, "has not ended"),
    ],
)
def test_version_that_does_not_belong_here_is_refused_and_nothing_changes(
    start: Any, town_copy: Copy, card: dict[str, Any], status: int, words: str
) -> None:
    config = with_versions(town_copy(), **card)
    server = start(config=config)
    assert words in refused(server.post(PROMOTE, json={"version": "0002"}), status)
    assert asked(server)[0] == current_name(config.run) == "0001"
    assert previous_name(config.run) is None


@pytest.mark.parametrize("version", ["0009", "../adapters/0001", "latest"])
def test_version_that_is_not_there_is_unknown(start: Any, town: Config, version: str) -> None:
    server = start(config=town)
    assert "0001, 0002" in refused(server.post(PROMOTE, json={"version": version}), 404)
    assert "version" in refused(server.post(PROMOTE, json={}), 400)
    assert server.get("/v1/adapters").json()["served"] == "0001"


def test_server_stays_with_its_version_where_the_run_folder_names_a_wrong_one(
    start: Any, town_copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_versions(town_copy(), base_hash="abc")
    server = start(config=config)
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.getLogger("whereupon.serve.app.adapters"), "handle", records.append)
    use_adapter(config.run, "0002")
    deadline = time.monotonic() + 60
    while not records and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # a second look says nothing new
    [said] = [record.getMessage() for record in records]
    assert "0001 stays in use" in said
    assert "base model" in said
    assert asked(server)[0] == "0001"
    use_adapter(config.run, "0001")
    assert server.post(PROMOTE, json={"version": "0001"}).status_code == 200


def test_weights_that_cannot_be_loaded_leave_those_before(
    start: Any, town: Config, both: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(config=town)
    assert server.post(PROMOTE, json={"version": "0002"}).status_code == 200
    loading, calls = server.engine.collective_rpc, []

    async def failing_once(method: str, args: tuple[str]) -> None:
        calls.append(args[0])
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        await loading(method, args)

    monkeypatch.setattr(server.engine, "collective_rpc", failing_once)
    assert "out of memory" in refused(server.post(ROLLBACK), 400)
    assert len(calls) == 2
    assert current_name(town.run) == "0002"
    assert asked(server) == ("0002", pytest.approx(both["0002"], abs=1e-4))


def test_version_chosen_while_the_server_starts_is_the_one_it_answers_with(
    start: Any, town: Config, both: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from whereupon.tests.serve.local_client import LocalClient

    with merged_weights(town, "float32") as weights:  # of 0001
        begin = LocalClient.__init__

        def loaded(self: LocalClient, config: Config) -> None:
            begin(self, config)
            self.model_config.model = str(weights.folder)
            use_adapter(town.run, "0002")

        monkeypatch.setattr(LocalClient, "__init__", loaded)
        server = start(config=town)
    assert asked(server) == ("0002", pytest.approx(both["0002"], abs=1e-4))


def test_weights_in_use_are_not_removed_by_another_start(start: Any, town: Config) -> None:
    server = start(config=town)
    assert server.post(PROMOTE, json={"version": "0002"}).status_code == 200
    folder = Path(server.engine.model_config.model)
    use_adapter(town.run, "0001")
    soon(server, "0001")
    with merged_weights(town, "float32"):
        assert not folder.exists(), "nobody uses them any more"
    assert json.loads((Path(server.engine.model_config.model) / "whereupon-merged.json").read_text())
    assert os.listdir(town.run / "served")
