"""Tables as they lie on disk: read, renamed to our columns, each row numbered as in its file."""

import difflib
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ..errors import ConfigError, DataError
from .parsing import to_floats
from .settings import TableSettings

ROW = "_row"  # 1-based number of the data row in its file, the header not counted

_ATOMIC = (".inter", ".item", ".user")


def read_table(
    settings: TableSettings, *, what: str, required: Iterable[str], known: Iterable[str] | None = None
) -> pl.DataFrame:
    """Read a table and rename its columns to ours.

    `what` says for messages what the table holds ("events"). `required` are our names of the columns that it must have,
    `known` those that may be mapped; None where any name may be (attributes of items).

    Returns:
        The file's columns, mapped ones under our name, plus `_row` (int64). CSV columns are all strings with
        empty cells null; Parquet columns keep their types; columns of RecBole's atomic files bear their name
        without its type, `float` ones are float64 and all others strings.

    Raises DataError: missing, empty or unreadable file; a missing or misspelt column. ConfigError: the mapping names
    what the table cannot have.
    """
    table = _read(settings.path, what)
    _check_columns(settings, table.columns, what, required, known)
    if table.height == 0:
        raise DataError(f"{settings.path} should hold {what} but has no rows; check the path.")
    # All at once, so that names may swap; a column that happens to bear our name but is not meant gives way.
    mapped = settings.columns
    named = table.with_columns(pl.col(theirs).alias(ours) for ours, theirs in mapped.items())
    named = named.drop(ROW, *(theirs for theirs in mapped.values() if theirs not in mapped), strict=False)
    return named.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64))


def _read(path: Path, what: str) -> pl.DataFrame:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} should be the file of {what} but {found}; check its path in the configuration.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} should hold {what} but is empty; check the path.")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pl.read_parquet(path)
        return _read_atomic(path) if path.suffix.lower() in _ATOMIC else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise DataError(f"{path} should be a table of {what} but cannot be read: {reason}; repair the file.") from None


def _read_atomic(path: Path) -> pl.DataFrame:
    """A file of RecBole: tabs, no quotes, a header of `name:type` with the types token, token_seq, float, float_seq."""
    table = pl.read_csv(path, infer_schema=False, separator="\t", quote_char=None)
    columns = []
    for header in table.columns:
        name, _, kind = header.rpartition(":")
        if kind not in ("token", "token_seq", "float", "float_seq") or not name:
            raise DataError(
                f"{path} should have a header of name:type columns (RecBole's atomic file) but has {header!r}; "
                "give a CSV file another ending."
            )
        column = table[header].alias(name)
        columns.append(to_floats(column) if kind == "float" else column)
    return pl.DataFrame(columns)


def _check_columns(
    settings: TableSettings, found: list[str], what: str, required: Iterable[str], known: Iterable[str] | None
) -> None:
    names = set(known) if known is not None else None
    mapping = f"histories.{what}.columns"
    for ours, theirs in settings.columns.items():
        if names is not None and ours not in names:
            raise ConfigError(
                f"{mapping} maps {ours!r}, which {what} do not have{_nearest(ours, names)}; mend or drop it."
            )
        _demand(theirs, found, settings.path, ours, f"correct {mapping}.{ours}")
    for ours in required:
        if ours not in settings.columns:
            _demand(ours, found, settings.path, ours, f"say in {mapping}.{ours} how it is called there")


def _demand(name: str, found: list[str], path: Path, role: str, remedy: str) -> None:
    if name in found:
        return
    use = "" if name == role else f" for {role}"
    raise DataError(
        f"{path} should have a column {name!r}{use} but has only {', '.join(found)}{_nearest(name, found)}; {remedy}."
    )


def _nearest(name: str, names: Iterable[str]) -> str:
    by_lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
