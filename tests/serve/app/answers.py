"""What answers of the server are held to."""

from typing import Any


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == status
    assert "\n" not in error["message"]
    assert error["message"].endswith((".", "?"))
    return str(error["message"])
