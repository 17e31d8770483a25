"""`<run>/cleaning.html`: what `prepare` read, rejected, changed and noted, on a page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from ..files import atomic_path
from ..histories import SPLITS, PrepareReport, histories_folder
from ..histories.rejects import WHAT_CHANGED
from .pages import page_environment
from .rankings import typed_command
from .wording import count, plain, share

EXAMPLES: Final = 3  # of each reason
_LONGEST: Final = 120  # characters of an example
_OWN: Final = {"user_idx", "item_idx", "split"}
_TYPES: Final = {pl.String: "text", pl.Boolean: "yes or no", pl.Datetime: "time", pl.Date: "day"}


def write_cleaning_page(report: PrepareReport) -> Path:
    """Write the page of a prepared run; its path."""
    out = report.run / "cleaning.html"
    text = page_environment().get_template("cleaning.html.j2").render(**content(report))
    with atomic_path(out) as path:
        path.write_text(text, encoding="utf-8")
    return out


def content(report: PrepareReport) -> dict[str, Any]:
    """All that the template shows, by its names."""
    folder, manifest = histories_folder(report.run), report.manifest
    rows, events = manifest["num_rows"], manifest["num_events"]
    steps = manifest["cleaning"]
    rejected = [step for step in steps if step["kind"] == "rejected"]
    changed = [step for step in steps if step["kind"] == "changed"]
    num_changed = sum(step["rows"] for step in changed)
    return {
        "title": report.run.name,
        "kicker": "Cleaning report",
        "command": typed_command(),
        "sentence": _sentence(rows, events, sum(step["rows"] for step in rejected), num_changed),
        "facts": {
            "Rows read": count(rows), "Events": count(events), "Users": count(manifest["num_users"]),
            "Items": f"{count(manifest['num_items'])}, {count(manifest['num_items_seen'])} of them chosen",
            "From": str(manifest["first_time"])[:10], "To": str(manifest["last_time"])[:10],
        },
        "said": [*manifest["read_as"], *manifest["remarks"]],
        "rejected": _with_examples(rejected, _rejected_rows(folder)),
        "changed": _with_examples(changed, _changed_cells(folder)),
        "notes": manifest["notes"],
        "privacy": report.privacy(),
        "columns": list(_columns(folder / "events.parquet")),
        "splits": {name: manifest["splits"][name] for name in SPLITS if manifest["splits"][name]["num_events"]},
        "inputs": manifest["inputs"],
        "hashes": {name: manifest[f"{name}_hash"] for name in ("data", "catalogue")},
        "versions": manifest["versions"],
        "settings": json.dumps(manifest["settings"], indent=2, ensure_ascii=False),
    }  # fmt: skip


def _sentence(rows: int, events: int, rejected: int, changed: int) -> str:
    kept = f"{share(events / rows)} of {count(rows)} rows became events" if rows else "No row was read"
    parts = [f"{count(rejected)} rows of all tables were rejected" if rejected else "no row was rejected"]
    parts.append(f"{count(changed)} cells were changed" if changed else "no cell was changed")
    return f"{kept}; {', and '.join(parts)}."


def _rejected_rows(folder: Path) -> pl.LazyFrame:
    """`source`, `what` and `example` of rejected rows."""
    example = pl.format("row {}: {}", "row", pl.col("detail").fill_null(""))
    rows = pl.scan_parquet(folder / "rejects.parquet")
    return rows.select("source", pl.col("reason").alias("what"), example.alias("example"))


def _changed_cells(folder: Path) -> pl.LazyFrame:
    """`source`, `what` and `example` of changed cells."""
    before, after = (pl.col(name).fill_null("empty") for name in ("before", "after"))
    example = pl.format("row {}: {} → {}", "row", before, after).alias("example")
    return pl.scan_parquet(folder / "changes.parquet").select("source", WHAT_CHANGED.alias("what"), example)


def _with_examples(steps: list[dict[str, Any]], rows: pl.LazyFrame) -> list[dict[str, Any]]:
    """The steps with `examples` of each, and `share`, the size beside the largest step."""
    if not steps:
        return []
    first = rows.group_by("source", "what").agg(pl.col("example").head(EXAMPLES)).collect()
    examples = {(source, what): some for source, what, some in first.iter_rows()}
    most = max(step["rows"] for step in steps)
    return [
        {**step, "share": step["rows"] / most, "examples": _shortened(examples[step["source"], step["what"]])}
        for step in sorted(steps, key=lambda step: -int(step["rows"]))
    ]


def _shortened(examples: list[str]) -> list[str]:
    return [text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for text in examples]


def _columns(events: Path) -> Iterator[Mapping[str, str]]:
    """Name, type, share of empty cells and range of each column of the prepared events."""
    table = pl.scan_parquet(events)
    schema = {name: dtype for name, dtype in table.collect_schema().items() if name not in _OWN}
    queries = [pl.len().alias("rows")]
    for name, dtype in schema.items():
        queries.append(pl.col(name).null_count().alias(f"{name}/empty"))
        if dtype.is_numeric() or dtype.is_temporal():
            queries += [pl.col(name).min().alias(f"{name}/least"), pl.col(name).max().alias(f"{name}/largest")]
    found = table.select(queries).collect(engine="streaming").row(0, named=True)
    for name, dtype in schema.items():
        yield {
            "name": name,
            "type": _TYPES.get(dtype.base_type(), "number" if dtype.is_numeric() else str(dtype)),
            "empty": share(found[f"{name}/empty"] / found["rows"]),
            "least": _cell(found.get(f"{name}/least")),
            "largest": _cell(found.get(f"{name}/largest")),
        }


def _cell(value: Any) -> str:
    if value is None:
        return plain(None)
    if isinstance(value, float):
        return plain(value, 2)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return count(value) if isinstance(value, int) else str(value)
