"""What operators rely on: plain routes are closed, requests wait and work for a bounded time, and readiness says so."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from whereupon.errors import StoreError
from whereupon.tests.serve.app.answers import refused

pytestmark = pytest.mark.usefixtures("vllm_imported")
ASKED = {"user_id": "p00", "context": {"at": "2024-01-20T12:00:00"}}


def _with_chat(server: Any) -> Any:
    """The server with a route as vLLM's own."""

    @server.app.post("/v1/chat/completions")
    async def chat() -> str:
        return "anything"

    return server


def test_routes_that_know_no_catalogue_are_closed(start: Any) -> None:
    server = _with_chat(start())
    assert "serve.plain_routes" in refused(server.post("/v1/chat/completions", json={}), 404)
    assert "serve.plain_routes" in refused(server.post("/v1/completions", json={"prompt": "Friday:"}), 404)
    named = {"prompt": "Friday:", "vllm_xargs": {"catalogue": "run"}}
    assert server.post("/v1/completions", json=named).status_code == 200
    assert server.post("/v1/recommendations", json=ASKED).status_code == 200
    assert server.get("/openapi.json").status_code == 200
    assert server.get("/v1/catalogues/run").status_code == 200
    assert server.get("/v1/nowhere").status_code == 404
    assert "use POST" in refused(server.get("/v1/recommendations"), 405)


def test_routes_that_know_no_catalogue_are_opened_by_a_setting(start: Any) -> None:
    server = _with_chat(start("serve.plain_routes=true"))
    assert server.post("/v1/chat/completions", json={}).json() == "anything"


def test_request_that_waits_for_too_long_is_refused(start: Any) -> None:
    server = start("serve.max_searches=1", "serve.max_wait_s=0.05")
    server.engine.delay_s = 0.5
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.post, "/v1/recommendations", json=ASKED)
        while not server.engine.running:
            time.sleep(0.01)
        answer = server.post("/v1/recommendations", json=ASKED)
        assert "waited for 0.05 s" in refused(answer, 429)
        assert answer.headers["Retry-After"] == "1"
        assert first.result().status_code == 200
    server.engine.delay_s = 0.0
    assert server.post("/v1/recommendations", json=ASKED).status_code == 200


def test_request_that_works_for_too_long_is_given_up_and_leaves_its_turn(start: Any) -> None:
    server = start("serve.max_searches=1", "serve.request_timeout_s=0.3", "serve.explain_seconds=0")
    server.engine.delay_s = 60.0
    answer = server.post("/v1/recommendations", json=ASKED)
    assert "took more than 0.3 s" in refused(answer, 503)
    assert answer.headers["Retry-After"] == "5"
    assert server.engine.running == 0
    limit = server.app.state.whereupon.limit
    assert (limit._requests.num_taken, limit._searches.num_taken) == (0, 0)


def test_ready_is_who_would_answer_and_healthy_who_need_not_start_again(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start("serve.max_searches=1")
    service = server.app.state.whereupon
    assert server.get("/ready").status_code == 200
    service.limit._requests.waiting.push("somebody", None)
    assert "turns are taken" in refused(server.get("/ready"), 503)
    assert server.get("/health").status_code == 200
    service.limit._requests.waiting.pop()
    with monkeypatch.context() as patch:
        patch.setattr(service.recommender.store, "of_user", _no_store)
        assert "event store" in refused(server.get("/ready"), 503)
        assert server.get("/health").status_code == 200
    server.engine.is_alive = False
    assert "does not answer" in refused(server.get("/ready"), 503)


def _no_store(user_id: str, limit: int) -> None:
    raise StoreError("The database is gone; start it.")


def test_client_with_one_request_gets_a_place_and_a_turn_amid_the_many_of_another(start: Any) -> None:
    server = start("serve.max_searches=2", "serve.max_wait_s=60")
    limit, portal = server.app.state.whereupon.limit, server.portal
    holders = [portal.wrap_async_context_manager(limit.request()) for _ in range(2)]
    for holder in holders:
        holder.__enter__()
    others = [limit.request() for _ in range(3)]  # of a client that is not the test's address
    waiting = [portal.start_task_soon(one.__aenter__) for one in others]
    refusal = waiting[2].exception(timeout=60)
    assert "wait already" in str(refusal)
    with ThreadPoolExecutor(1) as pool:
        modest = pool.submit(server.post, "/v1/recommendations", json=ASKED)
        assert "wait already" in str(waiting[1].exception(timeout=60)), "its last one gave way"
        assert not modest.done()
        for holder in holders:  # the first turn is the other client's, the second the modest one's
            holder.__exit__(None, None, None)
        assert modest.result(timeout=60).status_code == 200
    waiting[0].result(timeout=60)
    portal.call(others[0].__aexit__, None, None, None)
    assert (limit._requests.num_taken, len(limit._requests.waiting)) == (0, 0)
