"""Planted truths: made-up data in which it is known what a family must find, and bars for whether it does.

    make bench-planted

Writes bench/results/planted.json; exits with 1 if a bar is missed. Minutes on one core. `make bench-source_models` has
the same bars.

Shapes: I = items, E = predicted events, K = ranked items, X and Y = rows and columns of a map.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
from record import bar, record

from whereupon.eval.forecast_map import SURE, make_map
from whereupon.eval.metrics import summarise
from whereupon.eval.protocol import Task, read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories, build_histories
from whereupon.rankers.families import FAMILIES
from whereupon.rankers.light_gcn import GraphRanker, GraphVectors
from whereupon.rankers.settings import BaselineName

K: Final = 10
SEED: Final = 7
_BEGIN: Final = datetime(2024, 1, 1, tzinfo=UTC)
_WITHOUT_NEIGHBOURS: Final[tuple[BaselineName, ...]] = (
    "popularity", "recent popularity", "popularity by hour of week", "own counts", "own counts by hour of week",
    "transitions",
)  # fmt: skip

Row = tuple[int, int, int, str]


def bars() -> list[dict[str, Any]]:
    """All of them."""
    return [*two_communities(), *rain_in_the_north(), *diffusing_wave()]


def planted(rows: Sequence[Row], items: Mapping[str, Sequence[Any]]) -> Histories:
    """Histories of rows of user, item, seconds since the begin, and split; `items` are columns of the items."""
    user_N, item_N, second_N, split_N = zip(*sorted(rows, key=lambda row: (row[0], row[2])), strict=True)
    num_items = len(next(iter(items.values())))
    table = pl.DataFrame({"item_id": [f"i{at:03}" for at in range(num_items)], **items})
    table = table.with_columns(title=pl.col("item_id"))
    time = pl.Series([_BEGIN + timedelta(seconds=second) for second in second_N], dtype=pl.Datetime("us", "UTC"))
    number_N = np.unique(user_N, return_inverse=True)[1]
    events = pl.DataFrame(
        {
            "user_id": [f"u{user:03}" for user in user_N], "item_id": table["item_id"].gather(item_N),
            "user_idx": pl.Series(number_N, dtype=pl.Int32), "item_idx": pl.Series(item_N, dtype=pl.Int32),
            "time": time, "local_time": time.dt.replace_time_zone(None), "split": split_N,
        }
    )  # fmt: skip
    manifest = {
        "location": "outcome", "data_hash": "planted", "catalogue_hash": "planted", "context_columns": [],
        "settings": {"split": {"protocol": "global_time"}},
    }  # fmt: skip
    return build_histories(events, table, manifest)


def two_communities() -> list[dict[str, Any]]:
    """LightGCN separates two communities: 30 people each, who choose 8 of their own 15 items and no others."""
    random, rows = np.random.default_rng(SEED), list[Row]()
    for user in range(60):
        chosen = user % 2 + 2 * random.permutation(15)[:8]
        parts = ["train"] * 6 + ["valid", "test"]
        rows += [
            (user, int(item), at * 100 + user, part) for at, (item, part) in enumerate(zip(chosen, parts, strict=True))
        ]
    task = read_task(planted(rows, {"name": [str(at) for at in range(30)]}), "test", EvaluateSettings())
    family = FAMILIES["LightGCN"]
    found = _share_own(family.ranker(task.histories, "test", family.grid()[0], SEED), task)
    vectors = GraphVectors(*random.normal(size=(2, 30, 64)), np.zeros((0, 64), np.float32))
    by_chance = _share_own(GraphRanker(vectors, [], None, 0.0), task)
    return [
        bar("two communities: share of LightGCN's first ten that are of the user's community", found, "1", found == 1),
        bar("two communities: the same of random vectors", by_chance, "<= 0.7", by_chance <= 0.7),
    ]


def _share_own(ranker: Any, task: Task) -> float:
    community_E1 = task.histories.user_idx_N[task.row_E][:, None] % 2
    return float((rank(ranker, task, K).item_EK % 2 == community_E1).mean())


def rain_in_the_north() -> list[dict[str, Any]]:
    """Geographically weighted regression shows on the map of a square town that rain matters in its north alone."""
    found = make_map(rainy_town(), "precipitation_mm", groups=8)
    z_XY = (found.beta_GXY / found.error_GXY)[found.names.index("cinema")]
    north, south = float(z_XY[-1].min()), float(np.abs(z_XY[0]).max())
    name = "rain in the north: coefficient over standard error"
    return [
        bar(f"{name}, least at the northern edge", north, "> 3", north > 3),
        bar(f"{name}, greatest size at the southern edge", south, f"<= {SURE:g}", south <= SURE),
    ]


def rainy_town(side: int = 9, days: int = 60) -> Histories:
    """A cinema and a park in each quarter of a grid, and a person, who goes to one of them each day at any hour.

    In the northern quarters the odds of the cinema are 4 on rainy days and 1 / 4 on dry ones; in the others 1 on all.
    """
    random, rows = np.random.default_rng(SEED), list[Row]()
    rains_D = random.random(days) < 0.5
    for quarter in range(side * side):
        rainy, dry = (0.8, 0.2) if quarter // side > side // 2 else (0.5, 0.5)
        inside_D = random.random(days) < np.where(rains_D, rainy, dry)
        second_D = np.arange(days) * 86_400 + random.integers(8 * 3600, 23 * 3600, days)
        rows += [
            (quarter, 2 * quarter + int(inside), int(second), "train" if day < days - 2 else "test")
            for day, (inside, second) in enumerate(zip(inside_D, second_D, strict=True))
        ]
    north_I, east_I = np.divmod(np.arange(2 * side * side) // 2, side)
    town = planted(rows, {
        "category": ["park", "cinema"] * (side * side), "latitude": (40 + north_I * 0.01).tolist(),
        "longitude": (-74 + east_I * 0.01).tolist(),
    })  # fmt: skip
    day_N = (town.time_s_N - int(_BEGIN.timestamp())) // 86_400
    rain = pl.Series("precipitation_mm", np.where(rains_D[day_N], 4.0, 0.0))
    return replace(town, events=town.events.with_columns(rain))


def diffusing_wave() -> list[dict[str, Any]]:
    """ST-CNN sees where a wave of demand is going: rings that grow by one cell of a grid of 9 by 9 in an hour."""
    task = read_task(waves(), "test", EvaluateSettings())
    best = {name: _best_ndcg(name, task) for name in (*_WITHOUT_NEIGHBOURS, "ST-CNN")}
    found = best.pop("ST-CNN")
    other = max(best, key=lambda name: best[name])
    text = (
        f"diffusing wave: nDCG@10 of ST-CNN ({found:.3f}) over {other}'s ({best[other]:.3f}), the best of {len(best)}"
    )
    return [bar(text, found / best[other], ">= 1.5", found >= 1.5 * best[other])]


def waves(num_waves: int = 150, side: int = 9) -> Histories:
    """A wave begins at a random cell, one item a cell; after r hours half of the cells at distance r have an event."""
    random, rows = np.random.default_rng(SEED), list[Row]()
    north_I, east_I = np.divmod(np.arange(side * side), side)
    for wave in range(num_waves):
        part = "train" if wave < 0.8 * num_waves else "valid" if wave < 0.85 * num_waves else "test"
        source = random.integers(side * side)
        far_I = np.maximum(np.abs(north_I - north_I[source]), np.abs(east_I - east_I[source]))
        for radius in range(5):
            ring = np.flatnonzero((far_I == radius) & ((random.random(side * side) < 0.5) | (radius == 0)))
            second = (wave * 6 + radius) * 3600 + random.integers(0, 3600, len(ring))
            rows += [
                (int(random.integers(25)), int(item), int(at), part) for item, at in zip(ring, second, strict=True)
            ]
    return planted(rows, {"latitude": (40 + north_I * 0.01).tolist(), "longitude": (-74 + east_I * 0.01).tolist()})


def _best_ndcg(name: BaselineName, task: Task) -> float:
    """Of the family's whole grid on the predicted events themselves; of ST-CNN, of its first settings alone."""
    family = FAMILIES[name]
    grid = family.grid()[:1] if name == "ST-CNN" else family.grid()
    found = [rank(family.ranker(task.histories, "test", one, SEED), task, K).rank_E for one in grid]
    return max(float(summarise(rank_E)["nDCG@10"]) for rank_E in found)


if __name__ == "__main__":
    sys.exit(record("planted", SEED, bars()))
