"""An environment of Python apart from ours, for programs that need other versions of what we use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent


def pins(name: str) -> str:
    """The lines of bench/NAME_requirements.txt, without comments."""
    lines = (_HERE / f"{name}_requirements.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def side_python(side: Path, name: str) -> Path:
    """The interpreter of the environment in `side`/venv, which is made where it is not complete."""
    python, done = side / "venv" / "bin" / "python", side / "venv" / "installed.txt"
    if not done.is_file() or done.read_text(encoding="utf-8") != pins(name):
        _run([sys.executable, "-m", "venv", "--clear", str(side / "venv")])
        # torch by itself and first: some machines have a build of this version that a resolver would not look for.
        _run([str(python), "-m", "pip", "install", "--quiet", pins(name).splitlines()[0]])
        _run([str(python), "-m", "pip", "install", "--quiet", *pins(name).splitlines()])
        done.write_text(pins(name), encoding="utf-8")
    return python


def run_beside(python: Path, script: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start bench/SCRIPT with `folder` in that environment."""
    command = [str(python), str(_HERE / script), str(folder)]
    print("$", *command, flush=True)
    return subprocess.Popen(command)


def _run(command: list[str]) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, check=True)
