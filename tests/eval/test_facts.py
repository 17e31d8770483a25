"""The command that made a ranking can be typed again."""

from pathlib import Path

import pytest

from whereupon.eval.rankings import typed_command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/usr/bin/whereupon", "whereupon 'a b'"),
        (str(ROOT / "cli.py"), "whereupon 'a b'"),
        (str(ROOT / "bench" / "exact_nyc.py"), "python bench/exact_nyc.py 'a b'"),
        ("/elsewhere/mine.py", "python mine.py 'a b'"),
    ],
)
def test_script_is_called_by_its_path_in_the_repository(
    program: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program, "a b"])
    assert typed_command() == command
