"""Requests that are refused get one sentence."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from whereupon.tests.serve.app.answers import AT, refused

pytestmark = pytest.mark.usefixtures("vllm_imported")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"user_id": "nobody"}, 404, "No events of user 'nobody'"),
        ({"user_id": None}, 400, "a user_id or events"),
        ({"k": 0}, 400, "k: Input should be greater than or equal to 1 (found 0)."),
        ({"k": 101}, 400, "between 1 and 100"),
        ({"context": {"at": "soon"}}, 400, "The time 'soon' cannot be read"),
        ({"context": {"at": AT, "weather": "nice"}}, 400, "the word 'nice'"),
        ({"context": {"at": AT, "weather": ""}}, 400, "context.weather"),
        ({"context": {"at": AT, "latitude": 1.0}}, 400, "both latitude and longitude"),
        ({"context": {"at": AT, "columns": {"mood": "sad"}}}, 400, "no column 'mood'"),
        ({"filters": {"category": ["Bar"]}}, 400, "category"),
        ({"filters": {"near_km": 1.0}}, 400, "needs a place"),
        ({"filters": {"only": ["castle"]}}, 400, "castle"),
        ({"colour": "red"}, 400, "colour: Extra inputs are not permitted"),
    ],
)
def test_bad_recommendation_requests_get_one_sentence(server: Any, body: Any, status: int, said: str) -> None:
    answer = server.post("/v1/recommendations", json={"user_id": "p00", "context": {"at": AT}} | body)
    assert said in refused(answer, status)


@pytest.mark.parametrize(
    ("body", "xargs", "status", "said"),
    [
        ({}, {"catalogue": "other"}, 404, "no catalogue 'other'"),
        ({"model": "gpt"}, {}, 404, "no model 'gpt'"),
        ({"n": 101}, {}, 400, "n should be between 1 and 100"),
        ({"n": 2, "stream": True}, {}, 400, "A stream gives a single choice"),
        ({"prompt": []}, {}, 400, "Expected a prompt"),
        ({"prompt": ["day"] * 65}, {}, 400, "At most 64 prompts"),
        ({"temperature": 101}, {}, 400, "temperature should be between 0 and 100"),
        ({"top_p": 0}, {}, 400, "top_p above 0"),
        (
            {"prompt": {"text": "day"}},
            {},
            400,
            "prompt: Input should be a valid list; or Input should be a valid string.",
        ),
        (
            {"prompt": [["a"]]},
            {},
            400,
            "prompt[0]: Input should be a valid integer; or Input should be a valid string.",
        ),
        (
            {"n": "many"},
            {},
            400,
            "n: Input should be a valid integer, unable to parse string as an integer (found 'many').",
        ),
        ({"logit_bias": {"a": "b"}}, {}, 400, "logit_bias.a: Input should be a valid number"),
        ({}, {"catalogue": {"run": {}}}, 400, "vllm_xargs.catalogue: Input should be a valid string; or "),
        ({"prompt": [999999]}, {}, 400, "token ids below"),
        ({"prompt": "day " * 500}, {}, 400, "shorten the prompt"),
        ({}, {"unseen": 1}, 400, "leave `unseen` out"),
        ({}, {"near": 3}, 400, "There is no filter 'near'"),
        ({}, {"max_expansions": "many"}, 400, "max_expansions should be"),
    ],
)
def test_bad_completion_requests_get_one_sentence(server: Any, body: Any, xargs: Any, status: int, said: str) -> None:
    sent = {"prompt": "Friday evening:", "vllm_xargs": {"catalogue": "run"} | xargs} | body
    assert said in refused(server.post("/v1/completions", json=sent), status)


def test_bodies_too_large_are_refused_unread(start: Any) -> None:
    server = start("serve.max_body_kib=2")
    body = json.dumps({"user_id": "p" * 5000})
    assert "at most 2,048 bytes" in refused(server.post("/v1/recommendations", content=body), 413)

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * 100

    assert "at most 2,048 bytes" in refused(server.post("/v1/recommendations", content=pieces()), 413)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/health", {"GET"}),
        ("/v1/recommendations", {"POST"}),
        ("/v1/catalogues/run", {"GET", "PUT"}),
        ("/v1/catalogues/run/items", {"POST", "PUT", "DELETE"}),
        ("/v1/events", {"POST"}),
        ("/v1/events/p00", {"GET"}),
    ],
)
def test_method_that_a_path_lacks_is_refused_with_those_that_it_has(server: Any, path: str, methods: set[str]) -> None:
    answer = server.patch(path)
    assert "PATCH" in refused(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == methods
