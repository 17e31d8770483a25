"""From raw tables to a run folder: clean, place in local time, join weather, split, name the items, write."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from ..errors import DataError
from ..files import atomic_path, read_object, sha256_file, versions, write_json
from .cleaning import clean_declared, demand_few_rejects
from .coordinates import known_place
from .events import available_at_first_event, clean_events, clean_items, items_of_events, place_at_items, require_events
from .guessing import guess_items
from .local_time import with_clocks
from .parsing import are_whole
from .privacy import Privacy
from .pseudonyms import demand_key_outside
from .reading import ROW
from .recipes import read_source
from .rejects import Notes, Rejects
from .settings import HistoriesSettings, SplitSettings, times_of
from .source import Source
from .splitting import SPLITS, split_events
from .store import FORMAT_VERSION, histories_folder
from .summary import PrepareReport
from .weather import WEATHER_COLUMNS, clean_weather, join_weather
from .weather_fetch import SOURCE_SUFFIX

_BATCH = 1 << 17  # rows that are held as text at once


class TitleMaker(Protocol):
    """What gives items their titles (the catalogue's settings do); histories know nothing of how."""

    def recipe(self, default_title: str | None) -> dict[str, Any]:
        """What the titles are made by, as JSON: equal recipes may continue each other's titles."""

    def make_titles(
        self, items: pl.DataFrame, *, default_title: str | None, previous: Mapping[str, str] | None
    ) -> tuple[list[str], dict[str, int]]:
        """Unique titles in the order of `items`, and counts of what was repaired."""


def prepare(settings: HistoriesSettings, titles: TitleMaker, run: Path, seed: int = 0) -> PrepareReport:
    """Read, clean and join the input and write `<run>/histories`, the manifest last.

    Titles of a catalogue that was prepared in `run` before, by the same title settings, are kept. `seed` is that of the
    choice of held-out users or items, see SplitSettings.

    Raises ConfigError, DataError: see `read_source` and `Privacy`; no usable event; a title that cannot be made; files
    of others where it writes.
    """
    if run.exists() and not run.is_dir():
        raise DataError(f"{run} should be the run folder but is a file; choose another name.")
    _refuse_others(histories_folder(run))
    rejects, notes, privacy = Rejects(), Notes(), Privacy.of(settings.privacy)
    source, num_rows, items, events = _clean(settings, privacy, run, rejects, notes)
    # Step by step, so that no step keeps the table of the one before.
    events = _split(events, source.settings.split, notes, seed)
    events = events.sort("user_id", "time", ROW)
    events = _with_weather(source, events, rejects, notes)
    title_recipe = titles.recipe(source.title)
    read_as = [*source.said, *_likely_titles(source, title_recipe)]
    previous = _previous_titles(run, title_recipe)
    names, title_counts = titles.make_titles(items, default_title=source.title, previous=previous)
    items = items.with_columns(pl.Series("title", names, dtype=pl.String))
    items = items.select("item_id", "title", pl.exclude("item_id", "title"))
    events = _index(events, items)
    manifest = _manifest(source, events, items, rejects, notes) | {"read_as": read_as}
    manifest |= {"num_rows": num_rows, "seed": seed, "title_recipe": title_recipe, "titles": title_counts}
    manifest |= {"privacy": privacy.report(events, rejects) if privacy else None, "versions": versions()}
    _write(run, {"events": events, "items": items, "rejects": rejects.table(), "changes": rejects.changed()}, manifest)
    return PrepareReport(run=run, manifest=manifest)


def catalogue_hash(items: pl.DataFrame) -> str:
    """SHA-256 over the pairs of `item_id` and `title` in order."""
    digest = hashlib.sha256()
    # Neither character can stand in a title or in an identifier of one line.
    pair = pl.col("item_id") + pl.lit("\x00") + pl.col("title") + pl.lit("\x01")
    for part in items.select(pair).iter_slices(_BATCH):
        digest.update(part.to_series().str.join("").item().encode())
    return digest.hexdigest()


def _read(
    settings: HistoriesSettings, privacy: Privacy | None, run: Path, rejects: Rejects, notes: Notes
) -> tuple[Source, int, pl.DataFrame, pl.DataFrame | None]:
    """The tables, how many rows the events had, and events and items typed.

    The source comes without its events: nothing reads them any more, and they take memory.
    """
    source = read_source(settings, rejects)
    notes += source.notes
    if privacy:
        demand_key_outside(privacy.settings, run, source.files)
    num_rows = source.events.height + rejects.num_of(source.events_name)
    settings, table = source.settings, source.settings.events
    raw_ids = [source.events["item_id"], *([] if source.items is None else [source.items["item_id"]])]
    whole = are_whole(*raw_ids)
    items = _clean_items(source, whole, rejects, notes)
    events = clean_events(
        source.events,
        source=source.events_name,
        context_columns=settings.context_columns,
        time_format=table.time_format if table else None,
        item_ids=None if items is None else items["item_id"],
        rejects=rejects,
        notes=notes,
        coordinates=table.coordinates if table else "as_given",
        whole_item_ids=whole,
    )
    require_events(events, source.events_name, rejects)
    return replace(source, events=source.events.clear()), num_rows, events, items


def _clean(
    settings: HistoriesSettings, privacy: Privacy | None, run: Path, rejects: Rejects, notes: Notes
) -> tuple[Source, int, pl.DataFrame, pl.DataFrame]:
    """The tables, how many rows the events had, and items and events without what is not usable or is to be hidden."""
    source, num_rows, events, items = _read(settings, privacy, run, rejects, notes)
    settings, name = source.settings, source.events_name
    if privacy:  # before anything else, so that no example and no detail names a user
        events = privacy.with_pseudonyms(events)
    if items is not None and source.location == "outcome":
        events = place_at_items(events, items)
    times = times_of(settings.events) if settings.events else None
    events = with_clocks(events, time_zone=settings.time_zone, times=times, notes=notes, example=privacy is None)
    events = clean_declared(
        events,
        settings.clean,
        source=name,
        context_columns=settings.context_columns,
        location=source.location,
        rejects=rejects,
        notes=notes,
    )
    if privacy:
        events, items = privacy.without_rare_items(events, items, name, rejects)
        rejects.hide_details(name)
    demand_few_rejects(rejects, settings.clean, source=name, num_rows=num_rows)
    items = items_of_events(events) if items is None else items
    if privacy:
        events = privacy.coarse(events)
    if events["hour_known"].all():
        events = events.drop("hour_known")
    return source, num_rows, available_at_first_event(items, events, notes), events


def _clean_items(source: Source, whole: bool, rejects: Rejects, notes: Notes) -> pl.DataFrame | None:
    if source.items is None:
        return None
    table = source.settings.items
    return clean_items(
        source.items,
        source=source.items_name,
        rejects=rejects,
        notes=notes,
        time_format=table.time_format if table else None,
        coordinates=table.coordinates if table else "as_given",
        whole_ids=whole,
    )


def _with_weather(source: Source, events: pl.DataFrame, rejects: Rejects, notes: Notes) -> pl.DataFrame:
    """Events, in the order of users and times, with the weather at the place where their user was known to be."""
    if source.weather is None or source.settings.weather is None:
        return events
    settings = source.settings.weather
    weather = clean_weather(source.weather, settings, source=source.weather_name, rejects=rejects, notes=notes)
    places = (known_place(name, source.location).alias(f"_{name}") for name in ("latitude", "longitude"))
    placed = events.with_columns(places)
    return join_weather(placed, weather, source.settings.weather_join, notes).drop("_latitude", "_longitude")


def _split(events: pl.DataFrame, settings: SplitSettings, notes: Notes, seed: int) -> pl.DataFrame:
    """Add `split`; what the protocol leaves out goes, and is counted."""
    # Narrow, as sorting copies what it sorts.
    ordered = events.select("user_id", "item_id", "time", ROW).with_row_index("_at").sort("time", ROW)
    ordered = ordered.with_columns(split_events(ordered, settings, seed)).filter(pl.col("split").is_not_null())
    if left_out := events.height - ordered.height:
        notes["events at held-out items before their period, left out"] += left_out
    if not ordered.height:
        raise DataError(
            f"Under {settings.protocol} none of {events.height:,} events is left: held-out items are all there are; "
            "choose another histories.split.protocol."
        )
    first = pl.int_range(pl.len()).over("user_id") == 0
    for name in ("valid", "test"):
        if alone := ordered.select((first & (pl.col("split") == name)).sum()).item():
            notes[f"{name} events that are the first of their user, which nothing predicts: not evaluated"] += alone
    ordered = ordered.select("_at", "split").sort("_at")
    kept = events[ordered["_at"]] if left_out else events
    return kept.with_columns(ordered["split"])


def _likely_titles(source: Source, title_recipe: Mapping[str, Any]) -> list[str]:
    """What to say where ids become titles although the table of items has a column that looks like titles."""
    if source.items is None or title_recipe.get("title") is not None or "title" in source.items.columns:
        return []
    said = f"titles: {source.items_name} has no column title, so each item is called by its id"
    likely = guess_items(source.items.drop(ROW, strict=False).head(_BATCH)).get("title")
    hint = f"; {likely!r} looks like one: set histories.items.columns.title or catalogue.title" if likely else ""
    return [said + hint]


def _index(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    numbers = items.select("item_id").with_row_index("item_idx").cast({"item_idx": pl.Int32})
    item_idx = events.select("item_id").join(numbers, on="item_id", how="left", maintain_order="left")["item_idx"]
    # Users are sorted by their id already.
    indexed = events.with_columns(item_idx, pl.col("user_id").rle_id().cast(pl.Int32).alias("user_idx"))
    first = ["user_id", "item_id", "user_idx", "item_idx", "time", "local_time", "split", "latitude", "longitude"]
    weather = [name for name in WEATHER_COLUMNS if name in events.columns]
    return indexed.select(*first, *weather, pl.exclude(*first, *weather, ROW, "utc_offset_minutes"))


def _previous_titles(run: Path, title_recipe: dict[str, Any]) -> dict[str, str] | None:
    """Titles of the catalogue that this run folder holds, if they were made the same way."""
    folder = histories_folder(run)
    if not (folder / "manifest.json").is_file():
        return None
    try:
        if read_object(folder / "manifest.json").get("title_recipe") != title_recipe:
            return None
        return dict(pl.read_parquet(folder / "items.parquet", columns=["item_id", "title"]).iter_rows())
    except (DataError, OSError, pl.exceptions.PolarsError):
        raise DataError(f"{folder} is damaged, so its titles cannot be kept; remove it and prepare again.") from None


def _manifest(
    source: Source, events: pl.DataFrame, items: pl.DataFrame, rejects: Rejects, notes: Notes
) -> dict[str, Any]:
    settings = source.settings
    return {
        "format": FORMAT_VERSION,
        "recipe": settings.recipe,
        "location": source.location,
        "context_columns": settings.context_columns,
        "weather_missing": {name: events[name].null_count() for name in WEATHER_COLUMNS if name in events.columns},
        "num_events": events.height,
        "num_users": events["user_id"].n_unique(),
        "num_items": items.height,
        "num_items_seen": events["item_id"].n_unique(),
        "num_left_out_by_slice": source.num_left_out,
        "first_time": _iso(events["time"].min()),
        "last_time": _iso(events["time"].max()),
        "splits": _splits(events),
        "rejects": rejects.counts(),
        "cleaning": rejects.steps(),
        "notes": dict(sorted(notes.items())),
        "remarks": notes.remarks,
        "inputs": _fingerprints(source.files),
        "sources": _sources(source.files),
        "data_hash": _data_hash(events, items),
        "catalogue_hash": catalogue_hash(items),
        "settings": settings.model_dump(mode="json"),
    }


def _fingerprints(files: list[Path]) -> dict[str, str]:
    """SHA-256 by name; files of equal names in several folders bear their folder too."""
    names = Counter(file.name for file in set(files))
    return {
        file.name if names[file.name] == 1 else f"{file.parent.name}/{file.name}": sha256_file(file) for file in files
    }


def _sources(files: list[Path]) -> dict[str, Any]:
    """What a file's own record says of its source and licence (`weather_fetch` writes one), by the file's name."""
    records = {file.name: file.with_name(file.name + SOURCE_SUFFIX) for file in files}
    return {name: read_object(record) for name, record in records.items() if record.is_file()}


def _splits(events: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Number of events and first and last time of each split."""
    time, num = pl.col("time"), pl.len()
    found = events.group_by("split").agg(num.alias("num"), time.min().alias("first"), time.max().alias("last"))
    parts = {row["split"]: row for row in found.iter_rows(named=True)}
    none = {"num": 0, "first": None, "last": None}
    return {
        name: {"num_events": part["num"], "first_time": _iso(part["first"]), "last_time": _iso(part["last"])}
        for name, part in ((name, parts.get(name, none)) for name in SPLITS)
    }


def _iso(time: Any) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def _data_hash(events: pl.DataFrame, items: pl.DataFrame) -> str:
    digest = hashlib.sha256()
    for table in (events, items):
        for part in table.iter_slices(_BATCH):
            digest.update(part.write_csv().encode())
    return digest.hexdigest()


def _refuse_others(folder: Path) -> None:
    """Raise DataError where a folder that will be replaced holds anything that `prepare` has not written."""
    found = {path.name for path in folder.glob("*")} - {".DS_Store"}
    tables = {"events.parquet", "items.parquet", "rejects.parquet", "changes.parquet"}
    if others := sorted(found - (tables | {"manifest.json"} if "manifest.json" in found else set())):
        raise DataError(
            f"{folder} is replaced as a whole by `whereupon prepare` but holds {', '.join(others[:5])}, not written by "
            "it; move your files elsewhere, or choose another run folder (`run`)."
        )


def _write(run: Path, tables: dict[str, pl.DataFrame], manifest: dict[str, Any]) -> None:
    # The folder as a whole: an interrupted run leaves the earlier one, with the titles that a next one must keep.
    with atomic_path(histories_folder(run)) as folder:
        folder.mkdir()
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}.parquet")
        write_json(folder / "manifest.json", manifest)
