"""What cleaning did: rows taken out and cells changed, each with its file, row and reason; counts and remarks."""

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from .reading import ROW

_SCHEMA = {"source": pl.String, "row": pl.Int64, "reason": pl.String, "detail": pl.String}
_CHANGED = {
    "source": pl.String, "row": pl.Int64, "column": pl.String, "reason": pl.String, "before": pl.String,
    "after": pl.String,
}  # fmt: skip


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
        marked = table.with_columns(bad.fill_null(False).alias("_bad"))
        rejected = marked.filter("_bad")
        if rejected.height:
            self.frames.append(
                rejected.select(
                    pl.lit(source).alias("source"),
                    pl.col(ROW).alias("row"),
                    pl.lit(reason).alias("reason"),
                    detail.cast(pl.String).fill_null("(empty)").alias("detail"),
                )
            )
        return marked.filter(~pl.col("_bad")).drop("_bad")

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
