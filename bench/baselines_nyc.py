"""Do the baselines reproduce the reference table of nyc-checkins? Some ten seconds on two cores.

Each with the settings that it starts from, as the reference has them; `whereupon evaluate` tunes them on validation.

    WHEREUPON_NYC_CHECKINS=<folder of the three files> python bench/baselines_nyc.py

Writes bench/results/baselines_nyc.json with one bar for each cell of the table; exits with 1 if one is missed.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from record import bar, record
from rich.console import Console

from whereupon.catalogue.settings import CatalogueSettings
from whereupon.eval import FAMILIES, EvaluateSettings, RankerResult, Task, as_json, as_table, read_task, summarise
from whereupon.eval.ranked import rank
from whereupon.histories import HistoriesSettings, SplitSettings, prepare, read_histories

VARIABLE: Final = "WHEREUPON_NYC_CHECKINS"
TOLERANCE: Final = 0.005
NUM_EVENTS: Final = 4113
COLUMNS: Final = ("recall@1", "recall@5", "recall@10", "nDCG@10")
REFERENCE: Final = {  # the data's README: first 80 % of events before the test split, full catalogue
    "popularity": (0.004, 0.023, 0.039, 0.019),
    "own counts": (0.197, 0.555, 0.694, 0.430),
    "own counts + transitions": (0.254, 0.612, 0.720, 0.480),
    "context-weighted own events": (0.334, 0.653, 0.751, 0.536),
}


def main() -> int:
    """Prepare, rank, compare; the exit status."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        print(
            f"{VARIABLE} should name the folder of checkins.csv, venues.csv and the weather; set it.", file=sys.stderr
        )
        return 1
    with tempfile.TemporaryDirectory() as run:
        settings = HistoriesSettings(
            recipe="nyc-checkins", path=Path(folder), split=SplitSettings(train=0.7, valid=0.1)
        )
        prepare(settings, CatalogueSettings(), Path(run))
        task = read_task(read_histories(Path(run)), "test", EvaluateSettings())
    results = [_rank(name, task) for name in REFERENCE]
    Console().print(as_table(results, title="nyc-checkins, test split"))
    bars = [_bar("test events", len(task.row_E), NUM_EVENTS, 0.0)]
    for result in results:
        cells = zip(COLUMNS, REFERENCE[result.name], strict=True)
        bars += [_bar(f"{result.name}, {c}", result.metrics[c], reference, TOLERANCE) for c, reference in cells]
    return record("baselines_nyc", None, bars, table=as_json(results))  # nothing here is random


def _rank(name: str, task: Task) -> RankerResult:
    family = FAMILIES[name]
    start = time.perf_counter()
    found = rank(family.ranker(task.histories, task.split, family.grid()[0], 0), task, 10)
    return RankerResult(name, summarise(found.rank_E, found.log_prob_E), len(found.rank_E), time.perf_counter() - start)


def _bar(name: str, value: float, reference: float, tolerance: float) -> dict[str, object]:
    return bar(name, value, f"{reference} ± {tolerance}", abs(value - reference) <= tolerance)


if __name__ == "__main__":
    sys.exit(main())
