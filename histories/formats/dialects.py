"""How a text is laid out as a table: encoding, separator, quotes, header. Sniffed from its first megabyte."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ...errors import DataError
from ..settings import TableSettings
from .encodings import SAMPLE_BYTES, sniff_encoding

SEPARATORS: Final = {"\t": "tab", "::": "'::'", ";": "semicolon", ",": "comma", "|": "pipe", " ": "space"}
_SNIFFED: Final = ("\t", "::", ";", ",", "|")  # of several that fit, the earlier one: the later stand in cells as well
ATOMIC_NAME: Final = re.compile(r".+:(token|token_seq|float|float_seq)")
_SEP_LINE: Final = re.compile(r'"?sep=(.+?)"?', re.IGNORECASE)
_NUM_LINES: Final = 1000
_MOST: Final = 0.9
_NUMBER: Final = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_BESIDE_QUOTED: Final = re.compile(r'[\w\\]\0|\0[\w\\]|"')  # a quoted cell, written \0, is between separators
_TIME: Final = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}.*|\d{1,4}[./]\d{1,2}[./]\d{1,4}.*|[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ .*"
)


@dataclass(frozen=True)
class Dialect:
    """How the lines of a text are to be read.

    Attributes:
        quote: the character around cells that hold separators; None where quotes are ordinary characters.
        names: of the columns, unique; `column_1` and so on where there is no header.
        num_skipped: lines before the first line of data, with the header.
        is_escaped: a quote within quotes is written `\\"` instead of `""`.
        has_bare_returns: lines end in a carriage return alone.
        is_atomic: the header gives types, as in RecBole's atomic files.
    """

    encoding: str
    separator: str
    quote: str | None
    names: tuple[str, ...]
    has_header: bool
    num_skipped: int
    is_escaped: bool = False
    has_bare_returns: bool = False
    is_atomic: bool = False

    @property
    def words(self) -> str:
        """For people: what was found."""
        separator = SEPARATORS.get(self.separator, repr(self.separator))
        header = "header" if self.has_header else f"no header, {len(self.names)} columns by number"
        extra = ", quotes written with a backslash" if self.is_escaped else ""
        return f"{separator}-separated, {header}, {self.encoding}{extra}"


def sniff(file: Path, path: Path, settings: TableSettings, expected: Collection[str]) -> Dialect:
    """The dialect of an unpacked file, called `path` in messages; what the settings say is not sniffed.

    `expected` are names that a header would have. Raises DataError: the file has no lines or is not text.
    """
    with file.open("rb") as opened:
        head = opened.read(SAMPLE_BYTES)
        is_whole = not opened.read(1)
    encoding = settings.encoding or sniff_encoding(head, is_whole)
    return sniff_head(head, is_whole, encoding, path, settings, expected)


def sniff_head(
    head: bytes, is_whole: bool, encoding: str, path: Path, settings: TableSettings, expected: Collection[str]
) -> Dialect:
    """The dialect of a file that begins with `head`."""
    text = head.decode(encoding, errors="replace").removeprefix("\ufeff")
    _demand_text(text, path)
    has_bare_returns = "\n" not in text and "\r" in text
    lines = re.split("\r" if has_bare_returns else "\r?\n", text)
    if not is_whole and len(lines) > 1:
        lines.pop()  # cut off
    num_skipped, hint = _preamble(lines, settings)
    body = [line for line in lines[num_skipped : num_skipped + _NUM_LINES] if line.strip()]
    if not body:
        raise DataError(f"{path} should be a table but has no line with text; check the path.")
    quote: str | None = _quote(body)
    is_escaped = quote == '"' and _is_escaped(body)
    bare = [_without_quoted(_doubled(line) if is_escaped else line, quote) for line in body]
    separator = settings.separator or hint or _separator(bare)
    rows = [split_line(line, separator, quote, is_escaped) for line in body]
    has_header, names = _header(rows, settings, expected)
    is_atomic = has_header and separator == "\t" and all(ATOMIC_NAME.fullmatch(name) for name in names)
    quote = None if is_atomic else quote
    if is_atomic:
        names = body[0].split("\t")
    if has_header and not isinstance(settings.header, list):
        num_skipped = next(at for at in range(num_skipped, len(lines)) if lines[at].strip()) + 1
    return Dialect(
        encoding, separator, quote, _unique(names), has_header, num_skipped, is_escaped, has_bare_returns, is_atomic
    )


def with_encoding(dialect: Dialect, encoding: str) -> Dialect:
    """The same layout in another encoding."""
    return replace(dialect, encoding=encoding)


def split_line(line: str, separator: str, quote: str | None, is_escaped: bool = False) -> list[str]:
    """The cells of one line, quotes taken off."""
    line = _doubled(line) if is_escaped else line
    if len(separator) > 1:
        line, separator = line.replace(separator, "\x1f"), "\x1f"
    if quote is None:
        return line.split(separator)
    return quoted_cells(line, separator, quote)


def quoted_cells(line: str, separator: str, quote: str) -> list[str]:
    """The cells of one line as Python's lenient reader takes them, however long they are."""
    csv.field_size_limit(max(csv.field_size_limit(), len(line) + 1))  # a cell above it is an error
    return next(csv.reader([line], delimiter=separator, quotechar=quote), [""])


def is_value(cell: str) -> bool:
    """Whether a cell is a number or a time, which no column is called."""
    return bool(_NUMBER.fullmatch(cell.strip()) or _TIME.fullmatch(cell.strip()))


def _demand_text(text: str, path: Path) -> None:
    text = text.rstrip("\0")  # what a crash leaves behind the last line
    odd = sum(character < " " and character not in "\t\r\n\x1c\x1d\x1e\x1f" for character in text[:4096])
    if odd > len(text[:4096]) // 20:
        raise DataError(
            f"{path} should be a table of text, but its first bytes are not text; name a CSV, JSON Lines, Parquet, "
            "Arrow or Excel file, or set `encoding`."
        )


def _preamble(lines: Sequence[str], settings: TableSettings) -> tuple[int, str | None]:
    """Lines before the header (by the setting, blank, `sep=`, comments), and the separator that they name."""
    at, hint = settings.skip_rows, None
    comment = None
    for line in lines[at:]:
        if match := _SEP_LINE.fullmatch(line.strip()):
            hint = match[1].replace("\\t", "\t") if match[1] != "\\t" else "\t"
        elif line.startswith("#"):
            comment = at
        elif line.strip():
            break
        at += 1
    if comment is not None and comment == at - 1 and at < len(lines) and _names_columns(lines[comment], lines[at]):
        return comment, hint
    return at, hint


def _names_columns(comment: str, line: str) -> bool:
    """Whether a comment is the header of the line after it: as many cells, and values only in the line."""
    separator = _separator([line])
    names, cells = comment.split(separator), line.split(separator)
    return len(names) == len(cells) > 1 and any(map(is_value, cells)) and not any(map(is_value, names))


def _quote(lines: Sequence[str]) -> str:
    """The single quote where nearly every line begins with it and none has double ones, else the double quote."""
    single = sum(bool(re.match(r"\s*'[^']*'\W", f"{line}\n")) for line in lines[1:])
    return "'" if single >= _MOST * max(len(lines) - 1, 1) and not any('"' in line for line in lines) else '"'


def _is_escaped(lines: Sequence[str]) -> bool:
    if not any('\\"' in line for line in lines):
        return False
    plain, doubled = (
        sum(bool(_BESIDE_QUOTED.search(_without_quoted(line, '"'))) for line in each)
        for each in (lines, [_doubled(line) for line in lines])
    )
    return doubled < plain


def _doubled(line: str) -> str:
    return line.replace('\\"', '""')


def _without_quoted(line: str, quote: str | None) -> str:
    return re.sub(f"{quote}(?:[^{quote}]|{quote}{quote})*{quote}", "\0", line) if quote else line


def _separator(lines: Sequence[str]) -> str:
    """The separator that most lines have equally often, as the first line does; a comma where none has any."""
    best, found = (False, 0.0), ","
    for separator in _SNIFFED:
        counts = Counter(num for line in lines if (num := line.count(separator)))
        if not counts:
            continue
        (usual, num_lines), *_ = counts.most_common(1)
        is_in_first = abs(lines[0].count(separator) - usual) <= (usual > 1)  # a header may lack the name of one column
        score = (is_in_first, min(num_lines / len(lines), _MOST))
        if score > best:
            best, found = score, separator
    return found


def _header(
    rows: Sequence[Sequence[str]], settings: TableSettings, expected: Collection[str]
) -> tuple[bool, list[str]]:
    """Whether the first row names the columns, and the names."""
    first, width = rows[0], max(Counter(map(len, rows[1:] or rows)).items(), key=lambda x: (x[1], x[0]))[0]
    if isinstance(settings.header, list):
        return True, [*settings.header, *(f"column_{at + 1}" for at in range(len(settings.header), width))]
    has_header = _is_header(rows, expected) if settings.header is None else settings.header
    if not has_header:
        return False, [f"column_{at + 1}" for at in range(width)]
    names = [name.strip() for name in first]
    if len(names) and names[0].startswith("#"):
        names[0] = names[0].lstrip("# ")
    if (
        width == len(names) + 1
    ):  # R writes names of rows without a name for their column; others end lines in a separator
        ends = sum(row[-1] == "" for row in rows[1:] if len(row) == width)
        names = [*names, ""] if ends >= _MOST * (len(rows) - 1) else ["", *names]
    return True, names


def _is_header(rows: Sequence[Sequence[str]], expected: Collection[str]) -> bool:
    first = [cell.strip() for cell in rows[0]]
    if set(expected) & set(first):
        return True
    if any(is_value(cell) for cell in first):
        return False
    columns = [[row[at] for row in rows[1:] if at < len(row) and row[at].strip()] for at in range(len(first))]
    if any(column and sum(map(is_value, column)) >= _MOST * len(column) for column in columns):
        return True
    return not any(name and name in column for name, column in zip(rows[0], columns, strict=True))


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    taken: list[str] = []
    for at, name in enumerate(names, start=1):
        new, number = name or f"column_{at}", 2
        while new in taken:
            new, number = f"{name or f'column_{at}'}_{number}", number + 1
        taken.append(new)
    return tuple(taken)
