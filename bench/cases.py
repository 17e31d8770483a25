"""Broken files: no traceback, no good row lost, every loss counted.

    make bench-cases

`faults` damages good files, seeded. Each must be prepared or refused with a sentence. Of what is prepared, every row
that the damage does not touch must be there with its user, item and time, and the rows in the file must be as many as
events and rejected rows together.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from faults import ITEM, TIME, USER, Broken, broken_files
from record import bar, record

from whereupon.catalogue import CatalogueSettings
from whereupon.errors import WhereuponError
from whereupon.histories import HistoriesSettings, histories_folder, prepare

ASKED_FILES = 60


def main() -> int:
    """Run from the command line; the exit status is 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    found = {name: judged(file) for name, file in broken_files(args.seed)}
    wrong = {name: one for name, one in found.items() if one["faults"]}
    for name, one in wrong.items():
        print(f"{name}: {'; '.join(one['faults'])} ({one['said']})")
    kinds = Counter(fault.split(":")[0] for one in found.values() for fault in one["faults"])
    bars = [
        bar("broken files", len(found), f"at least {ASKED_FILES}", len(found) >= ASKED_FILES),
        *(bar(kind, kinds[kind], "0", not kinds[kind]) for kind in ("traceback", "good rows lost", "rows not counted")),
        bar("read though to be refused, or the reverse", kinds["verdict"], "0", not kinds["verdict"]),
    ]
    counts = Counter(one["outcome"] for one in found.values())
    return record("cases", args.seed, bars, outcomes=dict(counts), wrong=wrong)


def judged(file: Broken) -> dict[str, Any]:
    """What became of a file: `outcome`, what was `said`, and `faults`, each with its kind before a colon."""
    with tempfile.TemporaryDirectory() as folder:
        path, run = Path(folder) / file.name, Path(folder) / "run"
        path.write_bytes(file.data)
        settings = HistoriesSettings.model_validate({"events": {"path": path}})
        try:
            report = prepare(settings, CatalogueSettings(), run, 7)
        except WhereuponError as error:
            wrong = ["verdict: refused"] if file.verdict == "read" else []
            return {"outcome": "refused", "said": str(error).replace(folder, "..."), "faults": wrong}
        except Exception as error:
            return {"outcome": "traceback", "said": "", "faults": [f"traceback: {type(error).__name__}: {error}"[:300]]}
        events = pl.read_parquet(histories_folder(run) / "events.parquet")
        rejects = pl.read_parquet(histories_folder(run) / "rejects.parquet")
    faults = ["verdict: read"] if file.verdict == "refused" else []
    kept = Counter((user, item, f"{time:%Y-%m-%dT%H:%M:%SZ}") for user, item, time in events.select(
        "user_id", "item_id", "time").iter_rows())  # fmt: skip
    lost = [
        number + 1 for number, row in enumerate(file.rows)
        if number not in file.harmed and not kept[row[USER], row[ITEM], row[TIME]]
    ]  # fmt: skip
    if lost:
        faults.append(f"good rows lost: {lost}")
    if file.num_rows is not None and events.height + rejects.height != file.num_rows:
        faults.append(f"rows not counted: {file.num_rows} in, {events.height} kept, {rejects.height} rejected")
    said = "; ".join(f"{reason}: {count}" for reason, count in report.manifest["rejects"].items())
    return {"outcome": "rejects" if rejects.height else "read", "said": said, "faults": faults}


if __name__ == "__main__":
    sys.exit(main())
