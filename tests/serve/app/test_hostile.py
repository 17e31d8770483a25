"""No request, however made, ends in a traceback."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from whereupon.tests.serve.app.answers import refused
from whereupon.tests.serve.hostile import good_requests, hostile_requests

pytestmark = pytest.mark.usefixtures("vllm_imported")


@pytest.fixture
def errors() -> Iterator[list[logging.LogRecord]]:
    """What is logged with a traceback."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.addFilter(lambda record: bool(record.exc_info))
    handler.emit = found.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield found
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x", "should be a JSON object"), (7, "should be a JSON object"),
        ({"prompt": "x", "stream_options": {"include_usage": True}}, "stream"),
    ],
)  # fmt: skip
def test_body_of_a_completion_that_is_none_is_refused_in_a_sentence(start: Any, body: Any, said: str) -> None:
    assert said in refused(start().post("/v1/completions", json=body), 400)


def test_good_requests_are_answered(start: Any) -> None:
    """Else what is made of them would be refused for another reason."""
    server = start("serve.explain_seconds=0.01")
    for method, path, body in good_requests("run"):
        answer = server.request(method, path, json=body)
        assert answer.status_code == 200, (path, body, answer.text)


@pytest.mark.slow
def test_hostile_bodies_are_answered_without_a_failure(start: Any, errors: list[logging.LogRecord]) -> None:
    server = start("serve.explain_seconds=0.01")
    statuses: Counter[int] = Counter()
    failures = []
    for one in hostile_requests("run", seed=11, num=500):
        headers = {"Content-Type": one.content_type}
        answer = server.request(one.method, one.path, content=one.content, headers=headers)
        statuses[answer.status_code] += 1
        if answer.status_code >= 500 or "Traceback" in answer.text:
            failures.append((one.kind, one.method, one.path[:100], one.content[:300], answer.text[:300]))
    assert not failures
    assert statuses[400] > 200
    assert statuses[200] > 10, "some go on being fine, such as those with a missing key"
    assert not errors
    assert server.get("/health").status_code == 200
