"""Requests that come at once wait for each other, and one that is cancelled leaves nothing running."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from whereupon.tests.serve.app.answers import AT, completed, recommended, refused

pytestmark = pytest.mark.usefixtures("vllm_imported")


def test_requests_beyond_those_that_may_wait_are_refused_unread(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from whereupon.serve.app import plugin
    from whereupon.serve.app.service import Service

    server = start("serve.max_searches=1")
    limit = server.app.state.whereupon.limit
    ask = {"user_id": "p00", "context": {"at": AT}}
    complete = {"prompt": "Friday evening:", "vllm_xargs": {"catalogue": "run"}}
    with contextlib.ExitStack() as running:
        running.enter_context(server.portal.wrap_async_context_manager(limit.request()))
        waiting = server.portal.start_task_soon(limit.request().__aenter__)
        running.callback(waiting.cancel)
        while not limit.is_full:
            time.sleep(0.01)
        monkeypatch.setattr(plugin, "_token_ids", None)  # a refused request costs nothing
        monkeypatch.setattr(Service, "_question", None)
        for path, body in (("recommendations", ask), ("completions", complete)):
            answer = server.post(f"/v1/{path}", json=body)
            assert "ask again" in refused(answer, 429)
            assert answer.headers["Retry-After"] == "1"
    monkeypatch.undo()
    recommended(server)


def test_more_prompts_than_searches_wait_for_their_turn(start: Any) -> None:
    texts = [f"{day} evening:" for day in ("Monday", "Tuesday", "Friday", "Saturday", "Sunday")]
    server = start("serve.max_searches=2")
    engine, most, generate = server.engine, [], server.engine.generate

    async def counted(*args: Any) -> AsyncIterator[Any]:
        most.append(server.app.state.whereupon.limit._searches.num_taken)
        async for output in generate(*args):
            yield output

    engine.generate, engine.delay_s = counted, 0.01
    found = completed(server, prompt=texts, n=1)
    assert len(found["choices"]) == 5
    assert max(most) == 2


def test_requests_wait_for_each_other(start: Any) -> None:
    server = start("serve.max_searches=1")
    server.engine.delay_s = 0.01
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(recommended, server) for _ in range(2)]
    assert answers[0].result() == answers[1].result()


def test_cancelled_search_leaves_no_request_running(server: Any) -> None:
    from whereupon.serve.app.schemas import Context, RecommendationRequest

    async def leave() -> int:
        server.engine.delay_s = 10.0
        request = RecommendationRequest(user_id="p00", context=Context(at=AT))
        work = asyncio.create_task(server.app.state.whereupon.recommend(request.request(), None))
        while not server.engine.running:
            await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return int(server.engine.running)

    assert server.portal.call(leave) == 0
