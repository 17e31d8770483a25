"""Is the package a library? Builds the wheel, installs it into a fresh environment and runs `examples/shop.py` there.

    make bench-library [ARGS="--torch torch==2.13.0"]

The example runs outside of this repository, with nothing of it but the wheel: prepare, fine-tune, evaluate, recommend.
Bars: it ends without an error, ranks soup first at -3 C and ice cream first at 28 C, and `import whereupon` is quick.
Takes some ten minutes on two cores, most of it for installing and training.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from record import bar, record

ROOT = Path(__file__).resolve().parents[1]
IMPORT = "import time; t = time.perf_counter(); import whereupon; print(time.perf_counter() - t)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default="torch==2.13.0", help="what pip installs as torch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whereupon-library-") as scratch:
        folder = Path(scratch)
        python = _environment(folder, options.torch)
        import_s = float(_run([python, "-c", IMPORT], folder))
        _run([folder / "venv" / "bin" / "whereupon", "model", "fetch", "smollm2-135m"], folder)
        example = folder / "shop.py"
        example.write_text((ROOT / "examples" / "shop.py").read_text())
        printed = _run([python, example], folder)
        print(printed)
        cold, warm = _first_titles(printed)
    return record("library", 7, [
        bar("the example ends without an error", 1, "1", True),
        bar("soup is first on a cold evening", cold == "Hot Soup", "1", cold == "Hot Soup"),
        bar("ice cream is first on a warm evening", warm == "Ice Cream", "1", warm == "Ice Cream"),
        bar("seconds of `import whereupon`", import_s, "below 0.3", import_s < 0.3),
    ], output=printed.splitlines())  # fmt: skip


def _environment(folder: Path, torch: str) -> Path:
    """The interpreter of a fresh environment with the wheel of this checkout."""
    _run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", folder, ROOT], folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    _run([python, "-m", "pip", "install", "--quiet", torch], folder)
    _run([python, "-m", "pip", "install", "--quiet", f"{wheel}[train]"], folder)
    return python


def _run(command: list[str | Path], folder: Path) -> str:
    """What a command prints on stdout; raises CalledProcessError where it fails."""
    print("$", *command, file=sys.stderr)
    done = subprocess.run(list(map(str, command)), cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def _first_titles(printed: str) -> tuple[str, str]:
    """The titles of rank 1 for ann: at -3 C, and at 28 C."""
    first = re.findall(r"ann\s*┆ 1\s*┆ \S+\s*┆ (.+?)\s*┆", printed)
    return first[0], first[1]


if __name__ == "__main__":
    sys.exit(main())
