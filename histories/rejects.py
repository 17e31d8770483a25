"""What cleaning did: rows taken out and cells changed, each with its file, row and reason; counts and remarks."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from .reading import ROW

_LONGEST: Final = 60  # characters of an example
_SCHEMA = {"source": pl.String, "row": pl.Int64, "reason": pl.String, "detail": pl.String}
_CHANGED = {
    "source": pl.String, "row": pl.Int64, "column": pl.String, "reason": pl.String, "before": pl.String,
    "after": pl.String,
}  # fmt: skip

# The column is part of the reason of an outlier, and is not of that of a filled value.
WHAT_CHANGED: Final = (
    pl.when(pl.col("reason").str.starts_with(pl.col("column")))
    .then("reason")
    .otherwise(pl.format("{}: {}", "column", "reason"))
)


class Notes(Counter[str]):
    """Counts of what was repaired or looked odd, by a phrase; and `remarks`, sentences on how the input was read."""

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[str] = []


@dataclass
class Rejects:
    """Collects rejected rows, each for the first reason that applies, and changed cells."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    changes: list[pl.DataFrame] = field(default_factory=list)

    def take(self, table: pl.DataFrame, bad: pl.Expr, *, source: str, reason: str, detail: pl.Expr) -> pl.DataFrame:
        """Return `table` without the rows where `bad` holds (null counts as not bad); remember those."""
        is_bad = table.select(bad.fill_null(False).alias("_bad")).to_series()
        if not is_bad.any():  # a filter that keeps all would copy the table
            return table
        self.frames.append(
            table.filter(is_bad).select(
                pl.lit(source).alias("source"),
                pl.col(ROW).alias("row"),
                pl.lit(reason).alias("reason"),
                detail.cast(pl.String).fill_null("(empty)").alias("detail"),
            )
        )
        return table.filter(~is_bad)

    def add(self, broken: pl.DataFrame, *, source: str, reason: str) -> None:
        """Remember rows that never made it into a table: their `_row` and `detail`."""
        if broken.height:
            self.frames.append(
                broken.select(
                    pl.lit(source).alias("source"), pl.col(ROW).alias("row"), pl.lit(reason).alias("reason"), "detail"
                )
            )

    def change(self, table: pl.DataFrame, name: str, after: pl.Series, *, source: str, reason: str) -> pl.DataFrame:
        """Return `table` with another column of that name; remember the cells that differ."""
        changed = table.select(
            pl.lit(source).alias("source"), pl.col(ROW).alias("row"), pl.lit(name).alias("column"),
            pl.lit(reason).alias("reason"), pl.col(name).cast(pl.String).alias("before"),
            after.cast(pl.String).alias("after"),
        ).filter(pl.col("before").ne_missing(pl.col("after")))  # fmt: skip
        if changed.height:
            self.changes.append(changed)
        return table.with_columns(after.alias(name))

    def hide_details(self, source: str) -> None:
        """Forget what the rejected rows of a table held; their row and reason stay."""
        hidden = pl.when(pl.col("source") != source).then("detail").otherwise(pl.lit("(hidden)"))
        self.frames = [frame.with_columns(hidden.alias("detail")) for frame in self.frames]

    def num_of(self, source: str) -> int:
        """How many rows of a table are rejected so far."""
        return sum(frame.filter(pl.col("source") == source).height for frame in self.frames)

    def table(self) -> pl.DataFrame:
        """All rejected rows: `source`, `row`, `reason`, `detail`, in order of source and row."""
        if not self.frames:
            return pl.DataFrame(schema=_SCHEMA)
        return pl.concat(self.frames).sort("source", "row", maintain_order=True)

    def counts(self) -> dict[str, int]:
        """Rejected rows by "source: reason", most frequent first."""
        counted = self.table().group_by("source", "reason").len()
        counted = counted.sort("len", "source", "reason", descending=[True, False, False])
        return {f"{source}: {reason}": count for source, reason, count in counted.iter_rows()}

    def changed(self) -> pl.DataFrame:
        """All changed cells: `source`, `row`, `column`, `reason`, `before`, `after` (null for an empty cell)."""
        return pl.concat(self.changes) if self.changes else pl.DataFrame(schema=_CHANGED)

    def steps(self) -> list[dict[str, str | int]]:
        """What each step did, in the order of the steps: `kind`, `source`, `what`, `rows` and an `example` of them."""
        steps = [_step("rejected", frame, pl.col("reason"), pl.col("detail")) for frame in self.frames]
        shown = [pl.col(name).fill_null("empty") for name in ("before", "after")]
        steps += [_step("changed", frame, WHAT_CHANGED, pl.format("{} to {}", *shown)) for frame in self.changes]
        merged: dict[tuple[str, ...], dict[str, str | int]] = {}
        for step in steps:
            key = (str(step["kind"]), str(step["source"]), str(step["what"]))
            if key in merged:
                merged[key]["rows"] = int(merged[key]["rows"]) + int(step["rows"])
            else:
                merged[key] = step
        return list(merged.values())


def _step(kind: str, rows: pl.DataFrame, what: pl.Expr, example: pl.Expr) -> dict[str, str | int]:
    """A step out of the rows that it touched, which have one source and one reason."""
    first = (
        rows.head(1)
        .select("source", "row", what.alias("what"), example.fill_null("").alias("example"))
        .row(0, named=True)
    )
    shown = first["example"] if len(first["example"]) <= _LONGEST else f"{first['example'][: _LONGEST - 1]}…"
    return {
        "kind": kind, "source": first["source"], "what": first["what"], "rows": rows.height,
        "example": f"row {first['row']}: {shown}",
    }  # fmt: skip
