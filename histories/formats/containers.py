"""What a file is, by its first bytes, and files that are packed in others."""

import bz2
import errno
import gzip
import lzma
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, Literal

from ...errors import DataError, first_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Kind = Literal["text", "parquet", "arrow", "arrow stream", "excel"]

_PACKED: Final[dict[bytes, str]] = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
}  # fmt: skip
_TABLES: Final[dict[bytes, Kind]] = {
    b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow stream", b"\xd0\xcf\x11\xe0": "excel",
}  # fmt: skip
_FOREIGN: Final[dict[bytes, str]] = {
    b"FEA1": "a Feather file of version 1", b"SQLite format 3": "an SQLite database", b"\x89HDF": "an HDF5 file",
    b"ORC": "an ORC file", b"Obj\x01": "an Avro file", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive",
    b"%PDF": "a PDF document", b"<!DOCTYPE": "a web page", b"<html": "a web page", b"<?xml": "an XML document",
    b"\x80\x04": "a Python pickle", b"\x80\x05": "a Python pickle", b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself", b"PK\x05\x06": "an empty zip archive",
}  # fmt: skip
_TAR: Final = slice(257, 262)
_WORKBOOKS: Final = ("xl/workbook", "content.xml")  # of Excel and of OpenDocument


def unpacked(path: Path, folder: Path) -> tuple[Path, list[str]]:
    """`path`, or what is packed in it, written into `folder`; and the names of the packings, outermost first.

    Raises DataError: the file is cut off or damaged, or a zip archive does not hold exactly one file.
    """
    packings: list[str] = []
    name, file = path, path
    while packing := _packing(file):
        if packing == "zip" and (workbook := _is_workbook(file)) is not None:
            if workbook:
                break
            name = Path(_only_member(file, path))
        else:
            name = name.with_suffix("") if name.suffix.lower() in (".gz", ".bz2", ".xz", ".zst", ".zstd") else name
        target = folder / f"{len(packings)}-{name.name}"
        _unpack(file, target, packing, path)
        packings.append(packing)
        file = target
    return file, packings


def kind_of(file: Path, path: Path) -> Kind:
    """The kind of an unpacked file, called `path` in messages. Raises DataError: a kind that is not read."""
    with file.open("rb") as opened:
        head = opened.read(512)
    for magic, kind in _TABLES.items():
        if head.startswith(magic):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return "excel"
    found = next((name for magic, name in _FOREIGN.items() if head.lstrip().startswith(magic)), None)
    found = "a tar archive" if head[_TAR] == b"ustar" else found
    if found is None and path.suffix.lower() in (".parquet", ".pq"):
        found = "no Parquet file"
    if found:
        raise DataError(
            f"{path} should be a table but is {found}, so it cannot be read; convert it to CSV, JSON Lines or Parquet."
        )
    return "text"


def _packing(file: Path) -> str | None:
    with file.open("rb") as opened:
        head = opened.read(8)
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)


def _is_workbook(file: Path) -> bool | None:
    return any(name.startswith(_WORKBOOKS) for name in _members(file))


def _members(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{file} should be a zip archive but is damaged ({first_line(error)}); fetch it again."
        ) from None


def _only_member(file: Path, path: Path) -> str:
    members = [name for name in _members(file) if not Path(name).name.startswith(".") and "__MACOSX" not in name]
    if len(members) == 1:
        return members[0]
    some = ", ".join(members[:12])
    raise DataError(
        f"{path} should hold one file but holds {len(members)} ({some}); unpack it and name the one to read."
    )


def _unpack(file: Path, target: Path, packing: str, path: Path) -> None:
    try:
        with _opener(packing)(file) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
    except (
        EOFError, OSError, RuntimeError, ValueError, lzma.LZMAError, zlib.error, zstd.ZstdError, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
            raise
        reason = "is cut off" if isinstance(error, EOFError) else f"cannot be unpacked ({first_line(error)})"
        raise DataError(f"{path} should be packed by {packing} but {reason}; fetch or write it again.") from None


def _opener(packing: str) -> Callable[[Path], IO[bytes]]:
    openers: dict[str, Callable[..., Any]] = {
        "gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open, "zstd": zstd.open, "zip": _open_zip,
    }  # fmt: skip
    return openers[packing]


def _open_zip(file: Path) -> IO[bytes]:
    return zipfile.ZipFile(file).open(_only_member(file, file))
