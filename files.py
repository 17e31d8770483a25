"""Files that are either complete or absent, and the fingerprints that say what they were made from."""

import contextlib
import errno
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .errors import DataError, WhereuponError

PATIENCE_S = 1.0  # a process that waits longer for another says so
_FAST_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx", "bf16", "sve")  # beginnings of names in /proc/cpuinfo
_FULL_BYTES = 1 << 16  # a writer of blocks fails before the last byte of a disk is used


@dataclass(frozen=True)
class NameOrFolder:
    """Marks a setting of text that is one of some names, or a folder; see `config.load_config`.

    `others`: whether it may be something else too, such as the id of a model in a hub.
    """

    names: frozenset[str]
    others: bool = False


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path that does not exist yet, beside `path`; on success it is flushed to disk and renamed to `path`.

    The caller may create a file or a directory there. Parent folders are made. If the body raises, what was written is
    removed and `path` stays as it was. A directory replaces an existing directory, though not in one step. Raises
    FileNotFoundError: the body ended without creating anything. DataError: a file was made, and `path` is a folder.
    OSError with ENOSPC and the name of `path`: the disk is full.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    # A private folder rather than a private name, so that the suffix survives: writers choose their format by it.
    try:
        private = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        error.filename = str(final)  # the name that the user knows
        raise
    try:
        temporary = private / final.name
        yield temporary
        _flush(temporary)
        if temporary.is_dir():
            _put_folder(temporary, final, private)
        elif final.is_dir():
            raise DataError(f"{final} is a folder; name a file.")
        else:
            os.replace(temporary, final)
        _flush_folder(final.parent)
    except Exception as error:
        if _is_of_full_disk(error, private):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(final)) from error
        raise
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _put_folder(temporary: Path, final: Path, private: Path) -> None:
    """Rename a folder to `final`, in place of any folder there, also while another process does the same."""
    for number in itertools.count():
        if final.is_dir():
            with contextlib.suppress(FileNotFoundError):  # the other one was faster
                os.replace(final, private / f"replaced-{number}")
        try:
            os.replace(temporary, final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return


@contextlib.contextmanager
def one_at_a_time(lock_file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Around work that one process may do at a time. Another waits, and calls `waiting` after `PATIENCE_S` seconds.

    The lock ends with its process, however that ends; the file and its folder stay.
    """
    import fcntl  # not on Windows

    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("ab") as lock:
        patience = threading.Timer(PATIENCE_S, waiting)
        patience.daemon = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            patience.start()
            fcntl.flock(lock, fcntl.LOCK_EX)
        finally:
            patience.cancel()
        yield


def _is_of_full_disk(error: Exception, folder: Path) -> bool:
    """Whether a write into `folder` failed as no space was left, and the error does not name a file yet.

    Free space decides where the words do not: polars says "transport error", torch "unexpected pos".
    """
    if isinstance(error, WhereuponError) or getattr(error, "filename", None):
        return False
    if os.strerror(errno.ENOSPC) in str(error):
        return True
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _FULL_BYTES
    return False


def cache_folder(kind: str) -> Path:
    """Where downloads of one kind are kept: a folder of $WHEREUPON_CACHE, else of `whereupon` in the user's cache."""
    if own := os.environ.get("WHEREUPON_CACHE"):
        return Path(own).expanduser() / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whereupon" / kind


def path_as_text(value: Any) -> Any:
    """A path as its text, anything else as it is: for settings that may be a name or a folder."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented JSON, atomically. Paths are written as text; NaN and infinities are refused."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False, default=_as_json)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file. Raises DataError: the file is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} should be JSON but cannot be read ({error}); write it again.") from None


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises DataError: it is missing, is no JSON, or holds something else."""
    found = read_json(path)
    if not isinstance(found, dict):
        kinds = {list: "a list", str: "text", type(None): "null", bool: "true or false"}
        raise DataError(
            f"{path} should be JSON of an object, found {kinds.get(type(found), 'a number')}; write it again."
        )
    return found


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in `bytes` and `sha256` of each file of a folder, by name."""
    return {file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)} for file in sorted(folder.iterdir())}


def versions() -> dict[str, str]:
    """What a result was computed with: Python, machine, processor, versions of installed packages, any git revision.

    `cpu_flags` names those instructions of the processor that decide how fast a model computes, such as `avx2
    avx512_bf16`; it is absent where the system does not list them.
    """
    found = {"whereupon": __version__, "python": platform.python_version(), "platform": platform.platform()}
    found |= {"cpu": _cpu_field("model name") or platform.processor() or platform.machine()}
    found["cpu_count"] = str(os.cpu_count() or 1)
    flags = (_cpu_field("flags") or _cpu_field("Features")).split()
    if fast := [flag for flag in flags if flag.startswith(_FAST_FLAGS)]:
        found["cpu_flags"] = " ".join(fast)
    for package in ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy", "polars"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    revision = _git_revision()
    return found | ({"git": revision} if revision else {})


def _git_revision() -> str | None:
    """Commit of the source tree that this package runs from, with `+` if it was changed since; None outside of git."""
    here = Path(__file__).resolve().parent
    if not (here / ".git").exists():  # an installed package inside somebody else's repository is not that repository
        return None
    try:
        revision = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _cpu_field(name: str) -> str:
    """What Linux says of the first core; empty where it says nothing."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


def _as_json(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return str(value)
    if hasattr(value, "item"):  # a NumPy or torch scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _flush(path: Path) -> None:
    if path.is_dir():
        for child in path.rglob("*"):
            if child.is_file():
                _flush(child)
        _flush_folder(path)
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder; the rename is still atomic
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
