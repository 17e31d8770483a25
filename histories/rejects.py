"""What cleaning did: rows taken out one reason at a time, each with its file and row; counts and remarks."""

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from .reading import ROW

_SCHEMA = {"source": pl.String, "row": pl.Int64, "reason": pl.String, "detail": pl.String}


class Notes(Counter[str]):
    """Counts of what was repaired or looked odd, by a phrase; and `remarks`, sentences on how the input was read."""

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[str] = []


@dataclass
class Rejects:
    """Collects rejected rows; a row is rejected for the first reason that applies."""

    frames: list[pl.DataFrame] = field(default_factory=list)

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
