"""Which encoding a text has, guessed from a sample of its bytes."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import charset_normalizer

SAMPLE_BYTES: Final = 1 << 20
_UTF_8: Final = "utf-8"
_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_CASED: Final = ("cp1251", "koi8_r", "cp1253")  # Cyrillic and Greek, distinguished by where their capitals stand
_OTHERS: Final = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1250", "cp1255", "cp1256", "cp1251", "cp1254"]
_HIGH_RUN: Final = re.compile(rb"[\x80-\xff]+")
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_MOST: Final = 0.9
_MOSTLY: Final = 0.6


def sniff_encoding(head: bytes, is_whole: bool) -> str:
    """The encoding of a file that begins with `head`: UTF-8 if it can be, UTF-16 and UTF-32 by their marks or zeros."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    written = head.rstrip(b"\0")  # without what a crash leaves behind the last line
    zeros = (written[0::2].count(0), written[1::2].count(0))
    if max(zeros) > len(written) // 5:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    try:
        codecs.getincrementaldecoder(_UTF_8)().decode(head, final=is_whole)
        return _UTF_8
    except UnicodeDecodeError:
        return legacy_encoding(_lines_with_high_bytes(head))


def legacy_encoding(sample: bytes) -> str:
    """The encoding of lines that are not ASCII; `utf-8` where most of what is not ASCII is valid UTF-8.

    Bytes above 127 that stand alone among ASCII letters are accents of a Western text (cp1252). Runs of them are
    words of another alphabet: one whose capitals begin words, else what charset-normalizer finds best.
    """
    lenient = sample.decode(_UTF_8, errors="replace")
    if sum(character > "\x7f" and character != "\ufffd" for character in lenient) > lenient.count("\ufffd"):
        return _UTF_8
    runs = _HIGH_RUN.findall(sample)
    if sum(len(run) for run in runs if len(run) > 1) <= sum(len(run) == 1 for run in runs):
        return _western(sample)
    for encoding in _CASED:
        if _is_well_cased(sample, encoding):
            return encoding
    best = charset_normalizer.from_bytes(sample, cp_isolation=_OTHERS).best()
    return best.encoding if best else _western(sample)


def whole_file_encoding(file: Path) -> str:
    """The encoding of a file whose first part looked like UTF-8 and whose rest is not."""
    sample, size = [], 0
    for block in _blocks(file):
        lines = _lines_with_high_bytes(block)
        sample.append(lines)
        size += len(lines)
        if size > SAMPLE_BYTES:
            break
    return legacy_encoding(b"".join(sample))


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(SAMPLE_BYTES):
            yield block + opened.readline()


def _lines_with_high_bytes(text: bytes) -> bytes:
    return b"\n".join(re.findall(rb"[^\r\n]*[\x80-\xff][^\r\n]*", text))[: 1 << 16]


def _western(sample: bytes) -> str:
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _is_well_cased(sample: bytes, encoding: str) -> bool:
    """Whether what is not ASCII is mostly words that have capitals at their beginning only, or throughout."""
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    pure = [word for word in words if not re.search("[A-Za-z]", word)]  # no word mixes alphabets
    cased = [word for word in pure if word.islower() or word.isupper() or word.istitle()]
    num_high = sum(character > "\x7f" for character in text)
    return sum(map(len, cased)) >= _MOSTLY * num_high and len(cased) >= _MOST * len(words) > 0
