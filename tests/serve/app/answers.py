"""Requests to the server, and what its answers are held to."""

from typing import Any

AT = "2024-01-20T12:00:00"


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == status
    assert "\n" not in error["message"]
    assert error["message"].endswith((".", "?"))
    return str(error["message"])


def recommended(server: Any, **body: Any) -> Any:
    answer = server.post("/v1/recommendations", json={"user_id": "p00", "context": {"at": AT}} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def completed(server: Any, **body: Any) -> Any:
    xargs = {"catalogue": "run"} | body.pop("xargs", {})
    answer = server.post("/v1/completions", json={"prompt": "Friday evening:", "vllm_xargs": xargs} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()
