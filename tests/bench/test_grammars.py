"""What the grammar back ends are given."""

import grammars
import pytest
from fresh import Outcome
from grammars import byte_tokens, compare


def test_tokens_of_a_byte_level_vocabulary_are_read_as_bytes() -> None:
    vocabulary = {"a": 0, "Ġb": 1, "Ċ": 2, "Ã©": 3, "é": 4, "あ": 5}
    assert byte_tokens(vocabulary) == {b"a": [0], b" b": [1], b"\n": [2], "é".encode(): [3], b"\xe9": [4]}


def test_back_end_that_gave_up_is_requested_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(_module: str, _function: str, arguments: dict, **_limits: float) -> Outcome:
        asked.append((arguments["backend"], arguments["num"]))
        if arguments["backend"] == "xgrammar" and arguments["num"] == 20:
            return Outcome(None, "did not finish within 1 s", 1.0, 50, 5)
        return Outcome({"compile_s": 0.5}, None, 1.0, 50, 2**20)

    monkeypatch.setattr(grammars, "fresh", answer)
    said: list[str] = []
    rows = compare("", [10, 20, 30], 1, limit_s=1, limit_gib=1, say=said.append)
    found = {(row["backend"], row["num_titles"]): row for row in rows}
    assert ("xgrammar", 30) not in asked
    assert len(asked) == 11
    assert found["xgrammar", 30]["problem"] == "not tried: did not finish within 1 s at 20"
    assert found["whereupon", 30] == {
        "backend": "whereupon", "num_titles": 30, "peak_added_mib": 1.0, "compile_s": 0.5
    }  # fmt: skip
    assert "xgrammar, 20 titles: did not finish within 1 s" in said
