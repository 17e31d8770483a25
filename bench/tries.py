"""The trie of a large catalogue: what it takes to build, keep, load, change, filter and search.

Every figure is taken in a process of its own, which begins with the snapshot that the first one wrote.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import titles
import torch
from fresh import fresh, start_over
from steps import RandomReading, step_overhead

from whereupon.catalogue import Catalogue, Filters, ItemFacts, Subset, Trie, build_trie_ragged, select_items
from whereupon.catalogue.snapshots import read_snapshot, snapshot_manifest, write_snapshot
from whereupon.catalogue.tokens import encode_titles
from whereupon.decode.branching import TrieTensors
from whereupon.decode.models import load_tokenizer
from whereupon.decode.search import search
from whereupon.decode.settings import ModelSettings

NUM_CHANGED = 1_000
KEPT = 0.1
REPEATS = 5
LIMIT_S, LIMIT_GIB = 1800.0, 14.0
TOKENIZER = "of this bench"  # what a snapshot calls the tokenizer

Figures = dict[str, Any]


def measure(sizes: list[int], tokenizer: str, seed: int, folder: Path, say: Callable[[str], None]) -> list[Figures]:
    """The figures of every size; `folder` is for what is written on the way, `tokenizer` a directory of transformers.

    Raises RuntimeError where a process did not come to its end.
    """
    return [_size(num, tokenizer, seed, folder / str(num), say) for num in sizes]


def _size(num: int, tokenizer: str, seed: int, folder: Path, say: Callable[[str], None]) -> Figures:
    folder.mkdir()
    figures: Figures = {"num_items": num}
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("items", "make_items", {"num": num, "seed": seed}),
        ("build", "build", {"tokenizer": tokenizer}),
        ("load", "load", {"seed": seed, "cold": True}),
        ("load_again", "load", {"seed": seed, "cold": False}),
        ("change", "change", {"tokenizer": tokenizer, "seed": seed}),
        ("filter", "filter_items", {"seed": seed}),
        ("step", "step", {"seed": seed}),
    )
    for name, function, arguments in calls:
        outcome = fresh("tries", function, {"folder": str(folder), **arguments}, limit_s=LIMIT_S, limit_gib=LIMIT_GIB)
        say(f"{num:,} items, {name.replace('_', ' ')}: {outcome.problem or f'{outcome.wall_s:.2f} s'}")
        if outcome.problem:
            raise RuntimeError(f"{name} of {num:,} items {outcome.problem}")
        memory = {"peak_mib": outcome.peak_bytes / 2**20, "peak_added_mib": outcome.added_bytes / 2**20}
        figures[name] = {**outcome.value, **memory}
    return figures


def make_items(folder: str, num: int, seed: int) -> Figures:
    """Write the items and those to be added later, so that no other process holds what making them takes."""
    start_over()
    items = titles.items(num + NUM_CHANGED, seed)
    items[:num].write_parquet(Path(folder) / "items.parquet")
    items[num:].write_parquet(Path(folder) / "more.parquet")
    return {"characters_per_title": float(items["title"].str.len_chars().mean() or 0.0)}


def build(folder: str, tokenizer: str) -> Figures:
    """Seconds of each stage from titles to a snapshot, bytes per item, and what the trie is like."""
    items, encode = pl.read_parquet(Path(folder) / "items.parquet"), _encode(tokenizer)
    start_over()
    times = [time.perf_counter()]
    lists = encode_titles(items["title"], encode)
    times.append(time.perf_counter())
    trie = build_trie_ragged(lists.tokens, lists.ptr, items["title"])
    times.append(time.perf_counter())
    write_snapshot(_snapshot(folder), Catalogue(items, trie), tokenizer=TOKENIZER)
    times.append(time.perf_counter())
    tokenise_s, trie_s, write_s = np.diff(times).tolist()
    files = {name: file["bytes"] for name, file in snapshot_manifest(_snapshot(folder))["files"].items()}
    return {
        "tokenise_s": tokenise_s, "trie_s": trie_s, "write_s": write_s, "total_s": times[-1] - times[0],
        **_bytes_per_item(trie), "file_bytes_per_item": {
            "trie": sum(size for name, size in files.items() if name.endswith(".npy")) / trie.num_items,
            "items": sum(size for name, size in files.items() if not name.endswith(".npy")) / trie.num_items,
        },
        "file_mib": sum(files.values()) / 2**20, "tokens_per_title": len(trie.token_P) / trie.num_items,
        "num_nodes": trie.num_nodes, "num_edges": len(trie.child_token_C), "root_edges": int(trie.child_ptr_B1[1]),
    }  # fmt: skip


def _bytes_per_item(trie: Trie) -> Figures:
    """What the arrays take once they are all in memory, and what an engine of torch lays out beside them."""
    arrays = [getattr(trie, field.name) for field in dataclasses.fields(trie)]
    tensors = TrieTensors.of(trie, torch.device("cpu"))
    extra = [getattr(tensors, field.name) for field in dataclasses.fields(tensors)]
    return {
        "trie_bytes_per_item": sum(array.nbytes for array in arrays) / trie.num_items,
        "engine_bytes_per_item": sum(tensor.nbytes for tensor in extra) / trie.num_items,
    }


def load(folder: str, seed: int, cold: bool) -> Figures:
    """Seconds from the snapshot's folder to the first answer; `cold` with its files dropped from the page cache."""
    if cold:
        _drop_from_page_cache(_snapshot(folder))
    torch.zeros(2) @ torch.zeros(2)  # what torch sets up once is no part of loading
    start_over()
    times = [time.perf_counter()]
    trie = read_snapshot(_snapshot(folder), tokenizer=TOKENIZER).trie
    times.append(time.perf_counter())
    reading = RandomReading.over(trie, np.random.default_rng(seed))
    times.append(time.perf_counter())
    search(reading, trie, 10)
    times.append(time.perf_counter())
    read_s, engine_s, search_s = np.diff(times).tolist()
    return {"read_s": read_s, "engine_s": engine_s, "search_s": search_s, "total_s": times[-1] - times[0]}


def _drop_from_page_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def change(folder: str, tokenizer: str, seed: int) -> Figures:
    """Median seconds to add, replace and remove a thousand items, and to write what comes of it."""
    catalogue, encode = read_snapshot(_snapshot(folder), tokenizer=TOKENIZER), _encode(tokenizer)
    more = pl.read_parquet(Path(folder) / "more.parquet")
    rng = np.random.default_rng(seed)
    chosen = catalogue.items[np.sort(rng.choice(catalogue.items.height, NUM_CHANGED, replace=False))]
    renamed = chosen.with_columns(pl.format("{} II", "title").alias("title"))
    start_over()
    added, add_s = _timed(lambda: catalogue.add(more, encode))
    _, replace_s = _timed(lambda: catalogue.replace(renamed, encode))
    _, remove_s = _timed(lambda: catalogue.remove(chosen["item_id"]))
    assert added.trie.num_items == catalogue.trie.num_items + NUM_CHANGED
    _, write_s = _timed(lambda: write_snapshot(Path(folder) / "changed", added, tokenizer=TOKENIZER), 1)
    return {"add_s": add_s, "replace_s": replace_s, "remove_s": remove_s, "write_s": write_s}


def _timed(call: Callable[[], Any], repeats: int = REPEATS) -> tuple[Any, float]:
    """What a call gives, and the median of its seconds."""
    seconds, found = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - began)
    return found, float(np.median(seconds))


def filter_items(folder: str, seed: int) -> Figures:
    """Milliseconds from filters that keep a tenth to the subset that a search takes, for each kind.

    The first time, the column that is needed is prepared, too.
    """
    catalogue, rng = read_snapshot(_snapshot(folder), tokenizer=TOKENIZER), np.random.default_rng(seed)
    facts, num_kept = ItemFacts(catalogue.items), round(KEPT * catalogue.items.height)
    latitude, longitude = titles.CENTRE
    near = Filters(near_km=_radius_km(catalogue.items), near_latitude=latitude, near_longitude=longitude)
    counts = catalogue.items["category"].value_counts()
    category = counts.sort((pl.col("count") - num_kept).abs(), "category")["category"][0]
    chosen = np.sort(rng.choice(facts.num_items, num_kept, replace=False))
    ids = Filters(only=tuple(catalogue.item_ids[chosen].to_list()))

    def kept(filters: Filters) -> Subset:
        selection = select_items(facts, filters)
        return Subset.of(catalogue.trie, selection.allowed_I, selection.reason)

    start_over()
    found = {}
    for kind, filters in (("radius", near), ("category", Filters(category=(category,))), ("ids", ids)):
        first, first_s = _timed(lambda filters=filters: kept(filters), 1)
        _, median_s = _timed(lambda filters=filters: kept(filters), 4 * REPEATS)
        found[kind] = {"first_ms": 1e3 * first_s, "median_ms": 1e3 * median_s,
                       "kept_share": first.num_allowed / facts.num_items}  # fmt: skip
    return {"kinds": found}


def _radius_km(items: pl.DataFrame) -> float:
    """The radius within which nearly a tenth of the items lie: as if the earth were flat."""
    latitude, longitude = titles.CENTRE
    north = items["latitude"].to_numpy() - latitude
    east = (items["longitude"].to_numpy() - longitude) * np.cos(np.deg2rad(latitude))
    return float(titles.KM_PER_DEGREE * np.quantile(np.hypot(north, east), KEPT))


def step(folder: str, seed: int) -> Figures:
    """See `step_overhead`."""
    trie = read_snapshot(_snapshot(folder), tokenizer=TOKENIZER).trie
    start_over()
    return step_overhead(trie, seed)


def _snapshot(folder: str) -> Path:
    return Path(folder) / "snapshot"


def _encode(tokenizer: str) -> Any:
    """The tokenizer, which has been used once so that nothing is set up later."""
    encode = load_tokenizer(ModelSettings(base=tokenizer))
    encode(["a title"])
    return encode
