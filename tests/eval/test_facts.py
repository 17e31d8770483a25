"""The command that made a ranking can be typed again."""

from pathlib import Path

import pytest

from whereupon.eval.facts import noted_command, typed_command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/usr/bin/whereupon", "whereupon 'a b'"),
        (str(ROOT / "cli.py"), "whereupon 'a b'"),
        (str(ROOT / "bench" / "fusion_nyc.py"), "python bench/fusion_nyc.py 'a b'"),
        ("/elsewhere/mine.py", "python mine.py 'a b'"),
    ],
)
def test_script_is_called_by_its_path_in_the_repository(
    program: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program, "a b"])
    assert typed_command() == command


def test_script_noted_by_its_name_alone_is_repaired() -> None:
    assert noted_command({"command": "fusion_nyc.py --fused rrf"}) == "python bench/fusion_nyc.py --fused rrf"
    assert noted_command({"command": "mine.py"}) == "mine.py"
    assert noted_command({"command": ["whereupon", "a b"]}) == "whereupon 'a b'"
    assert noted_command({}) == ""
