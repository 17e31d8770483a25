"""`whereupon export-events`: what the event store holds, as one more file of `histories.events`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import polars as pl

from ..console import say
from ..errors import ConfigError, DataError
from ..files import atomic_path
from .settings import RecommendConfig
from .store import open_store
from .store.event import Event
from .store.event_store import COLUMNS

_OWN: Final = tuple(name for name in COLUMNS if name != "context")


def export_events(config: RecommendConfig, file: Path) -> int:
    """Write all stored events to a CSV or Parquet file that `prepare` reads beside the others; how many there are.

    Columns have the names that `histories.events.columns` maps, and each further column of the events its own. Times
    are in UTC. Raises ConfigError for another ending, for a mapping by numbers or a `time_format`, which the file would
    not follow, and DataError where no event is stored.
    """
    table = config.histories.events
    theirs = {} if table is None else table.columns
    if file.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"-o should name a .csv or .parquet file, as the other files of events are, not {file.name}.")
    if any(isinstance(name, int) for name in theirs.values()):
        raise ConfigError(
            "histories.events.columns names columns by number, which an exported file has not: name them in its header "
            "and in the mapping."
        )
    if table is not None and table.time_format:
        raise ConfigError(
            "histories.events.time_format is set, but exported times are ISO 8601 in UTC: bring the other files of "
            "events to ISO 8601 too, and leave time_format out."
        )
    frame = events_table(_stored(config), {ours: str(name) for ours, name in theirs.items()})
    with atomic_path(file) as path:
        if file.suffix == ".csv":
            frame.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
        else:
            frame.write_parquet(path)
    say(f"{frame.height:,} stored events in {file}")
    return frame.height


def events_table(events: list[Event], theirs: dict[str, str]) -> pl.DataFrame:
    """A row an event; `theirs`: our name of a column -> its name in the table. A mapped column that no event has is
    empty, as `prepare` wants to find it."""
    contexts = dict.fromkeys(name for event in events for name in event.context)
    columns: dict[str, list[Any]] = {name: [getattr(event, name) for event in events] for name in _OWN}
    columns |= {name: [event.context.get(name) for event in events] for name in contexts if name not in columns}
    columns |= {name: [None] * len(events) for name in theirs if name not in columns}
    return pl.DataFrame([_series(theirs.get(name, name), values) for name, values in columns.items()])


def _series(name: str, values: list[Any]) -> pl.Series:
    """Text where the values are of several types, which one column cannot hold."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1:
        values = [None if value is None else str(value) for value in values]
    return pl.Series(name, values)


def _stored(config: RecommendConfig) -> list[Event]:
    address = config.events_address
    if isinstance(address, Path) and not address.is_file():
        raise DataError(f"There is no event store at {address}: `whereupon serve` makes it with the first event.")
    store = open_store(address)
    try:
        events = store.all()
    finally:
        store.close()
    if not events:
        raise DataError("No event is stored yet: send some to /v1/events first.")
    return events
