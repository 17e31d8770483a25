"""Toy histories, built from rows."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import polars as pl
import pytest

from whereupon.histories import Histories, build_histories

Row = tuple[int, int, int, str]  # user, item_idx, seconds since 1970 (local time = UTC), split
Build = Callable[[Sequence[Row], int], Histories]


@pytest.fixture(scope="session", name="build")
def _build() -> Build:
    """Histories of (user, item, time in seconds, split) rows and a number of items; equal times keep their order."""

    def build(rows: Sequence[Row], num_items: int) -> Histories:
        ordered = sorted(rows, key=lambda row: (row[0], row[2]))
        users = sorted({row[0] for row in rows})
        times = [datetime.fromtimestamp(row[2], UTC) for row in ordered]
        events = pl.DataFrame(
            {
                "user_id": [f"user-{row[0]}" for row in ordered],
                "item_id": [f"item-{row[1]}" for row in ordered],
                "user_idx": pl.Series([users.index(row[0]) for row in ordered], dtype=pl.Int32),
                "item_idx": pl.Series([row[1] for row in ordered], dtype=pl.Int32),
                "time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
                "local_time": pl.Series([time.replace(tzinfo=None) for time in times], dtype=pl.Datetime("us")),
                "split": pl.Series([row[3] for row in ordered], dtype=pl.String),
            }
        )
        manifest = {"location": "outcome", "data_hash": f"{rows} {num_items}", "catalogue_hash": str(num_items)}
        ids = [f"item-{i}" for i in range(num_items)]
        return build_histories(events, pl.DataFrame({"item_id": ids, "title": ids}), manifest)

    return build


A, B, C, D, E = range(5)
ANN, BOB, CYD, DAN = range(4)


@pytest.fixture
def town(build: Build) -> Histories:
    """Four people and five places A to E; nobody ever goes to E, and Dan has no past when the test begins.

    Train:  Ann A1 B2 A3   Bob B4 C5   Cyd A6 B7 C8      so A 3, B 3, C 2, D 0, E 0 visits
    Test:   Ann B20        Bob C21     Cyd D22           Dan C23 A24
    """
    train = [(ANN, A, 1), (ANN, B, 2), (ANN, A, 3), (BOB, B, 4), (BOB, C, 5), (CYD, A, 6), (CYD, B, 7), (CYD, C, 8)]
    test = [(ANN, B, 20), (BOB, C, 21), (CYD, D, 22), (DAN, C, 23), (DAN, A, 24)]
    return build([*((*row, "train") for row in train), *((*row, "test") for row in test)], 5)
