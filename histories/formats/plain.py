"""Text as polars can scan it: UTF-8, lines that end in a line feed, a separator of one byte, quotes doubled."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from .dialects import Dialect

_UNIT: Final = "\x1f"  # stands for separators of several characters
_BLOCK_CHARACTERS: Final = 1 << 22
_PLAIN: Final = ("utf-8", "utf_8", "utf8", "ascii", "us-ascii")


def plain_copy(file: Path, dialect: Dialect, folder: Path, *, is_damaged: bool = False) -> tuple[Path, Dialect]:
    """A plain text and its dialect: the file itself if it is one, else a copy in `folder`.

    Bytes that the encoding does not have become U+FFFD; `is_damaged` says that a copy is needed for these alone.
    """
    is_plain = dialect.encoding.lower() in _PLAIN and len(dialect.separator) == 1 and not is_damaged
    if is_plain and not dialect.is_escaped and not dialect.has_bare_returns:
        return file, dialect
    copy = folder / f"plain-{file.name}"
    with (
        file.open(encoding=dialect.encoding, errors="replace", newline="") as source,
        copy.open("w", encoding="utf-8", newline="") as out,
    ):
        for block in _blocks(source, "\r" if dialect.has_bare_returns else "\n"):
            out.write(_plain(block, dialect))
    separator = dialect.separator if len(dialect.separator) == 1 else _UNIT
    return copy, replace(dialect, encoding="utf-8", separator=separator)


def _blocks(source: IO[str], end: str) -> Iterator[str]:
    """The text in large pieces, each of whole lines."""
    rest = ""
    while block := source.read(_BLOCK_CHARACTERS):
        whole, found, tail = block.rpartition(end)
        if not found:
            rest += block
            continue
        yield rest + whole + found
        rest = tail
    yield rest


def _plain(text: str, dialect: Dialect) -> str:
    text = text.removeprefix("\ufeff")
    if dialect.has_bare_returns:
        text = text.replace("\r", "\n")
    if dialect.is_escaped:
        text = text.replace('\\"', '""')
    return text if len(dialect.separator) == 1 else text.replace(dialect.separator, _UNIT)
