"""What the server bench asks over HTTP, against a made-up model behind httpx."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from serve_contestants import ClientBeams, Completions, Greedy, OneToken, Whereupon
from serve_load import Answer
from serve_questions import Task

# Eight tokens; 0 ends a title.
TITLES = {"bar": [1, 2, 0], "bar none": [1, 3, 4, 0], "cafe": [5, 0], "diner": [6, 2, 0], "deli": [6, 3, 0]}
TASK = Task([], list(TITLES), list(TITLES.values()), [f"id of {title}" for title in TITLES])
PROMPT = [7, 7]
# By the tokens behind the prompt; tokens that are not named here have the rest.
MODEL = {
    (): {1: 0.4, 5: 0.1, 6: 0.2},
    (1,): {2: 0.1, 3: 0.4},
    (6,): {2: 0.25, 3: 0.15},
}

Reply = Callable[[dict[str, Any]], dict[str, Any]]


def _named_tokens(body: dict[str, Any]) -> dict[str, Any]:
    assert body["max_tokens"] == 1
    assert body["prompt"][:2] == PROMPT
    found = MODEL[tuple(body["prompt"][2:])]
    named = {f"token_id:{token}": math.log(p) for token, p in found.items()} | {"token_id:7": math.log(0.3)}
    return {"choices": [{"text": "?", "logprobs": {"top_logprobs": [named]}}]}


def _ask(contestant: Callable[[Completions], Any], reply: Reply) -> Answer:
    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert (body["model"], body["temperature"]) == ("m", 0)
        return httpx.Response(200, json=reply(body))

    async def ask() -> Answer:
        async with httpx.AsyncClient(base_url="http://test", transport=httpx.MockTransport(handle)) as http:
            answer: Answer = await contestant(Completions(http, "m"))(PROMPT)
            return answer

    return asyncio.run(ask())


def test_client_beams_are_all_titles_in_the_order_of_renormalised_probabilities() -> None:
    answer = _ask(lambda complete: ClientBeams(complete, TASK), _named_tokens)
    expected = {"bar none": 0.4 / 0.7 * 0.8, "diner": 0.2 / 0.7 * 0.625, "cafe": 0.1 / 0.7, "deli": 0.2 / 0.7 * 0.375,
                "bar": 0.4 / 0.7 * 0.2}  # fmt: skip
    order = sorted(expected, key=lambda title: -expected[title])
    assert answer.item_ids == [f"id of {title}" for title in order]
    assert answer.log_probs == pytest.approx([math.log(expected[title]) for title in order])
    assert (answer.num_calls, answer.num_lost) == (3, 0), "forced tokens cost no call"


def test_client_beams_of_width_two_keep_the_two_best_at_each_step() -> None:
    answer = _ask(lambda complete: ClientBeams(complete, TASK, width=2), _named_tokens)
    assert answer.item_ids == ["id of bar none", "id of diner"]


def test_children_that_the_server_does_not_name_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODEL, (), {1: 0.4, 6: 0.2})
    monkeypatch.setitem(MODEL, (6,), {})
    answer = _ask(lambda complete: ClientBeams(complete, TASK), _named_tokens)
    assert answer.item_ids == ["id of bar none", "id of bar"]
    assert (answer.num_calls, answer.num_lost) == (3, 3)


def test_title_of_another_item_counts_as_none() -> None:
    def reply(body: dict[str, Any]) -> dict[str, Any]:
        assert (body["n"], body["vllm_xargs"]) == (10, {"catalogue": "c"})
        rows = [("cafe", "id of cafe", 0.1), ("bar", "id of bar", 0.4), ("bar", "id of deli", 0.2)]
        return {"choices": [
            {"index": index, "text": text, "item_id": item_id, "probability": probability}
            for index, (text, item_id, probability) in zip((2, 0, 1), rows, strict=True)
        ]}  # fmt: skip

    answer = _ask(lambda complete: Whereupon(complete, TASK, "c"), reply)
    assert answer.item_ids == ["id of bar", None, "id of cafe"]
    assert answer.log_probs == pytest.approx([math.log(p) for p in (0.4, 0.2, 0.1)])


@pytest.mark.parametrize(("text", "item_id"), [(" deli", "id of deli"), (" delicious", None)])
def test_greedy_text_counts_if_it_is_a_title(text: str, item_id: str | None) -> None:
    def reply(body: dict[str, Any]) -> dict[str, Any]:
        assert (body["max_tokens"], body["stop"]) == (4, ["\n"])
        return {"choices": [{"text": text}]}

    assert _ask(lambda complete: Greedy(complete, TASK), reply).item_ids == [item_id]


def test_one_token_has_no_items() -> None:
    answer = _ask(OneToken, lambda body: {"choices": [{"text": "x" * body["max_tokens"]}]})
    assert answer.item_ids == []


def test_answer_that_is_none_raises() -> None:
    async def ask() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(503, text="closed"))
        async with httpx.AsyncClient(base_url="http://test", transport=transport) as http:
            await Completions(http, "m")(PROMPT)

    with pytest.raises(RuntimeError, match="answers 503: closed"):
        asyncio.run(ask())
