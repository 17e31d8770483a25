"""Columns of a file under our names: the mapping checked, and what to say where it does not fit."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ..errors import ConfigError, DataError
from .formats import Cells
from .formats.delimited import RECORD
from .guessing import guess_by_names, guess_events, guess_items
from .settings import TableSettings

_MOST_SHOWN: Final = 12
_NUM_LOOKED_AT: Final = 10_000


def shown(names: Sequence[str]) -> str:
    """Column names for a sentence: the first of very many, each cut where it is very long."""
    some = ", ".join(name if len(name) <= 40 else f"{name[:39]}…" for name in names[:_MOST_SHOWN])
    return some if len(names) <= _MOST_SHOWN else f"{some} and {len(names) - _MOST_SHOWN} more"


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint in brackets at the name that was perhaps meant; empty if none is near."""
    by_lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def check_mapping(settings: TableSettings, what: str, known: Iterable[str] | None) -> None:
    """Raise ConfigError where the mapping names what such a table does not have, or gives one column two roles."""
    mapping = f"histories.{what}.columns"
    names = set(known) if known is not None else None
    for ours in settings.columns:
        if names is not None and ours not in names:
            raise ConfigError(
                f"{mapping} maps {ours!r}, which {what} do not have{nearest(ours, names)}; correct or remove it."
            )
    if what == "events":
        roles: dict[str | int, str] = {}
        for ours, theirs in settings.columns.items():
            if theirs in roles:
                raise ConfigError(
                    f"{mapping} gives {theirs!r} to both {roles[theirs]} and {ours}; correct one of them."
                )
            roles[theirs] = ours


def resolved(settings: TableSettings, path: Path, cells: Cells, what: str, required: Iterable[str]) -> dict[str, str]:
    """Our names of the mapped columns -> those in the file.

    Raises DataError: a column that is mapped or required is missing.
    """
    mapped = {}
    for ours, theirs in settings.columns.items():
        where = f"histories.{what}.columns.{ours}"
        if isinstance(theirs, str):
            if theirs not in cells.names:
                raise DataError(_missing(path, theirs, ours, cells, what, f"correct {where}"))
            mapped[ours] = theirs
        elif theirs <= len(cells.names):
            mapped[ours] = cells.names[theirs - 1]
        else:
            raise DataError(
                f"{path} should have a column {theirs} for {ours} but has {len(cells.names)} columns; correct {where}."
            )
    for ours in required:
        if ours not in mapped and ours not in cells.names:
            remedy = f"say in histories.{what}.columns.{ours} how it is called there"
            raise DataError(_missing(path, ours, ours, cells, what, remedy))
    return mapped


def _missing(path: Path, name: str, role: str, cells: Cells, what: str, remedy: str) -> str:
    use = "" if name == role else f" for {role}"
    if cells.has_header:
        guess = guess_by_names(cells.names).get(role)
        hint = f" (did you mean {guess!r}?)" if guess else nearest(name, cells.names)
        return f"{path} should have a column {name!r}{use} but has only {shown(cells.names)}{hint}; {remedy}."
    guesses = (guess_items if what == "items" else guess_events)(cells.table.head(_NUM_LOOKED_AT).drop(RECORD))
    numbers = ", ".join(f"{ours}: {cells.names.index(theirs) + 1}" for ours, theirs in guesses.items())
    return (
        f"{path} should have a column {name!r}{use} but has no header, only {len(cells.names)} columns; give their "
        f"numbers in histories.{what}.columns, perhaps {{{numbers}}}, or their names as histories.{what}.header."
    )
