"""How long does `whereupon prepare` take for 20 million events with weather, and how much memory?

    python bench/histories.py [--events N] [--seed S] [--folder F]

Writes generated events (Parquet), items and hourly weather of four stations to a folder, and prepares them in a process
of its own, of which time and peak resident memory are measured. The events are those of 100 users a thousand, with
items by Zipf's law, coordinates, and times of two years. The folder needs about 150 MB for a million events, and is
removed again. Writes bench/results/histories.json; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import record
import yaml

ASKED: Final = 20_000_000
SECONDS, GIB = 360.0, 8.0
CENTRES: Final = ((40.73, -73.98), (52.52, 13.40), (35.68, 139.69), (-33.87, 151.21))
HOURS: Final = 2 * 365 * 24
BEGIN: Final = 1_640_995_200  # 2022-01-01, unix seconds
_CHUNK: Final = 2_000_000
_PREPARE: Final = """
import json, resource, sys, time
from pathlib import Path
from whereupon.config import load_config
from whereupon.histories import prepare
config, start = load_config(Path(sys.argv[1])), time.perf_counter()
report = prepare(config.histories, config.catalogue, config.run, config.seed)
print(json.dumps({"seconds": time.perf_counter() - start, "events": report.manifest["num_events"],
                  "weather_missing": report.manifest["weather_missing"]}))
"""


def main() -> int:
    """Generate, prepare, weigh; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=ASKED, metavar="N")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    args = parser.parse_args()
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        config = generate(Path(folder), args.events, args.seed)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
        found = prepared(config)
    bars = [
        record.bar("events prepared", found["events"], f"{ASKED:,}", found["events"] >= ASKED),
        record.bar("seconds to prepare", found["seconds"], f"<= {SECONDS:.0f}", found["seconds"] <= SECONDS),
        record.bar("peak memory, GiB", found["peak_gib"], f"<= {GIB:.0f}", found["peak_gib"] <= GIB),
    ]
    threads = os.environ.get("POLARS_MAX_THREADS", "")
    return record.record("histories", args.seed, bars, input_bytes=size, threads=threads, **found)


def generate(folder: Path, num: int, seed: int) -> Path:
    """Write the tables of `num` events and a configuration that reads them; its path."""
    rng = np.random.default_rng(seed)
    num_users, num_items = max(10, num // 100), max(20, num // 400)
    _items(rng, num_items).write_parquet(folder / "items.parquet")
    _weather(rng).write_parquet(folder / "weather.parquet")
    (folder / "events").mkdir()
    for start in range(0, num, _CHUNK):
        part = _events(rng, min(_CHUNK, num - start), num_users, num_items)
        part.write_parquet(folder / "events" / f"{start // _CHUNK:04}.parquet")
    histories: dict[str, Any] = {
        "events": {"path": str(folder / "events" / "*.parquet")},
        "items": {"path": str(folder / "items.parquet")},
        "weather": {"path": str(folder / "weather.parquet")},
        "location": "context",
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"run": str(folder / "run"), "histories": histories}), encoding="utf-8")
    return config


def prepared(config: Path) -> dict[str, Any]:
    """Seconds and peak resident memory (GiB) of preparing in a process of its own."""
    command = [sys.executable, "-c", _PREPARE, str(config)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the largest child; there is one
    cpu_seconds = usage.ru_utime + usage.ru_stime  # with the imports; says more where others use the machine too
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found, "cpu_seconds": cpu_seconds, "peak_gib": usage.ru_maxrss / (1 << 20)}


def _events(rng: np.random.Generator, num: int, num_users: int, num_items: int) -> pl.DataFrame:
    user_N, town_N = rng.integers(0, num_users, num), rng.integers(0, len(CENTRES), num_users)
    item_N = np.minimum(rng.pareto(1.1, num) * 20, num_items - 1).astype(np.int64)
    second_N = BEGIN + rng.integers(0, HOURS * 3600, num)
    centre_N2 = np.array(CENTRES)[town_N[user_N]] + rng.normal(0, 0.05, (num, 2)).round(3)
    return pl.DataFrame({
        "user_id": pl.Series(user_N).cast(pl.String), "item_id": "i" + pl.Series(item_N).cast(pl.String),
        "time": pl.Series(second_N * 1_000_000).cast(pl.Datetime("us", "UTC")),
        "latitude": centre_N2[:, 0], "longitude": centre_N2[:, 1],
    })  # fmt: skip


def _items(rng: np.random.Generator, num: int) -> pl.DataFrame:
    number = pl.Series(np.arange(num)).cast(pl.String)
    category = pl.Series(["Bar", "Cafe", "Cinema", "Park", "Museum"]).gather(rng.integers(0, 5, num))
    return pl.DataFrame({"item_id": "i" + number, "title": category + " " + number, "category": category})


def _weather(rng: np.random.Generator) -> pl.DataFrame:
    hour = np.tile(np.arange(HOURS), len(CENTRES))
    place = np.repeat(np.array(CENTRES), HOURS, axis=0)
    celsius = 12 + 10 * np.sin(hour / (365 * 24) * 2 * np.pi) + rng.normal(0, 3, len(hour))
    rain = np.where(rng.random(len(hour)) < 0.1, rng.exponential(2, len(hour)), 0.0)
    return pl.DataFrame({
        "time": pl.Series((BEGIN + hour * 3600) * 1_000_000).cast(pl.Datetime("us", "UTC")),
        "latitude": place[:, 0], "longitude": place[:, 1], "temperature_c": celsius.round(1),
        "precipitation_mm": rain.round(1), "wind_mps": rng.gamma(2, 2, len(hour)).round(1),
    })  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
