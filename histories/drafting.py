"""A first configuration for files that are not described yet: what they are and which column is what, guessed.

Files of weather are recognised where they are of a known kind, see `weather_forms`.
"""

import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import yaml

from ..console import say
from ..errors import ConfigError, DataError
from ..files import atomic_path
from .formats import Cells, input_files, read_file
from .formats.delimited import RECORD
from .guessing import EVENT_FIELDS, guess_by_names, guess_events, guess_items
from .settings import TableSettings
from .times import to_times
from .weather_forms import OPEN_METEO_HEAD, OPEN_METEO_SKIPS, WeatherForm, open_meteo_form, weather_form

_HEAD_BYTES: Final = 1 << 24
_NUM_ROWS: Final = 100_000
_NEEDED: Final = ("user_id", "item_id", "time")
_ENOUGH: Final = 0.5
_TIME_FORMATS: Final = (
    "%a %b %d %H:%M:%S %z %Y", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d",
    "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y",
)  # fmt: skip


@dataclass(frozen=True)
class _Looked:
    """A file, what is in its first rows, and what its columns would be if they were events."""

    path: Path
    cells: Cells
    table: pl.DataFrame
    events: dict[str, str]
    weather: WeatherForm | None = None

    @property
    def is_like_events(self) -> bool:
        return self.weather is None and set(_NEEDED) <= set(self.events)

    @property
    def num_named(self) -> int:
        return len(set(guess_by_names(self.cells.names, EVENT_FIELDS)) & set(_NEEDED))


def draft_configuration(paths: Sequence[Path], folder: Path) -> str:
    """A commented YAML configuration for these files, with their paths relative to `folder`.

    The file with the likeliest user, item and time holds the events; one that shares its items describes them; files
    of a known kind of weather hold that. Raises DataError: a file cannot be read, or none has columns that look like a
    user, an item and a time.
    """
    looked = [_look(file) for path in paths for file in input_files(path, "a table")[:1]]
    candidates = [each for each in looked if each.is_like_events]
    if not candidates:
        raise DataError(_no_events(looked))
    events = max(candidates, key=lambda each: (each.num_named, each.table.height))
    weather = [each for each in looked if each.weather is not None]
    weather = [each for each in weather if each.weather == weather[0].weather]  # several stations of one kind
    rest = [each for each in looked if each is not events and each not in weather]
    item_ids = events.table[events.events["item_id"]]
    described = [(each, guess_items(each.table, item_ids)) for each in rest if _shares_items(each.table, item_ids)]
    paths_of = {looked_at.path: path for looked_at, path in zip(looked, paths, strict=True)}
    command = f"whereupon init {' '.join(shlex.quote(path.name) for path in paths)}"
    lines = [
        f"# Guessed by `{command}`: check each column, then run `whereupon prepare` with this file.",
        "# It prints how the files were read, with one event as an example.",
        f"run: {_yaml(f'runs/{_stem(events.path)}')}",
        "histories:",
        "  # time_zone: Europe/Berlin  # of all events; without it, that of the coordinates, else UTC",
        *_table_lines("events", events, events.events, paths_of[events.path], folder),
        *_time_format(events),
    ]
    if described:
        items, columns = described[0]
        lines += _table_lines("items", items, columns, paths_of[items.path], folder)
        if "title" not in columns:
            lines.append("      # title: no column looks like titles; without one, items are called by their ids")
    if weather:
        lines += _weather_lines(weather, [paths_of[each.path] for each in weather], folder)
    used = {events.path, *(each.path for each, _ in described[:1])}
    lines += [f"  # not used: {each.path.name}, which is {_unused(each)}" for each in rest
              if each.path not in used]  # fmt: skip
    return "\n".join(lines) + "\n"


def write_draft(paths: Sequence[Path], out: Path) -> None:
    """Write the configuration of `draft_configuration` to a new file. Raises ConfigError: it is there already."""
    if out.exists():
        raise ConfigError(f"{out} should be a new file but exists; name another one, or remove it first.")
    text = draft_configuration(paths, out.resolve().parent)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"written to {out}; check its columns, then run: whereupon prepare {out}")


def _look(file: Path) -> _Looked:
    skipped = _open_meteo(file)
    with tempfile.TemporaryDirectory(prefix="whereupon-") as folder:
        head = _head(file, Path(folder))
        settings = TableSettings(path=head, skip_rows=OPEN_METEO_SKIPS if skipped else 0)
        cells = read_file(head, settings, what="a table", expected=(), wanted=None)
    table = cells.table.drop(RECORD).head(_NUM_ROWS)
    form = open_meteo_form(cells.names, *skipped) if skipped else weather_form(table) if cells.has_header else None
    return _Looked(file, cells, table, {} if form else guess_events(table), form)


def _open_meteo(file: Path) -> tuple[tuple[float, float], float] | None:
    """The place (degrees) and the offset from UTC (seconds) of a CSV of Open-Meteo; None for another file."""
    with file.open("rb") as opened:
        head = opened.read(1000).decode("utf-8", errors="replace").removeprefix("\ufeff").splitlines()
    if len(head) < 2 or not head[0].startswith(OPEN_METEO_HEAD):
        return None
    said = dict(zip(head[0].split(","), head[1].split(","), strict=False))
    try:
        return (float(said["latitude"]), float(said["longitude"])), float(said["utc_offset_seconds"])
    except (KeyError, ValueError):
        return None


def _head(file: Path, folder: Path) -> Path:
    """The file, or the first lines of a long one that has lines."""
    if file.stat().st_size <= _HEAD_BYTES:
        return file
    with file.open("rb") as opened:
        start = opened.read(_HEAD_BYTES)
    if b"\n" not in start[:100_000] or b"\x00" in start[:1000]:
        return file
    copy = folder / file.name
    copy.write_bytes(start[: start.rindex(b"\n") + 1])
    return copy


def _shares_items(table: pl.DataFrame, item_ids: pl.Series) -> bool:
    known = item_ids.cast(pl.String).drop_nulls().unique()
    columns = [name for name, dtype in table.schema.items() if not dtype.is_nested()]
    shared = (table[name].cast(pl.String, strict=False).unique().is_in(known.implode()).sum() for name in columns)
    return max(map(int, shared), default=0) >= _ENOUGH * min(len(known), table.height)


def _table_lines(what: str, looked: _Looked, columns: dict[str, str], path: Path, folder: Path) -> list[str]:
    lines = [
        f"  {what}:  # {looked.cells.words}",
        f"    path: {_yaml(os.path.relpath(path, folder))}",
        "    columns:",
    ]
    for ours, theirs in columns.items():
        name = _yaml(theirs) if looked.cells.has_header else str(looked.cells.names.index(theirs) + 1)
        example = "" if ours == "user_id" else _example(looked.table[theirs])
        lines.append(f"      {ours}: {name}{example}")
    return lines


def _weather_lines(weather: Sequence[_Looked], paths: Sequence[Path], folder: Path) -> list[str]:
    """The `weather` part, and that of how it is joined."""
    first, form = weather[0], weather[0].weather
    assert form is not None, "these are the files of weather"
    lines = [f"  weather:  # {form.name}; {first.cells.words}"]
    lines += [f"  # {remark}" for remark in form.remarks]
    named = [_yaml(os.path.relpath(path, folder)) for path in paths]
    several = ", ".join(named)
    lines.append(f"    path: {named[0] if len(named) == 1 else f'[{several}]'}")
    if form.skip_rows:
        lines.append(f"    skip_rows: {form.skip_rows}")
    lines.append("    columns:")
    lines += [f"      {ours}: {_yaml(theirs)}{_example(first.table[theirs])}" for ours, theirs in form.columns.items()]
    if form.scale:
        lines.append(f"    scale: {{{', '.join(f'{name}: {factor:g}' for name, factor in form.scale.items())}}}")
    if form.times:
        lines.append(f"    times: {form.times}  # of times without an offset")
    if form.place is not None:
        lines += [f"    latitude: {form.place[0]:g}", f"    longitude: {form.place[1]:g}"]
    elif "latitude" not in form.columns:
        lines += ["    # latitude: 52.52  # the file does not say where its station stands: write it here, in degrees",
                  "    # longitude: 13.40"]  # fmt: skip
    if "local_day" in form.columns:
        lines.append("  # weather_join: {daily: same_day}  # if a forecast of the day is known when you ask")
    return lines


def _unused(looked: _Looked) -> str:
    if looked.weather is not None:
        return f"weather of another kind ({looked.weather.name})"
    return "neither events, nor their items, nor weather of a known kind"


def _example(cells: pl.Series) -> str:
    given = cells.drop_nulls()
    if not len(given) or given.dtype.is_nested():
        return ""
    return f"  # such as {' '.join(str(given[0]).split())[:40]}"


def _time_format(events: _Looked) -> list[str]:
    """The format of times that are not understood without one."""
    cells = events.table[events.events["time"]]
    if cells.dtype != pl.String or to_times(cells).null_count() <= _ENOUGH * len(cells):
        return []
    for time_format in _TIME_FORMATS:
        if to_times(cells, time_format).null_count() == cells.null_count():
            return [f"    time_format: {_yaml(time_format)}"]
    return ['    # time_format: "%Y-%m-%d %H:%M:%S"  # the times are in no common form; say how they are written']


def _no_events(looked: Sequence[_Looked]) -> str:
    best = max(looked, key=lambda each: len(set(each.events) & set(_NEEDED)))
    missing = " and ".join(name for name in _NEEDED if name not in best.events)
    return (
        f"{best.path} should be a table of events but has no column that looks like {missing}; name a file with a "
        "user, an item and a time, or write the configuration by hand (examples/ holds some)."
    )


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or "first"


def _yaml(text: str) -> str:
    """A text as a YAML scalar on one line."""
    return yaml.safe_dump(text, allow_unicode=True, width=1_000_000, default_flow_style=True).split("\n...")[0].strip()
