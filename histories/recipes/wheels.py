"""Files that a package on PyPI carries: taken out of a wheel that is downloaded and never installed."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from ...console import bar
from ...errors import DataError
from ...files import atomic_path, cache_folder, sha256_file


@dataclass(frozen=True)
class Wheel:
    """A wheel and the files needed from it.

    Attributes:
        requirement: what pip is to download, such as "recbole==1.2.1".
        num_bytes: size of the wheel, which progress is measured by.
        members: path in the wheel -> SHA-256 of the file.
    """

    requirement: str
    num_bytes: int
    members: Mapping[str, str]


def cached_files(name: str, wheel: Wheel, cache_dir: Path | None = None) -> Path:
    """The folder with the files of a wheel, downloaded unless they are there and whole; errors as `fetch_files`.

    `cache_dir` is where such folders are kept; by default `files.cache_folder("data")`.
    """
    folder = (cache_dir or cache_folder("data")) / name
    files = {folder / Path(path).name: digest for path, digest in wheel.members.items()}
    if all(file.is_file() and sha256_file(file) == digest for file, digest in files.items()):
        return folder
    with atomic_path(folder) as unfinished, bar(rate=False) as progress:
        task = progress.add_task(f"downloading {wheel.requirement}", total=1.0)
        unfinished.mkdir()
        remedy = "check the network, or say in histories.path where the files are"
        fetch_files(wheel, unfinished, lambda share: progress.update(task, completed=share), remedy=remedy)
    return folder


def fetch_files(
    wheel: Wheel, folder: Path, progress: Callable[[float], None], *, remedy: str = "check the network and run it again"
) -> None:
    """Download a wheel by pip and write the needed files to `folder`, which exists.

    `progress` is called with the share of bytes that is downloaded, 0 to 1; `remedy` is what the user should do when
    pip cannot download.

    Raises DataError: pip is missing or cannot download, or the wheel does not hold these very files.
    """
    with tempfile.TemporaryDirectory(prefix="whereupon-") as scratch:
        file = _download(wheel, Path(scratch), progress, remedy)
        for path, digest in wheel.members.items():
            _unpack(file, path, digest, folder)


def _download(wheel: Wheel, scratch: Path, progress: Callable[[float], None], remedy: str) -> Path:
    """The wheel, by pip, so that proxies, mirrors and certificates are those the user has set up already."""
    # Not importlib.util.find_spec: setuptools hooks into it and warns where `distutils` is imported already.
    if PathFinder.find_spec("pip") is None:
        raise DataError(f"Downloading {wheel.requirement} needs pip; run `python -m ensurepip`.")
    target, log = scratch / "wheel", scratch / "pip.log"
    # Without dependencies: only files inside are needed.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-cache-dir", "--only-binary=:all:", "--dest", str(target), wheel.requirement]
    with log.open("wb") as output:
        # pip downloads into TMPDIR before it moves the file to its place, so its growth shows there.
        process = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(scratch)}, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                progress(min(1.0, _largest(scratch) / wheel.num_bytes))
                time.sleep(0.2)
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
    wheels = list(target.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR:")]
        reason = said[-1].removeprefix("ERROR:").strip() if said else f"exit code {process.returncode}"
        raise DataError(f"pip could not download {wheel.requirement} ({reason}); {remedy}.")
    return wheels[0]


def _largest(folder: Path) -> int:
    """Bytes of the largest file below `folder`, some of which may vanish while looking."""
    sizes = [0]
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            sizes.append(file.stat().st_size)
    return max(sizes)


def _unpack(wheel: Path, path: str, digest: str, folder: Path) -> None:
    file = folder / Path(path).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(path) as packed, file.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{wheel.name} is not the wheel that was expected ({error}); run the same again.") from None
    found = sha256_file(file)
    if found != digest:
        raise DataError(f"{path} in {wheel.name} should have SHA-256 {digest} but has {found}; run the same again.")
